"""The legacy training calls on a running service: MariaDB with the backend's tables, Kafka, Redis, a learner."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from infra.local import Addresses, LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaPartitionReader
from libs.adapters.ports import TopicPartition
from libs.events.codec import decode_event
from libs.events.schema import Event, Impression, Interaction
from libs.events.topics import EVENTS
from services.learner.ledger import read_ledger
from tests.contract.catalogue_stand import create_legacy_tables, execute

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

DEADLINE_S = 90.0
USERS = 20
T0 = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass
class Legacy:
    """A backend's database, serving and a learner on a stack of their own."""

    addresses: Addresses
    serving: ServiceProcess
    learner: ServiceProcess
    checkpoints: Path
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))
    recommended: int = 0
    logged: int = 0

    def ask(self, method: str, path: str, status: int = 200) -> Any:
        answer = self.http.request(method, f"{self.serving.url}/api/v1/online-learning/{path}")
        assert answer.status_code == status, answer.text
        return answer.json()

    def start(self, query: str = "batch_size=50") -> str:
        return str(self.ask("POST", f"async-train?{query}")["task_id"])

    def ended(self, task_id: str) -> Any:
        return self.when(task_id, lambda task: task["status"] != "processing")

    def when(self, task_id: str, condition: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while not condition(task := self.ask("GET", f"async-batch-status/{task_id}")):
            assert time.monotonic() < deadline, (
                f"waited for {task}. {self.learner.log_tail()} {self.serving.log_tail()}"
            )
            time.sleep(0.05)
        return task

    def training(self) -> list[int]:
        """Return the id of the process that works on training tasks, if there is one: serving has no other child."""
        children = Path(f"/proc/{self.serving.pid}/task/{self.serving.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def recommend(self, count: int) -> int:
        """Let the backend recommend and its users act; return how many logs that makes."""
        statements = []
        before = self.logged
        for number in range(self.recommended + 1, self.recommended + count + 1):
            user, at = 1 + number % USERS, T0 + timedelta(minutes=number)
            shown = {"id": number, "user": user, "at": f"{at:%Y-%m-%d %H:%M:%S}"}
            statements.append(
                ("INSERT INTO recommendations (id, user_id, recommended_at) VALUES (:id, :user, :at)", shown)
            )
            statements += [
                ("INSERT INTO recommendation_contents VALUES (:id, :c, :r)", {"id": number, "c": 1 + c, "r": r})
                for r, c in enumerate((number % 7, number % 7 + 1, number % 7 + 2))
            ]
            statements.append(self.log(user, 1 + number % 7, number, at + timedelta(seconds=5)))
            if number % 2:
                statements.append(self.log(user, 2 + number % 7, number, at + timedelta(seconds=9), "VIEW", 0.5))
        asyncio.run(execute(self.addresses.database_url, *statements))
        self.recommended += count
        return self.logged - before

    def log(
        self,
        user: int,
        content: int,
        recommendation: int | None,
        at: datetime,
        kind: str = "CLICK",
        ratio: float | None = None,
    ) -> tuple[str, dict[str, Any]]:
        self.logged += 1
        values = {"id": self.logged, "user": user, "kind": kind, "content": content, "rec": recommendation}
        return (
            "INSERT INTO user_logs (id, user_id, event_type, content_id, recommendation_id, ratio, timestamp)"
            " VALUES (:id, :user, :kind, :content, :rec, :ratio, :at)",
            values | {"ratio": ratio, "at": f"{at:%Y-%m-%d %H:%M:%S}"},
        )

    def events(self) -> list[Event]:
        return asyncio.run(_read_all(self.addresses.kafka_bootstrap_servers))


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _read_all(servers: str) -> list[Event]:
    reader = KafkaPartitionReader(servers, "test")
    await reader.start({TopicPartition(EVENTS, number): -1 for number in range(4)})
    ends = await reader.end_offsets()
    events: list[Any] = []
    while any(reader.positions()[tp] < end for tp, end in ends.items()):
        events += [decode_event(record.value) for record in await reader.poll(500, 500)]
    await reader.stop()
    return events


@pytest.fixture
def legacy(
    fresh_stack: Callable[..., LocalStack], services: Callable[..., ServiceProcess], tmp_path: Path
) -> Iterator[Legacy]:
    addresses = fresh_stack().addresses
    url = addresses.database_url
    asyncio.run(create_legacy_tables(url))
    users = [("INSERT INTO users VALUES (:id, :octets)", {"id": n, "octets": UUID(int=n).bytes}) for n in range(1, 21)]
    asyncio.run(execute(url, *users))
    upgrade(url)
    environment = addresses.environment() | {
        "MOARD_VECTOR_SIZE": "8",
        "MOARD_STATE_PATH": str(tmp_path / "state"),
        "MOARD_LEARNER_CHECKPOINT_PATH": str(tmp_path / "checkpoints"),
        "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "0.5",
        "MOARD_LEARNER_LEARNING_STARTS": "1",
        "MOARD_LEARNER_CAPACITY": "10000",
        "MOARD_SERVING_TRAINING_PACE": "1000",
    }
    serving = services("serving", environment)  # first: it creates the topics
    learner = services("learner", environment)
    stand = Legacy(addresses, serving, learner, tmp_path / "checkpoints")
    with contextlib.closing(stand.http):
        yield stand


def test_the_legacy_log_is_learned_once_and_the_task_says_so(legacy: Legacy) -> None:
    assert legacy.ask("GET", "tasks") == []
    assert legacy.ask("POST", "train?batch_size=10")["processed_count"] == 0
    interactions = legacy.recommend(200)
    assert interactions == 300

    task_id = legacy.start("batch_size=30&save_model=true")
    seen = {legacy.ask("GET", f"async-batch-status/{task_id}")["status"]}
    task = legacy.ended(task_id)
    assert seen <= {"processing", "completed"}
    assert (task["status"], task["total_interactions"], task["processed_interactions"]) == ("completed", 300, 300)
    assert 1 <= len(task["results"]) <= 100
    assert all(result.keys() == {"q_value", "loss"} for result in task["results"])
    assert task["total_loss"] == pytest.approx(sum(r["loss"] for r in task["results"]) / len(task["results"]))

    events = legacy.events()
    assert Counter(map(type, events)) == {Impression: 200, Interaction: 300}
    shown = {event.event_id: event for event in events if isinstance(event, Impression)}
    fifth = shown["legacy-recommendation-150"]
    assert (fifth.user_id, fifth.slate, fifth.recommendation_id) == (str(UUID(int=11)), (4, 5, 6), "150")
    assert fifth.timestamp_ms == int((T0 + timedelta(minutes=150)).timestamp() * 1_000)
    assert fifth.history == tuple(1 + number % 7 for number in (130, 110, 90, 70, 50, 30, 10))
    assert fifth.history_age_s[0] == 20 * 60 - 5
    assert (fifth.arm, fifth.log_propensities, fifth.source) == ("external", (), "backfill")

    again = legacy.ended(legacy.start())
    assert (again["status"], again["total_interactions"], again["processed_interactions"]) == ("completed", 0, 0)
    assert len(legacy.events()) == len(events)

    late = [
        legacy.log(5, 6, 4, T0 + timedelta(days=1)),  # for a recommendation that was streamed
        legacy.log(6, 7, None, T0 + timedelta(days=1)),
        legacy.log(99, 7, None, T0),  # nobody's
    ]
    asyncio.run(execute(legacy.addresses.database_url, *late))
    assert legacy.ask("POST", "collect-training-data?batch_size=10")["data_count"] == 2
    answer = legacy.ask("POST", "train?batch_size=10")
    assert answer["processed_count"] == 2
    assert legacy.ask("POST", "collect-training-data?batch_size=10")["data_count"] == 0

    assert legacy.learner.stop() == 0
    ledger = Counter(read_ledger(legacy.checkpoints))
    assert len(ledger) == 502
    assert set(ledger.values()) == {1}


def test_errors_and_deletion(legacy: Legacy) -> None:
    for call in ("async-train", "train", "collect-training-data"):
        for size in ("0", "-3", "many"):
            assert legacy.ask("POST", f"{call}?batch_size={size}", 422)["detail"][0]["loc"] == ["query", "batch_size"]
    task_id = legacy.start()
    assert [task["task_id"] for task in legacy.ask("GET", "tasks")] == [task_id]
    assert legacy.ask("DELETE", f"async-batch-status/{task_id}").keys() == {"message"}
    for method in ("GET", "DELETE"):
        for unknown in (task_id, str(uuid4()), "x"):
            assert "detail" in legacy.ask(method, f"async-batch-status/{unknown}", 404)
    assert legacy.ask("GET", "tasks") == []


def test_a_task_outlives_the_process_that_ran_it(legacy: Legacy) -> None:
    interactions = legacy.recommend(2_000)
    task_id = legacy.start()
    legacy.when(task_id, lambda task: task["processed_interactions"] > 0)
    (training,) = legacy.training()
    legacy.serving.kill()
    eventually(lambda: not exists(training), "the process that works on it to end with serving")
    count = len(legacy.events())
    assert 0 < count < 2_000 + interactions
    legacy.serving.start()
    legacy.serving.wait_ready()
    task = legacy.ended(task_id)
    assert (task["status"], task["total_interactions"]) == ("completed", interactions)
    assert task["processed_interactions"] == interactions
    events = legacy.events()
    ids = Counter(event.event_id for event in events)
    assert len(ids) == 2_000 + interactions
    assert len(events) - len(ids) <= 125  # one page of 50 at most was appended twice
    assert legacy.learner.stop() == 0
    ledger = Counter(read_ledger(legacy.checkpoints))
    assert ledger == Counter(ids.keys())


def test_a_task_outlives_the_process_that_works_on_it(legacy: Legacy) -> None:
    interactions = legacy.recommend(1_000)
    task_id = legacy.start("batch_size=20")
    legacy.when(task_id, lambda task: task["total_interactions"] > 0)
    (training,) = legacy.training()
    assert os.getpriority(os.PRIO_PROCESS, training) == os.getpriority(os.PRIO_PROCESS, legacy.serving.pid) + 10
    os.kill(training, signal.SIGKILL)
    task = legacy.ended(task_id)
    assert (task["status"], task["processed_interactions"]) == ("completed", interactions)
    assert "training.process_died" in legacy.serving.log.read_text()
    assert legacy.serving.running
    assert legacy.learner.stop() == 0
    assert set(Counter(read_ledger(legacy.checkpoints)).values()) == {1}
    assert len(set(read_ledger(legacy.checkpoints))) == 1_000 + interactions


def test_the_process_ends_with_the_tasks_and_with_serving(legacy: Legacy) -> None:
    legacy.recommend(20)
    legacy.ended(legacy.start())
    eventually(lambda: not legacy.training(), "the process to end, as no task is left")
    legacy.learner.pause()
    legacy.recommend(20)
    legacy.start()
    eventually(legacy.training, "a process for the next task")
    (training,) = legacy.training()
    assert legacy.serving.stop() == 0
    assert not exists(training)
    legacy.learner.resume()
