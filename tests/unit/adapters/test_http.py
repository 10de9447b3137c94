"""The HTTP edges: what a client and a dashboard see of requests that go well and of those that do not."""

import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, FiniteFloat

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.http import install_edges
from libs.adapters.metrics import HttpMetrics
from libs.adapters.problems import presentable, problem
from libs.errors import RefusedStart, StoreUnavailable


class Body(BaseModel):
    number: FiniteFloat


def application(registry: CollectorRegistry, scraped: list[int]) -> FastAPI:
    app = FastAPI()
    install_edges(
        app,
        HttpMetrics(registry),
        registry,
        body_max_bytes=100,
        body_max_bytes_of={"/large": 1_000},
        before_scrape=lambda: scraped.append(1),
    )
    router = APIRouter(prefix="/things")

    @router.get("/{thing}")
    async def thing(thing: int) -> int:
        return thing

    app.include_router(router, prefix="/api/v1")

    @app.post("/numbers")
    async def numbers(body: Body) -> float:
        return body.number

    @app.post("/raw")
    @app.post("/large")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/away")
    async def away() -> None:
        raise StoreUnavailable("redis://secret@host did not answer")

    return app


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def scraped() -> list[int]:
    return []


@pytest.fixture
async def client(registry: CollectorRegistry, scraped: list[int]) -> AsyncIterator[httpx.AsyncClient]:
    # ASGITransport would raise what the application raises; here nothing may come out of it.
    transport = httpx.ASGITransport(application(registry, scraped))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as found:
        yield found


def count(registry: CollectorRegistry, method: str, route: str, status: int) -> float | None:
    labels = {"method": method, "route": route, "status": str(status)}
    return registry.get_sample_value("moard_http_request_seconds_count", labels)


async def test_requests_are_counted_by_route_template(client: httpx.AsyncClient, registry: CollectorRegistry) -> None:
    for path in ("/api/v1/things/1", "/api/v1/things/2"):
        assert (await client.get(path)).status_code == 200
    assert count(registry, "GET", "/api/v1/things/{thing}", 200) == 2


async def test_paths_without_a_route_share_one_label(client: httpx.AsyncClient, registry: CollectorRegistry) -> None:
    for path in ("/a", "/b", "/api/v1/c"):
        assert (await client.get(path)).status_code == 404
    await client.request("BREW", "/pot")
    assert count(registry, "GET", "unmatched", 404) == 3
    assert count(registry, "OTHER", "unmatched", 404) == 1


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/absent", 404), ("DELETE", "/numbers", 405)])
async def test_http_errors_are_problems_with_detail(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert (body["status"], body["title"]) == (status, body["detail"])
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "number",
    ["NaN", "-Infinity", "1e999", '"x"', '"\\ud800"', "null", "[[[[[[1]]]]]]", '{"a": 1}', '"' + "y" * 60 + '"'],
)
async def test_whatever_is_sent_is_answered_naming_the_field(client: httpx.AsyncClient, number: str) -> None:
    answer = await client.post(
        "/numbers", content=f'{{"number": {number}}}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == ["body", "number"]
    assert set(detail) == {"type", "loc", "msg", "input"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"9" * 99, b"[" * 99, b'{"number": ' + b"9" * 80 + b"x"])
async def test_broken_json_is_a_client_error(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/numbers", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "detail" in answer.json()


async def test_an_input_that_is_sent_back_is_shortened(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/things/x", json={})
    assert answer.status_code == 405
    answer = await client.get("/api/v1/things/" + "x" * 5_000)
    assert answer.status_code == 422
    assert len(answer.content) < 1_000


async def test_an_unknown_error_tells_the_client_nothing(
    client: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert count(registry, "GET", "/broken", 500) == 1


async def test_a_store_that_is_away_is_503_with_retry_after(client: httpx.AsyncClient) -> None:
    answer = await client.get("/away")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "secret" not in answer.text


@pytest.mark.parametrize("given", ["abc-123.X_9", "f" * 64])
async def test_a_request_id_is_passed_on(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/absent", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'x"}', "é"])
async def test_a_request_id_that_would_break_a_log_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/absent", headers=[(b"x-request-id", given.encode())])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 10):
        yield b"0123456789"


@pytest.mark.parametrize(("path", "cap"), [("/raw", 100), ("/large", 1_000)])
async def test_a_body_over_the_cap_is_refused_however_it_comes(client: httpx.AsyncClient, path: str, cap: int) -> None:
    assert (await client.post(path, content=b"x" * cap)).json() == cap
    assert (await client.post(path, content=chunks(cap))).json() == cap
    for content in (b"x" * (cap + 1), chunks(cap + 10)):
        answer = await client.post(path, content=content)
        assert answer.status_code == 413
        assert str(cap) in answer.json()["detail"]
    parsed = await client.post("/numbers", content=chunks(200), headers={"content-type": "application/json"})
    assert parsed.status_code == 413


async def test_a_client_that_hangs_up_is_not_an_error(registry: CollectorRegistry) -> None:
    app = application(registry, [])
    sent: list[object] = []

    async def hang_up() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def collect(message: object) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/raw", "headers": [], "query_string": b"", "server": ("t", 80)}
    await app(scope, hang_up, collect)
    assert sent == []
    assert count(registry, "POST", "/raw", 499) == 1


async def test_metrics_are_scraped_after_refreshing(client: httpx.AsyncClient, scraped: list[int]) -> None:
    await client.get("/absent")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'moard_http_request_seconds_count{method="GET",route="unmatched",status="404"} 1.0' in answer.text
    assert scraped == [1]


async def test_the_log_of_a_failure_carries_the_request_id(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await client.get("/broken", headers={"x-request-id": "find-me"})
    assert answer.json()["request_id"] == "find-me"
    printed = capsys.readouterr()
    assert "find-me" in printed.out + printed.err
    assert "hunter2" in printed.out + printed.err


def test_a_body_of_any_kind_is_json() -> None:

    values = [
        float("inf"),
        10**5_000,
        -(2**80),
        b"\xff" * 999,
        {1: {2: {3: {4: {5: 6}}}}},
        list(range(99)),
        object(),
        "\ud800",
    ]
    answer = problem(422, [presentable(value) for value in values])
    assert len(json.loads(bytes(answer.body))["detail"]) == len(values)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    refuse_unsafe_bind(host, allow_insecure=False, setting="MOARD_SERVING_HOST")


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.1", "example.org"])
def test_every_other_address_does(host: str) -> None:
    with pytest.raises(RefusedStart, match=r"MOARD_SERVING_HOST.*MOARD_ALLOW_INSECURE=1"):
        refuse_unsafe_bind(host, allow_insecure=False, setting="MOARD_SERVING_HOST")
    refuse_unsafe_bind(host, allow_insecure=True, setting="MOARD_SERVING_HOST")
