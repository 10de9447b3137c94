"""The whole learner on the in-memory twins: what survives a crash, a stop, and an emptied store."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from libs.adapters.ports import TopicPartition
from libs.errors import Fenced, RefusedStart
from libs.events.schema import Event
from libs.events.topics import EVENTS
from libs.rl import agent_state
from services.learner import assembly, checkpoint_files, evaluation, log_watch, publisher
from services.learner.assembly import Learner
from services.learner.epochs import fence
from services.learner.ledger import read_ledger
from services.learner.log_watch import Stalled
from tests.builders import content, impression, interaction
from tests.unit.learner.stand import Stand, eventually


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_POINTER_POLL_S", 0.02)
    monkeypatch.setattr(log_watch, "_ASK_EVERY_S", 0.02)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "checkpoints")


@contextlib.asynccontextmanager
async def crashing(learner: Learner) -> AsyncIterator[None]:
    """Run a learner and take it away in the middle: nothing is saved or published at the end."""
    await learner.start()
    task = asyncio.ensure_future(learner.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def session(number: int) -> list[Event]:
    """Return an impression and a click on it, of one of ten users."""
    user_id, impression_id = f"user-{number % 10}", f"i{number}"
    shown = impression(user_id, event_id=impression_id, timestamp_ms=None)
    click = interaction(user_id, 1 + number % 3, event_id=f"c{number}", impression_id=impression_id, timestamp_ms=None)
    return [shown, click]


async def test_events_become_a_snapshot_that_names_what_it_has_learned(stand: Stand) -> None:
    async with stand.learner().running():
        stand.append(content(1, embedding=(1.0, 0.0, 0.0, 0.0)), *session(1))
        await eventually(lambda: stand.store._current, "a snapshot")
        meta = await stand.store.current()

    assert meta is not None
    assert meta.trained[0][0] == "c1"
    assert sum(meta.offsets.values()) == 3
    assert stand.metric("interactions_total", outcome="joined") == 1
    assert stand.metric("rows_inserted_total") == 1
    assert stand.total("consumer_lag_records") == 0


async def test_a_crash_loses_and_doubles_nothing(stand: Stand) -> None:
    versions: list[int] = []
    sent: list[str] = []
    for round_number in range(4):
        async with crashing(stand.learner()):
            for number in range(50 * round_number, 50 * round_number + 50):
                events = session(number)
                sent += [event.event_id for event in events]
                stand.append(*events)
                await asyncio.sleep(0.002)
            await stand.read(len(sent) - 40)  # in the middle
        meta = await stand.store.current()
        versions.append(meta.version if meta else 0)
    async with stand.learner().running():
        await stand.read(len(sent))

    ledger = Counter(read_ledger(stand.folder))
    assert [event_id for event_id in sent if ledger[event_id] != 1] == []
    assert len(ledger) == len(sent)
    assert versions == sorted(versions)
    assert len(set(versions)) > 1
    assert stand.metric("replay_rows") == 200


async def test_ages_rise_while_the_loop_stands_still(stand: Stand) -> None:
    learner = stand.learner()
    await learner.start()  # and it is not let run
    for age in ("turn_age_seconds", "checkpoint_age_seconds"):
        before = stand.metric(age)
        await eventually(lambda age=age, before=before: stand.metric(age) > before + 0.05, age)  # type: ignore[misc]
    running = asyncio.ensure_future(learner.run())
    await eventually(lambda: stand.metric("turn_age_seconds") < 0.05, "a turn")
    learner.stop()
    await running


async def test_a_learner_shows_the_version_that_the_one_before_it_published(stand: Stand) -> None:
    async with stand.learner().running():
        stand.append(*session(1))
        await eventually(lambda: stand.store._current, "a snapshot")
    current = await stand.store.current()
    assert current is not None
    async with stand.learner().running():
        assert stand.metric("snapshot_version") == current.version


async def test_the_start_after_a_stop_reads_nothing_again(stand: Stand) -> None:
    async with stand.learner().running():
        stand.append(*session(1), *session(2), b"not json")
        await eventually(lambda: stand.metric("interactions_total", outcome="joined") == 2, "the clicks")
    committed = stand.log.group("moard-learner").committed

    async with stand.learner().running():
        await stand.read(5)
        stand.append(*session(3))
        await eventually(lambda: stand.metric("interactions_total", outcome="joined") == 1, "the next click")

    assert stand.total("records_consumed_total") == 2
    assert sum(offset for tp, offset in committed.items() if tp.topic == EVENTS) == 7
    assert len(stand.log.records("moard.events.dlq")) == 1
    assert read_ledger(stand.folder) == ["i1", "c1", "i2", "c2", "i3", "c3"]


async def test_the_join_goes_on_across_a_restart(stand: Stand) -> None:
    shown, click = session(1)
    async with stand.learner().running():
        stand.append(shown)
        await eventually(lambda: stand.metric("open_impressions") == 1, "the impression")
    async with stand.learner().running():
        stand.append(click, click)
        await eventually(lambda: stand.metric("interactions_total", outcome="duplicate") == 1, "both clicks")

    assert stand.metric("interactions_total", outcome="joined") == 1
    assert stand.metric("impressions_total") == 0


async def test_what_is_read_is_evaluated_and_a_restart_begins_anew(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_REFRESH_S", 0.0)
    async with stand.learner().running():
        stand.append(*session(1), *session(11), *session(21))  # all of one user
        await eventually(lambda: stand.metric("evaluation_rows", span="total") == 2, "two rows to close")
    async with stand.learner().running():
        stand.append(*session(31), *session(41))  # the first closes what the process before had open: not known here
        await eventually(lambda: stand.metric("evaluation_rows", span="total") > 0, "a row to close")
        assert stand.metric("evaluation_rows", span="total") == 1
        assert stand.metric("evaluation_impressions_total", outcome="unlogged") == 2


async def test_nothing_is_published_until_the_snapshot_before_the_crash_is_surpassed(stand: Stand) -> None:
    async with crashing(stand.learner(learner_checkpoint_interval_s=1_000.0)):
        stand.append(*session(1))
        await eventually(lambda: stand.store._current, "a snapshot")
        before = await stand.store.current()
        assert before is not None
    records = stand.log.partition
    hidden = {tp: list(records(tp).records) for tp in (TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1))}
    for tp, kept in hidden.items():
        del records(tp).records[len(kept) // 2 :]

    async with crashing(stand.learner()):
        await eventually(lambda: stand.metric("impressions_total") == 1, "what is there to be read again")
        await asyncio.sleep(0.2)
        assert await stand.store.current() == before
        for tp, kept in hidden.items():
            records(tp).records[:] = kept
        stand.log.wake()
        await eventually(lambda: stand.store._current != before, "the next snapshot")

    after = await stand.store.current()
    assert after is not None
    assert after.version > before.version
    assert after.epoch == before.epoch + 1


async def test_an_emptied_store_is_filled_again_although_nothing_happens(stand: Stand) -> None:
    async with stand.learner().running():
        stand.append(*session(1))
        await eventually(lambda: stand.store._current, "a snapshot")
        first = await stand.store.current()
        stand.store._current = None
        stand.store._kept.clear()
        await eventually(lambda: stand.store._current, "the snapshot to be back")
        second = await stand.store.current()

    assert first is not None
    assert second is not None
    assert second.version > first.version
    assert second.step >= first.step


async def test_a_store_that_is_away_does_not_stop_learning(stand: Stand) -> None:
    async with stand.learner().running():
        stand.append(*session(1))
        await eventually(lambda: stand.store._current, "a snapshot")
        stand.store.available = False
        stand.append(*session(2))
        await eventually(lambda: stand.metric("snapshot_failures_total") > 0, "a publication to fail")
        await eventually(lambda: stand.metric("interactions_total", outcome="joined") == 2, "the click")
        steps = stand.metric("updates_total")
        stand.store.available = True
        before = stand.metric("snapshot_version")
        await eventually(lambda: stand.metric("snapshot_version") > before, "a snapshot after the outage")

    assert steps > 0


async def test_a_second_learner_fences_the_first(stand: Stand) -> None:
    first = stand.learner()
    await first.start()
    running = asyncio.ensure_future(first.run())
    stand.append(*session(1))
    await eventually(lambda: stand.store._current, "a snapshot")

    async with stand.learner().running():
        stand.append(*session(2))
        with pytest.raises(Fenced):
            await running
        await eventually(lambda: stand.metric("interactions_total", outcome="joined") >= 1, "the click")

    ledger = Counter(read_ledger(stand.folder))
    assert set(ledger) == {"i1", "c1", "i2", "c2"}
    assert max(ledger.values()) == 1


async def test_records_that_wait_while_none_arrives_end_the_process(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = stand.learner(learner_watchdog_s=0.1)
    await learner.start()

    async def nothing(max_records: int, timeout_ms: int) -> list[Any]:
        await asyncio.sleep(timeout_ms / 1_000)
        return []

    monkeypatch.setattr(learner._ports.reader, "poll", nothing)
    stand.append(*session(1))

    with pytest.raises(Stalled, match="2 records wait"):
        await learner.run()


async def test_silence_without_lag_is_no_reason_to_end(stand: Stand) -> None:
    async with stand.learner(learner_watchdog_s=0.05).running():
        await asyncio.sleep(0.3)
        stand.append(*session(1))
        await eventually(lambda: stand.metric("interactions_total", outcome="joined") == 1, "the click")


async def test_another_cluster_is_refused(stand: Stand) -> None:
    async with stand.learner().running():
        stand.append(*session(1))
        await eventually(lambda: stand.metric("impressions_total") == 1, "the impression")
    stand.log.cluster_id = "another"

    with pytest.raises(RefusedStart, match="belongs to Kafka cluster memory"):
        await stand.learner().start()


async def test_a_checkpoint_of_an_earlier_build_is_refused_with_the_remedy(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stand.learner().running():
        stand.append(*session(1))
        await stand.read(2)
    monkeypatch.setattr(agent_state, "FORMAT", agent_state.FORMAT + 1)
    with pytest.raises(RefusedStart, match=r"format.*MOARD_LEARNER_ABANDON_CHECKPOINT="):
        await stand.learner().start()


async def test_a_broker_or_store_that_stays_away_is_named(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_PATIENCE_S", 0.0)
    stand.store.available = False
    with pytest.raises(RefusedStart, match="REDIS_URL"):
        await stand.learner().start()
    stand.log.available = False
    with pytest.raises(RefusedStart, match="KAFKA_BOOTSTRAP_SERVERS"):
        await stand.learner().start()


async def test_a_full_disk_pauses_reading_until_a_checkpoint_is_whole_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = [True]
    write: Callable[..., Any] = checkpoint_files.write

    def full(*args: Any, **kwargs: Any) -> Any:
        if refusing[0]:
            raise OSError(28, "No space left on device")
        return write(*args, **kwargs)

    monkeypatch.setattr(checkpoint_files, "write", full)
    async with stand.learner().running():
        stand.append(*session(1))
        await eventually(lambda: stand.metric("checkpoint_failures_total") > 0, "a failure")
        stand.append(*session(2))
        failed = stand.metric("checkpoint_failures_total")
        await eventually(lambda: stand.metric("checkpoint_failures_total") > failed + 1, "further attempts")
        assert stand.metric("interactions_total", outcome="joined") == 1
        refusing[0] = False
        await eventually(lambda: stand.metric("interactions_total", outcome="joined") == 2, "the second click")

    assert sorted(read_ledger(stand.folder)) == ["c1", "c2", "i1", "i2"]
    async with stand.learner().running():  # rows of the attempts that failed are not lost with them
        await eventually(lambda: stand.metric("replay_rows") == 2, "both rows")


async def test_rows_of_every_run_are_there_after_the_next_start(stand: Stand) -> None:
    for run in (1, 2, 3):
        async with stand.learner().running():
            await eventually(lambda run=run: stand.metric("replay_rows") == run - 1, "earlier rows")  # type: ignore[misc]
            stand.append(*session(run))
            await eventually(lambda run=run: stand.metric("replay_rows") == run, "the row")  # type: ignore[misc]


async def test_a_revived_checkpoint_is_gone_on_from_and_every_event_still_counts_once(stand: Stand) -> None:
    for run in (1, 2):
        async with stand.learner(learner_checkpoint_interval_s=1_000.0).running():
            stand.append(*session(run))
            await eventually(lambda run=run: stand.metric("replay_rows") == run, "the row")  # type: ignore[misc]
    older = checkpoint_files.verify(stand.folder, checkpoint_files.names(stand.folder)[1])

    checkpoint_files.revive(stand.folder, older, fence(stand.folder))
    assert sorted(read_ledger(stand.folder)) == ["c1", "i1"]

    async with stand.learner().running():
        await eventually(lambda: stand.metric("replay_rows") == 2, "what came after to be read again")
    assert sorted(read_ledger(stand.folder)) == ["c1", "c2", "i1", "i2"]


async def test_health_is_that_of_loop_and_thread(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = stand.learner()
    assert not learner.healthy()
    async with learner.running():
        await eventually(learner.healthy, "the learner to be well")
        monkeypatch.setattr(assembly, "_HEARTBEAT_S", 0.0)
        assert not learner.healthy()
