"""The learner, on one screen: events in, weights out."""

from collections.abc import Callable

from services.learner.attribution import Attribution
from services.learner.checkpoint import Checkpoints
from services.learner.evaluation import Evaluation
from services.learner.intake import EventIntake
from services.learner.publisher import SnapshotPublisher
from services.learner.trainer import Trainer


async def learn(
    events: EventIntake,
    attribution: Attribution,
    trainer: Trainer,
    snapshots: SnapshotPublisher,
    checkpoints: Checkpoints,
    evaluation: Evaluation,
    show: Callable[[], None],
    max_records: int,
) -> None:
    """Turn the event stream into weight snapshots until ``events`` is stopped.

    Each event changes the surviving lineage of weights exactly once: a checkpoint carries the offsets it contains, and
    a restart seeks to them.
    """
    async for batch in events.batches(max_records):  # yields an empty one after each idle moment
        changes = attribution.observe(batch.arrivals, batch.dead_events)
        changes += attribution.advance(batch.idle_ms)
        evaluation.observe(batch.arrivals, changes, attribution.watermark_ms)
        await events.hold(trainer.absorb([*batch.contents, *changes]))  # bounded: nothing is read while full
        if snapshots.due(events.positions()):  # serving may run ahead of the checkpoint, never behind it
            snapshots.publish(await trainer.snapshot(), events.positions())
        if checkpoints.due(events.positions(), trainer.step):
            state = await trainer.state(checkpoints.mark)  # a barrier through the queue
            await events.bury_rows(trainer.take_expelled(), attribution)
            checkpoints.save(state, attribution, events.positions())
        events.allow(reading=not checkpoints.refused)
        show()


async def finish(
    events: EventIntake,
    attribution: Attribution,
    trainer: Trainer,
    snapshots: SnapshotPublisher,
    checkpoints: Checkpoints,
) -> bool:
    """Publish and save all that was read, so that the next start reads nothing twice; False when the disk refused."""
    await snapshots.finish()
    if snapshots.due(events.positions()):
        snapshots.publish(await trainer.snapshot(), events.positions())
        await snapshots.finish()
    await checkpoints.finish()
    state = await trainer.state(checkpoints.mark)
    await events.bury_rows(trainer.take_expelled(), attribution)
    checkpoints.save(state, attribution, events.positions())
    return await checkpoints.finish()
