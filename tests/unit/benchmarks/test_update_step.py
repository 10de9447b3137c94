from collections.abc import Iterator

import pytest
import torch

from benchmarks import update_step
from benchmarks.update_step import Naive, agree, filled_agent


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(update_step, "ROWS", 120)
    monkeypatch.setattr(update_step, "VECTOR_SIZE", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_an_update_is_the_same_as_the_one_written_plainly() -> None:
    agent = filled_agent(200, seed=1)
    agree(agent, Naive(agent))


def test_the_check_notices_a_form_that_differs() -> None:
    agent = filled_agent(200, seed=1)
    naive = Naive(agent)
    naive.target["value_out.bias"] += 0.5
    with pytest.raises(AssertionError, match=r"total|u:"):
        agree(agent, naive)
