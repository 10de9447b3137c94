"""When snapshots are published, as what, and what a store that is away or taken over changes."""

from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.memory import MemorySnapshotStore
from libs.adapters.ports import SnapshotMeta, TopicPartition
from libs.adapters.telemetry import LearnerMetrics
from libs.errors import Fenced
from libs.rl.snapshot import decode
from services.learner.publisher import Lineage, SnapshotPublisher, gate_of
from services.learner.trainer import Taken, Trainer
from tests.builders import NOW_MS
from tests.snapshots import random_snapshot

E0 = TopicPartition("moard.events", 0)
AT_10 = {E0: 10}


class FakeTrainer:
    step = 1
    fresh = False
    sound = True


class Stand:
    def __init__(self, **lineage: Any) -> None:
        self.now_ms = NOW_MS
        self.store = MemorySnapshotStore()
        named: dict[str, Any] = {"epoch": 3, "cluster_id": "cluster"} | lineage
        self.trainer = FakeTrainer()
        self.registry = CollectorRegistry()
        self.publisher = SnapshotPublisher(
            self.store,
            cast(Trainer, self.trainer),
            Lineage(**named),
            1.0,
            LearnerMetrics(self.registry, []),
            lambda: self.now_ms,
        )

    async def publish(self, step: int = 1, trained: list[tuple[str, int]] | None = None) -> SnapshotMeta | None:
        self.publisher.publish(Taken(random_snapshot([1, 2], 4), step, trained or []), AT_10)
        await self.publisher.finish()
        return await self.store.current() if self.store.available else None


async def test_what_is_published_can_be_served_and_says_what_it_contains() -> None:
    stand = Stand()

    meta = await stand.publish(step=7, trained=[("c1", 5)])

    assert meta is not None
    assert (meta.version, meta.epoch, meta.step, meta.offsets) == (NOW_MS, 3, 7, {"moard.events:0": 10})
    assert meta.trained == (("c1", 5),)
    _, blob = await stand.store.load(meta.version)
    assert decode(blob, meta.sha256, 4).content_ids.tolist() == [1, 2]
    assert meta.size_bytes == len(blob)


async def test_nothing_is_due_until_something_is_learned_and_the_interval_is_over() -> None:
    stand = Stand()
    assert stand.publisher.due(AT_10)
    await stand.publish(step=1)
    stand.now_ms += 5_000
    assert not stand.publisher.due(AT_10)

    stand.trainer.step = 2
    assert stand.publisher.due(AT_10)
    await stand.publish(step=2)
    stand.trainer.step = 3
    stand.now_ms += 999
    assert not stand.publisher.due(AT_10)
    stand.now_ms += 1
    assert stand.publisher.due(AT_10)


async def test_fresh_rows_make_a_snapshot_due_although_no_step_was_taken() -> None:
    stand = Stand()
    await stand.publish(step=1)
    stand.now_ms += 1_000
    stand.trainer.fresh = True

    assert stand.publisher.due(AT_10)


async def test_events_that_change_no_weight_are_told_of_after_a_while() -> None:
    stand = Stand()
    await stand.publish(step=1)
    contents_only = {**AT_10, TopicPartition("moard.contents", 0): 3}
    stand.now_ms += 3_000
    assert not stand.publisher.due(contents_only)
    assert stand.publisher.due({E0: 11})
    stand.now_ms -= 1
    assert not stand.publisher.due({E0: 11})


async def test_how_learning_went_is_told_with_the_snapshot() -> None:
    stand = Stand()
    stand.publisher.publish(Taken(random_snapshot([1, 2], 4), 1, [], loss=0.25, q_mean=-1.5), AT_10)
    await stand.publisher.finish()
    meta = await stand.store.current()
    assert meta is not None
    assert meta.extra == {"cluster_id": "cluster", "loss": "0.25", "q_mean": "-1.5"}
    stand.now_ms += 5_000
    meta = await stand.publish(step=2)
    assert meta is not None
    assert meta.extra == {"cluster_id": "cluster"}


async def test_weights_that_are_not_finite_are_kept_back() -> None:
    stand = Stand()
    stand.trainer.sound = False

    assert not stand.publisher.due(AT_10)


async def test_versions_rise_although_the_clock_does_not() -> None:
    stand = Stand(last_version=NOW_MS + 50)

    first = await stand.publish(step=1)
    stand.now_ms -= 10_000
    second = await stand.publish(step=2)

    assert first is not None
    assert second is not None
    assert (first.version, second.version) == (NOW_MS + 51, NOW_MS + 52)


async def test_nothing_is_published_before_the_current_snapshot_is_surpassed() -> None:
    stand = Stand(gate={E0: 11})
    assert not stand.publisher.due(AT_10)
    assert stand.publisher.due({E0: 11})
    assert stand.publisher.due({E0: 11})


async def test_the_gate_holds_for_the_same_cluster_only() -> None:
    stand = Stand()
    meta = await stand.publish()

    assert gate_of(meta, "cluster") == AT_10
    assert gate_of(meta, "another") == {}
    assert gate_of(None, "cluster") == {}


async def test_a_store_that_is_away_costs_snapshots_only_and_none_of_the_trained_ids() -> None:
    stand = Stand()
    stand.store.available = False
    await stand.publish(step=1, trained=[("c1", 1)])
    assert stand.registry.get_sample_value("moard_learner_snapshot_failures_total") == 1
    assert not stand.publisher.due(AT_10)  # not at once again

    stand.now_ms += 4_000
    assert stand.publisher.due(AT_10)
    stand.store.available = True
    meta = await stand.publish(step=1, trained=[("c2", 2)])

    assert meta is not None
    assert meta.trained == (("c1", 1), ("c2", 2))
    stand.now_ms += 4_000
    assert not stand.publisher.due(AT_10)


async def test_many_trained_ids_are_sampled_evenly_with_the_newest_among_them() -> None:
    stand = Stand()

    meta = await stand.publish(trained=[(f"c{number}", number) for number in range(1_000)])

    assert meta is not None
    assert 32 < len(meta.trained) <= 64
    assert meta.trained[-1] == ("c999", 999)
    assert meta.trained[0][1] < 20


async def test_a_newer_learner_ends_this_one() -> None:
    stand = Stand()
    await stand.store.claim_epoch(4)

    with pytest.raises(Fenced):
        await stand.publish()
    assert stand.registry.get_sample_value("moard_learner_snapshots_refused_total") == 1


async def test_watching_the_pointer_notices_a_newer_learner() -> None:
    stand = Stand()
    meta = await stand.publish()
    assert meta is not None
    later = Stand(epoch=4)
    later.store = stand.store
    later.publisher._store = stand.store
    later.now_ms += 1
    await later.publish()

    with pytest.raises(Fenced, match="epoch 4"):
        await stand.publisher.watch_pointer()
