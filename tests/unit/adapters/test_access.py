"""Who may call what: with keys, without any, and while it cannot be known."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog

from libs.adapters.access import RULES, Callers, scope_of
from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.keys import ADMIN, INGEST, METRICS, RANK, SCOPES, KeyRing, new_key
from libs.adapters.memory import MemoryKeyStore
from libs.adapters.telemetry import configure_logging
from libs.errors import RefusedStart
from tests.unit.adapters.edge import Edged


class Locked(Edged):
    """Behind a table with one key for each scope."""

    def __init__(self, host: str = "127.0.0.1", allow_insecure: bool = False, origins: tuple[str, ...] = ()) -> None:
        made = {scope: new_key(scope, [scope]) for scope in SCOPES}
        self.keys = {scope: key for scope, (key, _) in made.items()}
        self.stored = {scope: stored for scope, (_, stored) in made.items()}
        self.store = MemoryKeyStore(self.stored.values())
        self.ring = KeyRing(self.store)
        super().__init__(Callers(self.ring, host, allow_insecure, origins))

    async def ask(self, method: str, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        if not self.ring.known:
            await self.ring.refresh()
        given = {} if key is None else {"authorization": f"Bearer {key}"}
        async with self.client(**given, **headers) as client:
            return await client.request(method, path)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/api/v1/rank", RANK),
        ("POST", "/api/v1/predict/top-contents", RANK),
        ("POST", "/api/v1/predict/bulk", RANK),
        ("POST", "/api/v1/embedding/doc2vec", RANK),
        ("POST", "/api/v1/embedding/doc2vec/bulk", RANK),
        ("POST", "/api/v1/events", INGEST),
        ("PUT", "/api/v1/contents/7", INGEST),
        ("GET", "/api/v1/model/list", ADMIN),
        ("POST", "/api/v1/model/change", ADMIN),
        ("DELETE", "/api/v1/model/x", ADMIN),
        ("GET", "/api/v1/snapshots", ADMIN),
        ("POST", "/api/v1/snapshots/1/pin", ADMIN),
        ("POST", "/api/v1/online-learning/train", ADMIN),
        ("GET", "/metrics", METRICS),
        # Whatever nobody declared is closed.
        ("GET", "/api/v1/events", ADMIN),
        ("DELETE", "/api/v1/contents/7", ADMIN),
        ("POST", "/api/v1/ranking", ADMIN),
        ("POST", "/api/v1/rank/../model/change", RANK),  # no such route: paths are not resolved
        ("POST", "//api/v1/rank", ADMIN),
        ("POST", "/API/v1/rank", ADMIN),
        ("GET", "/api/v2/anything", ADMIN),
        ("GET", "/nowhere", ADMIN),
        ("POST", "/docs", ADMIN),
        ("GET", "/docsx", ADMIN),
        ("BREW", "/healthz", ADMIN),
        ("GET", "/", None),
        ("HEAD", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/docs/start.js", None),
        ("GET", "/ui/app.js", None),
        ("OPTIONS", "/api/v1/model/change", None),
    ],
)
async def test_each_call_needs_its_scope_and_no_other_opens_it(method: str, path: str, scope: str | None) -> None:
    assert scope_of(method, path) == scope
    locked = Locked("10.0.0.1")
    await locked.ring.refresh()
    statuses = {given: (await _raw(locked, method, path, key)) for given, key in [(None, None), *locked.keys.items()]}
    if scope is None:
        assert not {401, 403} & set(statuses.values())
        return
    assert statuses.pop(None) == 401
    assert statuses.pop(scope) not in (401, 403)
    assert set(statuses.values()) == {403}


async def _raw(locked: Locked, method: str, path: str, key: str | None) -> int:
    """Ask with a path as it is: clients tidy theirs."""
    sent: list[Any] = []

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def collect(message: Any) -> None:
        sent.append(message)

    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    await locked.app({**scope, "headers": headers, "server": ("t", 80), "client": ("10.0.0.9", 1)}, nothing, collect)
    return int(sent[0]["status"])


def test_every_rule_names_a_scope_that_keys_can_have() -> None:
    assert {rule.scope for rule in RULES} <= set(SCOPES)


class TestWithKeys:
    async def test_the_key_is_known_behind_the_edge(self) -> None:
        locked = Locked()
        answer = await locked.ask("POST", "/api/v1/rank", locked.keys[RANK])
        assert answer.json()["key"] == locked.stored[RANK].id
        assert answer.json()["scopes"] == [RANK]

    @pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
    async def test_the_scheme_is_read_as_http_has_it(self, scheme: str) -> None:
        locked = Locked()
        answer = await locked.ask("POST", "/api/v1/rank", authorization=f"{scheme} {locked.keys[RANK]}")
        assert answer.status_code == 200

    @pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "x" * 5_000])
    async def test_without_a_key_it_says_how(self, given: str) -> None:
        locked = Locked()
        answer = await locked.ask("POST", "/api/v1/rank", authorization=given)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert "moard keys create" in answer.json()["detail"]
        assert (locked.refused("key_missing"), locked.entered) == (1, 0)

    async def test_a_wrong_key_says_neither_why_nor_whose(self) -> None:
        locked = Locked()
        expired, ended = new_key("old", [RANK], expires_ms=1)
        revoked, gone = new_key("gone", [RANK])
        await locked.store.add(ended)
        await locked.store.add(replace(gone, revoked_ms=1))
        answers = [
            await locked.ask("POST", "/api/v1/rank", key)
            for key in (expired, revoked, "moard_000000000000_x", locked.keys[RANK] + "x")
        ]
        assert [answer.status_code for answer in answers] == [401] * 4
        assert len({answer.json()["detail"] for answer in answers}) == 1
        assert all('error="invalid_token"' in answer.headers["www-authenticate"] for answer in answers)
        assert locked.refused("key_invalid") == 4

    async def test_a_missing_scope_is_named(self) -> None:
        locked = Locked()
        answer = await locked.ask("DELETE", "/api/v1/model/x", locked.keys[RANK])
        assert answer.status_code == 403
        assert "'admin'" in answer.json()["detail"]
        assert 'scope="admin"' in answer.headers["www-authenticate"]
        assert locked.refused("scope") == 1

    async def test_a_revoked_key_stops_and_the_last_one_opens_nothing(self) -> None:
        locked = Locked()
        for stored in locked.stored.values():
            await locked.store.revoke(stored.id, 1)
        assert (await locked.ask("POST", "/api/v1/rank", locked.keys[RANK])).status_code == 401
        assert (await locked.ask("POST", "/api/v1/rank")).status_code == 401

    async def test_insecurity_does_not_switch_keys_off(self) -> None:
        assert (await Locked("0.0.0.0", allow_insecure=True).ask("POST", "/api/v1/rank")).status_code == 401

    @pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("0.0.0.0", 401)])
    async def test_metrics_are_open_on_loopback_alone(self, host: str, status: int) -> None:
        locked = Locked(host)
        assert (await locked.ask("GET", "/metrics")).status_code == status
        assert (await locked.ask("GET", "/metrics", locked.keys[METRICS])).status_code == 200


class TestWhileTheKeysAreUnknown:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_nothing_opens(self, host: str) -> None:
        locked = Locked(host, allow_insecure=True)
        for key in (None, locked.keys[RANK]):
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            async with locked.client(**headers) as client:
                answer = await client.post("/api/v1/rank")
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                assert (await client.get("/healthz")).status_code == 200
        assert (locked.refused("keys_unread"), locked.entered) == (2, 1 * 2)


class TestWithoutAnyKey:
    @pytest.mark.parametrize(
        ("host", "insecure", "status"), [("127.0.0.1", False, 200), ("0.0.0.0", True, 200), ("0.0.0.0", False, 401)]
    )
    async def test_open_on_loopback_or_where_told(self, host: str, insecure: bool, status: int) -> None:
        ring = KeyRing(MemoryKeyStore())
        await ring.refresh()
        async with Edged(Callers(ring, host, insecure)).client() as client:
            answer = await client.post("/api/v1/rank")
        assert answer.status_code == status

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            ("https://evil.example", 403),
            ("null", 403),
            ("http://[", 403),
            ("http://127.0.0.1:9999", 403),
            ("http://127.0.0.1:8000", 200),  # the page of /docs
            ("http://localhost:3000", 200),  # listed
        ],
    )
    async def test_a_foreign_page_may_not_change_anything(self, origin: str, status: int) -> None:
        edged = Edged(Callers(origins=("http://localhost:3000",)))
        async with edged.client(origin=origin) as client:
            for call in (client.post, client.put, client.delete):
                assert (await call("/api/v1/x")).status_code == status
            assert (await client.get("/api/v1/x")).status_code == 200

    async def test_nor_one_whose_name_was_made_to_point_here(self) -> None:
        async with Edged().client(origin="http://evil.example:8000", host="evil.example:8000") as client:
            assert (await client.post("/api/v1/x")).status_code == 403
        async with Edged(Callers(host="0.0.0.0", allow_insecure=True)).client(
            origin="http://moard.example", host="moard.example"
        ) as client:
            assert (await client.post("/api/v1/x")).status_code == 200


class TestBinding:
    def refuse(self, host: str, *keys: Any, available: bool = True) -> None:
        store = MemoryKeyStore(keys)
        store.available = available
        refuse_unsafe_bind(host, False, "MOARD_SERVING_HOST", lambda: store)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
    def test_without_keys_it_is_refused_with_the_remedy(self, host: str) -> None:
        with pytest.raises(RefusedStart, match=r"MOARD_SERVING_HOST.*moard keys create.*MOARD_ALLOW_INSECURE=1"):
            self.refuse(host)

    def test_with_keys_it_is_not(self) -> None:
        self.refuse("0.0.0.0", new_key("a", [RANK])[1])

    def test_nor_while_the_database_is_away(self) -> None:
        self.refuse("0.0.0.0", available=False)


@pytest.fixture
def _logging_as_in_production(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:  # after capsys: it writes there
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging("debug")
    structlog.configure(cache_logger_on_first_use=False)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_as_in_production")
async def test_no_key_is_ever_logged_measured_or_answered(capsys: pytest.CaptureFixture[str]) -> None:
    locked = Locked()
    locked.broken = True
    secrets = [*locked.keys.values(), "moard_000000000000_" + "s3cr3t" * 5]
    forms = ("Bearer {}", "Basic {}", "{}")
    answers = [
        await locked.ask("POST", "/api/v1/rank", authorization=form.format(key)) for form in forms for key in secrets
    ]
    answers.append(await locked.ask("GET", "/metrics"))
    assert {answer.status_code for answer in answers} == {200, 401, 403, 500}
    printed = capsys.readouterr()
    everything = printed.out + printed.err + "".join(answer.text + str(answer.headers) for answer in answers)
    assert "http.failed" in printed.err
    assert [key for key in secrets if key.split("_", 2)[2] in everything] == []
