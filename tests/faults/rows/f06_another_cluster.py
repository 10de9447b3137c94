"""F6: the broker comes back as another cluster, or as the same one without its records."""

import asyncio
import shutil
from collections.abc import Callable, Iterator

from aiokafka.admin import AIOKafkaAdminClient

from infra.local import LocalStack
from infra.services import ServiceDied
from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, EVENTS, Trial
from tests.running_system import RunningSystem, eventually

REFUSED = 2
REMEDY = "MOARD_LEARNER_ABANDON_CHECKPOINT"
_SILENCE_S = 3.0


def run(trial: Trial) -> None:
    with trial.stack(broker_profile="kill") as stack, trial.watched(stack) as system:
        with trial.users(system):
            trial.await_snapshot()
            trial.pause(1.0, 3.0)
        trial.drain(system)
        settle(trial)
        stack.kafka.kill()
        kept = stack.kafka.data.with_name("kept")
        stack.kafka.data.rename(kept)
        refused_by(trial, system, "the broker is another cluster", stack.kafka.start)
        for _ in range(trial.choose(full=1, short=0)):
            refused_by(trial, system, "the broker has lost its records", lambda: lose_records(stack))
        stack.kafka.kill()
        shutil.rmtree(stack.kafka.data)
        kept.rename(stack.kafka.data)
        stack.kafka.start()
        with trial.recovering("the learner goes on where the log is back"):
            system.learner.start()
            system.learner.wait_ready(DEADLINE_S)
        with trial.users(system):
            trial.await_snapshot()
        trial.drain(system)


def settle(trial: Trial) -> None:
    """Return once the learner has published what it learned: it still trains for a while on what it has read."""
    version = -1
    while version != trial.pointer.version:
        version = trial.pointer.version
        trial.pause(_SILENCE_S, _SILENCE_S)


def refused_by(trial: Trial, system: RunningSystem, fault: str, inject: Callable[[], None]) -> None:
    """Inject a loss under a learner at work if there is one; then let one start on what is left."""
    trial.inject(fault)
    published = trial.pointer.version
    inject()
    trial.pause(_SILENCE_S, 2 * _SILENCE_S)  # a learner that starts over silently would publish meanwhile
    system.learner.kill()
    system.learner.start()
    try:
        system.learner.wait_ready(DEADLINE_S)
    except ServiceDied:
        eventually(lambda: not system.learner.running, "the learner to end")
    trial.note("refusal", {"code": system.learner.exit_code(), "remedy": REMEDY in system.learner.log_tail()})
    trial.note("published_meanwhile", trial.pointer.version - published)


def lose_records(stack: LocalStack) -> None:
    """Restart on a copy of the log from which the events were deleted: the same cluster, and an empty topic."""
    stack.kafka.kill()
    shutil.rmtree(stack.kafka.data)
    shutil.copytree(stack.kafka.data.with_name("kept"), stack.kafka.data)
    stack.kafka.start()
    asyncio.run(_delete(stack.addresses.kafka_bootstrap_servers))


async def _delete(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.delete_topics([EVENTS])
    finally:
        await admin.close()


def the_learner_refuses(history: History) -> Iterator[str]:
    """A start on another log ends with the exit code of a refusal, names the remedy, and publishes nothing."""
    for refusal in history.noted("refusal"):
        if refusal != {"code": REFUSED, "remedy": True}:
            yield f"the learner ended with {refusal['code']}, the remedy was named: {refusal['remedy']}"
    if any(history.noted("published_meanwhile")):
        yield f"versions moved by {history.noted('published_meanwhile')} although the log was lost"


ROW = Row(
    "F6",
    fault="the broker comes back empty, or as another cluster",
    must_hold="the learner refuses and names the remedy; nothing is reset or published; all is there when the log is",
    run=run,
    checks=(*EVERY, the_learner_refuses),
)
