"""From the backend's tables to rankings: ingest and serving as processes on real Kafka, Redis and MariaDB."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local import Addresses
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.text.doc2vec import Doc2VecModel, train
from tests.contract.catalogue_stand import create_legacy_tables, execute

pytestmark = pytest.mark.stack

VECTOR = 16
DEADLINE_S = 30.0
INSERT = "INSERT INTO contents (id, title, description, embedding) VALUES (:id, :title, :description, :embedding)"
USER = str(uuid4())


@dataclass
class System:
    """Ingest and serving over one database of the backend's, with a text model."""

    ingest: ServiceProcess
    serving: ServiceProcess
    database_url: str
    model: Doc2VecModel
    http: httpx.Client

    def sql(self, statement: str, *rows: dict[str, Any]) -> None:
        asyncio.run(execute(self.database_url, *((statement, values) for values in rows or ({},))))

    def insert(self, content_id: int, embedding: object, title: str = "space robot") -> None:
        written = embedding if embedding is None or isinstance(embedding, str) else json.dumps(embedding)
        row = {"id": content_id, "title": title, "description": "alien war", "embedding": written}
        self.sql(INSERT, row)

    def ranked(self, content_ids: list[int], user: str = USER) -> set[int]:
        """Return which of these the legacy call knows."""
        body = {"user_id": user, "content_ids": content_ids}
        answer = self.http.post(f"{self.serving.url}/api/v1/predict/top-contents", json=body)
        assert answer.status_code in (200, 404), answer.text
        return set(answer.json().get("content_ids", []))

    def vector_of(self, content_id: int) -> list[float]:
        """Return the vector serving has: that of a user who saw this content just now (hours × 0.9 of almost none)."""
        user = str(uuid4())
        event = {"type": "interaction", "user_id": user, "content_id": content_id, "kind": "click"}
        assert self.http.post(f"{self.ingest.url}/api/v1/events", json=event).status_code == 202
        body = {"user_id": user, "content_ids": [content_id]}
        answer = self.http.post(f"{self.serving.url}/api/v1/predict/top-contents", json=body)
        assert answer.status_code == 200, answer.text
        found: list[float] = answer.json()["user_embedding"]
        return found

    def metric(self, service: ServiceProcess, name: str) -> float:
        lines = self.http.get(f"{service.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.fixture
def system(stack: Addresses, services: Callable[..., ServiceProcess], tmp_path: Path) -> Iterator[System]:
    url = make_url(stack.database_url).set(database=f"test_{uuid4().hex}")
    address = url.render_as_string(hide_password=False)
    asyncio.run(execute(stack.database_url, (f"CREATE DATABASE {url.database}", {})))
    asyncio.run(create_legacy_tables(address))
    upgrade(address)
    known = ("INSERT INTO users VALUES (1, :octets)", {"octets": UUID(USER).bytes})
    asyncio.run(execute(address, known))
    texts = ["space robot alien war", "alien robot space", "love wedding comedy", "comedy love family", "space war"]
    model = train(enumerate(texts), vector_size=VECTOR, epochs=20)
    model.save(tmp_path / "doc2vec")
    environment = stack.environment() | {
        "DATABASE_URL": address,
        "MOARD_MODEL_NAME": f"test-{uuid4().hex[:8]}",
        "MOARD_VECTOR_SIZE": str(VECTOR),
        "MOARD_STATE_PATH": str(tmp_path),
        "MOARD_DOC2VEC_PATH": str(tmp_path / "doc2vec"),
    }
    with httpx.Client(timeout=10) as http:
        yield System(services("ingest", environment), services("serving", environment), address, model, http)


def fresh_ids(count: int) -> list[int]:
    """Ids that no other test of the shared stack uses."""
    first = time.time_ns() // 1_000
    return list(range(first, first + count))


def eventually(ask: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not ask():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


def one_hot(at: int) -> list[float]:
    return [float(number == at) for number in range(VECTOR)]


def test_rows_are_followed_from_insertion_to_deletion(system: System) -> None:
    first, second = fresh_ids(2)
    system.insert(first, one_hot(0))
    system.insert(second, one_hot(1))
    eventually(lambda: system.metric(system.serving, "moard_serving_contents") >= 2, "the new rows")
    assert system.ranked([first, second]) == {first, second}
    assert system.vector_of(first) == pytest.approx(one_hot(0), abs=1e-3)

    system.sql("UPDATE contents SET embedding = :e WHERE id = :id", {"e": json.dumps(one_hot(2)), "id": first})
    eventually(lambda: system.vector_of(first) == pytest.approx(one_hot(2), abs=1e-3), "the changed vector")

    hide = {"title": "space robot", "hidden": True}
    assert system.http.put(f"{system.ingest.url}/api/v1/contents/{second}", json=hide).status_code == 200
    eventually(lambda: system.ranked([first, second]) == {first}, "the hidden content to go")

    system.sql("DELETE FROM contents WHERE id = :id", {"id": first})
    eventually(lambda: system.ranked([first, second]) == set(), "the deleted row to go")
    removed = 'moard_ingest_catalogue_contents_total{change="removed"}'  # rows of other tests' tables go, too
    eventually(lambda: system.metric(system.ingest, removed) >= 1, "the removal to be counted")


def test_broken_vectors_are_counted_and_computed_from_the_text(system: System) -> None:
    broken = [None, "[1, 2", "oops", json.dumps([1.0] * (VECTOR - 1)), "[" + "NaN, " * (VECTOR - 1) + "NaN]"]
    ids = fresh_ids(len(broken) + 1)
    for content_id, embedding in zip(ids, broken, strict=False):
        system.insert(content_id, embedding)
    system.insert(ids[-1], one_hot(0))
    eventually(lambda: system.metric(system.ingest, "moard_ingest_catalogue_contents_total") >= len(ids), "the rows")
    expected = system.model.infer("space robot", "alien war").tolist()
    assert any(expected)
    for content_id in ids[:-1]:
        assert system.vector_of(content_id) == pytest.approx(expected, abs=1e-3)
    counted = {reason: f'moard_ingest_vectors_missing_total{{reason="{reason}"}}' for reason in ("broken", "missing")}
    assert system.metric(system.ingest, counted["broken"]) == 4
    assert system.metric(system.ingest, counted["missing"]) == 1

    system.sql("UPDATE contents SET title = 'love wedding', description = '' WHERE id = :id", {"id": ids[0]})
    changed = pytest.approx(system.model.infer("love wedding").tolist(), abs=1e-3)
    eventually(lambda: system.vector_of(ids[0]) == changed, "the vector of the new title")


def test_serving_reads_an_unknown_id_once_and_then_asks_the_database_nothing(system: System) -> None:
    assert system.ingest.stop() == 0  # serving alone
    ids, user = fresh_ids(40), uuid4()  # whom no other test has given a history
    system.sql("INSERT INTO users VALUES (2, :octets)", {"octets": user.bytes})
    for content_id in ids:
        system.insert(content_id, one_hot(content_id % VECTOR))
    with selects(system.database_url) as counted:
        before = counted()
        assert len(system.ranked(ids, str(user))) == 6
        assert counted() - before == 2  # the user, and all contents in one
        for _ in range(50):
            assert len(system.ranked(ids, str(user))) == 6
        assert counted() - before == 2


@contextmanager
def selects(url: str) -> Iterator[Callable[[], int]]:
    """Lend a question for how many SELECTs of contents or users the server has answered; asking it is none.

    What a service asks on its own (keys, pins, tasks) is about other tables.
    """
    asked = text(
        "SELECT COUNT(*) FROM mysql.general_log WHERE argument REGEXP 'FROM (moard_contents|contents|users)[^a-z_]'"
        " AND argument NOT LIKE '%general_log%'"
    )
    with asyncio.Runner() as runner:
        connection = runner.run(create_async_engine(url, isolation_level="AUTOCOMMIT").connect().start())

        def tell(statement: str) -> None:
            runner.run(connection.execute(text(statement)))

        for statement in ("SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"):
            tell(statement)
        try:
            yield lambda: int(runner.run(connection.execute(asked)).scalar_one())
        finally:
            for statement in ("SET GLOBAL general_log = 0", "TRUNCATE mysql.general_log"):
                tell(statement)
            runner.run(connection.close())
            runner.run(connection.engine.dispose())
