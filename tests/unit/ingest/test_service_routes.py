"""Probes, and a documentation that says what the routes do."""

import jsonschema

from tests.unit.ingest.stand import Stand


async def test_ready_says_what_is_missing_and_alive_does_not_care(stand: Stand) -> None:
    assert (await stand.client.get("/readyz")).json() == {"ready": True, "waiting_for": []}
    stand.missing = ["topics", "broker"]
    away = await stand.client.get("/readyz")
    assert away.status_code == 503
    assert away.headers["retry-after"]
    assert away.json()["waiting_for"] == ["topics", "broker"]
    assert (await stand.client.get("/healthz")).status_code == 200


async def test_metrics_are_served(stand: Stand) -> None:
    await stand.post({"type": "interaction", "user_id": "u", "kind": "click", "content_id": 1})
    text = (await stand.client.get("/metrics")).text
    assert 'moard_ingest_events_total{result="accepted"} 1.0' in text
    assert 'route="/api/v1/events",status="202"' in text


async def test_wrong_addresses_and_methods_are_problems(stand: Stand) -> None:
    for method, path, status in (("GET", "/api/v1/events", 405), ("POST", "/api/v1/none", 404)):
        answer = await stand.client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_openapi_documents_bodies_and_every_status(stand: Stand) -> None:
    document = (await stand.client.get("/openapi.json")).json()
    events = document["paths"]["/api/v1/events"]["post"]
    refusals = {"400", "401", "403", "408", "413", "415", "422", "429", "431", "503"}
    assert set(events["responses"]) == {"202"} | refusals
    assert set(document["paths"]["/api/v1/contents/{content_id}"]["put"]["responses"]) == {"200"} | refusals
    assert events["security"] == [{"key": ["ingest"]}, {}]
    references = {
        response["content"]["application/problem+json"]["schema"]["$ref"].rsplit("/", 1)[1]
        for status, response in events["responses"].items()
        if status != "202"
    }
    assert references <= set(document["components"]["schemas"])


async def test_the_documented_schema_takes_what_the_route_takes(stand: Stand) -> None:
    document = (await stand.client.get("/openapi.json")).json()
    body = document["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    good = [
        body["example"],
        {"type": "impression", "user_id": "u", "slate": [1]},
        {"events": [{"type": "interaction", "user_id": "u", "kind": "seen", "impression_id": "i", "positions": [0]}]},
    ]
    bad = [{"user_id": "u", "kind": "click", "content_id": 1}, {"events": []}, {"type": "interaction", "user_id": "u"}]
    validator = jsonschema.Draft202012Validator(body["schema"])
    for item in good:
        assert validator.is_valid(item), item
        assert (await stand.post(item)).status_code == 202
    for item in bad:
        assert not validator.is_valid(item), item
        assert (await stand.post(item)).status_code == 422


async def test_docs_page_is_there(stand: Stand) -> None:
    assert (await stand.client.get("/docs")).status_code == 200
