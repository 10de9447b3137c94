"""Forgetting a user: join state, rows and checkpoints; the others, the counts and the window of ids stay."""

from pathlib import Path

import numpy as np
import pytest

from libs.rl.replay import Status, key_of
from libs.rl.transitions import Erased, Opened, Organic
from services.learner import checkpoint_files, log_watch, row_files
from services.learner.ledger import read_ledger
from tests.builders import erasure, impression, interaction
from tests.unit.learner.stand import Stand, eventually
from tests.unit.learner.test_attribution import FINAL_MS, MINUTE_MS, Stream, click, shown

OTHER = "user-2"


def with_a_past() -> Stream:
    """Return a stream in which user-1 has one of everything that can wait, and user-2 too."""
    stream = Stream()
    stream.at(0, shown("old"))
    stream.at(1, impression(OTHER, event_id="old2", timestamp_ms=None))
    late = FINAL_MS + MINUTE_MS
    stream.at(late, shown("open"))
    stream.at(late + 1, click(1, "joined", impression_id="open"))
    stream.at(late + 2, click(2, "mine", impression_id="unknown"))
    stream.at(late + 3, click(99, "alone"))
    stream.at(late + 4, impression(OTHER, event_id="open2", timestamp_ms=None))
    stream.at(late + 5, interaction(OTHER, 1, event_id="held2", impression_id="unknown2", timestamp_ms=None))
    return stream


AFTER_MS = FINAL_MS + 2 * MINUTE_MS


def test_rows_name_their_user_so_that_they_can_be_erased() -> None:
    owners = {each.user_id for each in with_a_past().changes if isinstance(each, (Opened, Organic))}
    assert owners == {"user-1", OTHER}


def test_nothing_of_the_user_is_left_in_the_join() -> None:
    stream = with_a_past()

    assert stream.at(AFTER_MS, erasure("user-1")) == [Erased("user-1")]

    arrays, meta = stream.attribution.state()
    left = repr({name: value for name, value in meta.items() if name != "tally"})
    assert "user-1" not in left
    assert not any(f"'{name}'" in left for name in ("old", "open", "joined", "mine", "alone", "unknown"))
    assert all(f"'{name}'" in left for name in ("old2", "open2", "held2", OTHER))
    assert arrays["visits"].tolist() == [1]  # the other one's
    assert (stream.attribution.held, stream.attribution.open_impressions) == (1, 1)


def test_every_interaction_still_ends_in_one_outcome() -> None:
    stream = with_a_past()
    stream.at(AFTER_MS, erasure("user-1"))

    assert stream.outcomes() == {"joined": 1, "organic": 1, "erased": 1}
    assert sum(stream.outcomes().values()) + stream.attribution.held == stream.attribution.tally["interactions"]


def test_deadlines_and_late_events_of_the_forgotten_do_no_harm() -> None:
    stream = with_a_past()
    stream.at(AFTER_MS, erasure("user-1"))

    assert stream.at(AFTER_MS + 1, click(1, "late", impression_id="open")) == []
    assert stream.at(AFTER_MS + 2, click(1, "joined", impression_id="open")) == []
    assert {"late_lost": 1, "duplicate": 1}.items() <= stream.outcomes().items()
    changes = stream.silence(AFTER_MS + 2 * FINAL_MS)
    assert {getattr(change, "row_id", "") for change in changes} == {"open2", "organic:held2"}


def test_the_user_may_come_back() -> None:
    stream = with_a_past()
    stream.at(AFTER_MS, erasure("user-1"))

    (opened,) = stream.at(AFTER_MS + 1, shown("new"))
    stream.at(AFTER_MS + 2, click(1, "new click", impression_id="new"))

    assert isinstance(opened, Opened)
    assert stream.outcomes()["joined"] == 2


def test_the_same_erasure_twice_is_one_and_spares_what_came_between() -> None:
    stream = with_a_past()
    request = erasure("user-1")
    stream.at(AFTER_MS, request)
    stream.at(AFTER_MS + 1, shown("new"))

    assert stream.at(AFTER_MS + 2, request) == []
    assert stream.attribution.open_impressions == 2


def test_a_restart_forgets_nobody_else_and_remembers_nobody_again() -> None:
    before = with_a_past()
    before.at(AFTER_MS, erasure("user-1"))
    restored = Stream()
    restored.attribution.restore(*before.attribution.state())

    for after_ms, event in enumerate((shown("new"), click(1, "c", impression_id="open")), start=AFTER_MS + 1):
        assert restored.at(after_ms, event) == before.at(after_ms, event)
    assert restored.silence(AFTER_MS + 2 * FINAL_MS) == before.silence(AFTER_MS + 2 * FINAL_MS)
    assert restored.attribution.tally == before.attribution.tally


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setattr(log_watch, "_ASK_EVERY_S", 0.02)
    return Stand(tmp_path / "checkpoints")


def rows_on_disk(stand: Stand) -> dict[str, np.ndarray]:
    """Return all that the newest checkpoint's files hold, whether something lies over it or not."""
    manifest = checkpoint_files.newest_valid(stand.folder)
    assert manifest is not None
    pieces = list(row_files.read(stand.folder, manifest.rows))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


async def test_the_rows_leave_buffer_and_checkpoint_and_stay_away(stand: Stand) -> None:
    async with stand.learner().running():
        for user in ("user-1", OTHER):
            shown_event = impression(user, event_id=f"i-{user}", timestamp_ms=None)
            stand.append(shown_event, interaction(user, 1, event_id=f"c-{user}", impression_id=f"i-{user}"))
        await stand.read(4)
    assert key_of("user-1") in rows_on_disk(stand)["user"]
    stand.append(erasure("user-1", event_id="e-1"))

    for _ in range(2):  # and again, as the same checkpoint gives it back
        async with stand.learner().running():
            await eventually(lambda: "e-1" in read_ledger(stand.folder), "a checkpoint with the erasure")
        rows = rows_on_disk(stand)
        assert key_of(OTHER) in rows["user"]
        assert key_of("user-1") not in rows["user"]
        assert key_of("i-user-1") not in rows["key"]
        blank = rows["status"] == Status.RETRACTED
        assert blank.sum() == 1
        assert not any(
            column[blank].any() for name, column in rows.items() if name not in ("status", "at", "continuation")
        )


async def test_learning_the_log_again_forgets_again(stand: Stand, tmp_path: Path) -> None:
    shown_event = impression("user-1", event_id="i", timestamp_ms=None)
    stand.append(shown_event, erasure("user-1"), impression(OTHER, event_id="i2", timestamp_ms=None))
    again = Stand(tmp_path / "another", stand.log)

    async with again.learner().running():
        await eventually(lambda: "i2" in read_ledger(again.folder), "all learned")

    assert set(rows_on_disk(again)["user"].tolist()) == {0, key_of(OTHER)}
