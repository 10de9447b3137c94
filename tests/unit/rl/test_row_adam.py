import torch

from libs.rl.row_adam import RowAdam


def test_touched_rows_move_as_under_dense_adamw() -> None:
    torch.manual_seed(0)
    start = torch.randn(6, 4)
    table, ours = start.clone(), RowAdam(4, lr=0.05, weight_decay=0.1)
    ours.grow(6)
    twins = [start[row].clone().requires_grad_() for row in range(6)]
    dense = [torch.optim.AdamW([twin], lr=0.05, weight_decay=0.1) for twin in twins]
    for rows in ([0, 3], [3], [3, 5, 0], [1], [3, 0]):
        gradient = torch.randn(len(rows), 4)
        ours.step(table, torch.tensor(rows), gradient)
        for at, row in enumerate(rows):
            twins[row].grad = gradient[at]
            dense[row].step()
    torch.testing.assert_close(table, torch.stack([twin.detach() for twin in twins]), rtol=1e-6, atol=1e-6)
    assert torch.equal(table[[2, 4]], start[[2, 4]])


def test_growing_keeps_what_rows_have_learned() -> None:
    table, adam = torch.zeros(2, 3), RowAdam(3, lr=0.1, weight_decay=0.0)
    adam.grow(2)
    adam.step(table, torch.tensor([1]), torch.ones(1, 3))
    before = adam.moments[1].clone()
    adam.grow(5)
    assert torch.equal(adam.moments[1], before)
    assert adam.steps.tolist() == [0, 1, 0, 0, 0]
