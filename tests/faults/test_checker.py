"""The checker sees what is wrong with a history, and nothing else."""

from pathlib import Path

import pytest

from tests.faults.checker import EVERY, judge
from tests.faults.history import (
    LEDGER,
    LOG,
    Acknowledged,
    Answered,
    Failed,
    History,
    Injected,
    Published,
    Record,
    Recorder,
    Recovered,
    write_ids,
)
from tests.faults.report import page, read_json, summarise, write_json
from tests.faults.row import all_rows
from tests.faults.runner import folder_of, stored


def published(version: int, offset: int = 0, epoch: int = 1, blob: str = "a") -> Published:
    return Published(version, epoch, version, {"moard.events:0": offset}, "a", "a", blob)


def ranked(version: int, client: str = "watcher", status: int = 200) -> Answered:
    return Answered(client, "rank", status, 0.01, version)


SOUND: tuple[Record, ...] = (
    published(1, 1),
    ranked(0),
    ranked(1),
    Acknowledged(("a", "b")),
    Injected("kill -9 learner"),
    Acknowledged(("b",)),  # sent twice
    Recovered("learner", 2.5),
    published(2, 5, epoch=2),
    ranked(2),
    Answered("backend-1", "events", 503, 0.1, named=("c",)),
)


def history(*more: Record, ledger: str = "abc", log: str = "aabc") -> History:
    return History([(0.0, record) for record in (*SOUND, *more)], list(ledger), list(log))


def test_a_sound_history_has_no_problem() -> None:
    verdict = judge("F1", 7, history(), EVERY)

    assert verdict.problems == ()
    assert (verdict.faults, verdict.acknowledged, verdict.inserted, verdict.lost, verdict.doubled) == (1, 2, 3, 0, 0)
    assert verdict.recovery_s == 2.5


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (history(ledger="ac"), "1 acknowledged events are not in the ledger: ['b']"),
        (history(ledger="ac", log="ac"), "1 acknowledged events are not in the log: ['b']"),
        (history(ledger="abcc"), "1 events are in the ledger more than once: ['c']"),
        (history(ledger="abcd"), "1 events of the ledger are not in the log: ['d']"),
        (history(published(2, 5, epoch=3)), "version 2 was published after 2"),
        (history(published(3, 4, epoch=2)), "version 3 holds moard.events:0 up to 4, 2 held 5"),
        (history(published(3, 5, epoch=1)), "version 3 is of epoch 1, the one before of 2"),
        (history(published(3, 5, epoch=2, blob="b")), "version 3: the pointer says a, its metadata a, the blob is b"),
        (history(ranked(1)), "watcher was ranked for with 1 after 2"),
        (history(ranked(0)), "watcher was ranked for with 0 after 2"),
        (history(ranked(3, status=500)), "1 times rank was answered with 500"),
        (history(ranked(3, status=0)), "1 times rank was answered with nothing"),
        (history(Failed("stuck")), "did not end: stuck"),
    ],
)
def test_what_is_wrong_is_told(wrong: History, told: str) -> None:
    assert told in judge("F1", 0, wrong, EVERY).problems


def test_another_client_may_still_be_shown_the_older_version() -> None:
    assert judge("F1", 0, history(ranked(1, client="backend-1")), EVERY).problems == ()


def test_a_history_of_nothing_shows_nothing() -> None:
    problems = judge("F1", 0, History(), EVERY).problems

    assert problems == ("no fault was injected", "no event was acknowledged", "no snapshot was published")


def test_a_stored_history_gives_the_same_verdict(tmp_path: Path) -> None:
    fresh = history(published(3, 4, epoch=2))
    recorder = Recorder(tmp_path)
    for _, record in fresh.records:
        recorder.add(record)
    recorder.close()
    write_ids(tmp_path / LEDGER, fresh.ledger)
    write_ids(tmp_path / LOG, fresh.log)

    stored = History.load(tmp_path)

    assert [record for _, record in stored.records] == [record for _, record in fresh.records]
    verdict = judge("F1", 0, stored, EVERY)
    assert verdict == judge("F1", 0, fresh, EVERY)
    write_json(tmp_path / "report.json", summarise([verdict, verdict]))
    (row,) = read_json(tmp_path / "report.json")
    assert (row.seeds, row.failed, row.acknowledged, row.recovery_s) == (2, 2, 4, 2.5)


def test_the_page_shows_each_row_and_what_failed() -> None:
    sound, unsound = judge("F1", 0, history(), EVERY), judge("F2", 4, history(ledger="ac"), EVERY)
    told = page(summarise([sound, unsound]), all_rows())

    assert "| F1 | kill -9 learner at random |" in told
    assert "| 1 | 0 | 1 | 2 | 3 | 0 | 0 | 2.5 s |" in told
    assert "- F2: seed 4: 1 acknowledged events are not in the ledger: ['b']" in told


def test_stored_trials_are_found_by_row_and_seed(tmp_path: Path) -> None:
    rows = all_rows()
    for row_id, seed in (("F11", 0), ("F1", 10), ("F1", 2)):
        folder_of(tmp_path, rows[row_id], seed).mkdir()

    assert stored(tmp_path, [rows["F1"]]) == [(rows["F1"], 2), (rows["F1"], 10)]
    assert stored(tmp_path, [rows["F11"], rows["F2"]]) == [(rows["F11"], 0)]
