"""Before anything is timed: both servers must say the same."""

from typing import Any, Final

import httpx
import numpy as np
import orjson

from benchmarks.load import Requests
from benchmarks.serving_requests import JSON_BULK, OCTETS

AGREEMENT: Final = 1e-4


def check(ours: str, plain: str, asked: dict[str, Requests]) -> float:
    """Return the largest difference between values of both servers, of bulk, octets and ranked scores.

    Raises
    ------
    AssertionError
        It is more than 1e-4, relative to values above 1: timing them against each other would mean nothing.
    """
    differences = [0.0]
    with httpx.Client(timeout=30) as client:
        for number in range(5):
            bodies = {name: requests.bodies[number] for name, requests in asked.items()}
            values = _post(client, plain, asked[JSON_BULK], bodies[JSON_BULK])["q_values"]
            own = [_post(client, ours, asked[kind], bodies[kind])["q_values"] for kind in (JSON_BULK, OCTETS)]
            differences += [_apart(one, values) for one in own]
            differences.append(_scores_apart(client, ours, plain, asked["rank, 100 ids"], bodies["rank, 100 ids"]))
    worst = max(differences)
    assert worst <= AGREEMENT, f"the servers disagree by {worst}"
    return worst


def _scores_apart(client: httpx.Client, ours: str, plain: str, requests: Requests, body: bytes) -> float:
    request = orjson.loads(body) | {"size": 50}  # both draw; with half of the candidates they have some in common
    answers = [_post(client, url, requests, orjson.dumps(request))["slate"] for url in (ours, plain)]
    one, other = ({position["content_id"]: position["score"] for position in slate} for slate in answers)
    shared = sorted(one.keys() & other.keys())
    assert shared, "no content in both slates"
    return _apart([one[content_id] for content_id in shared], [other[content_id] for content_id in shared])


def _apart(ours: list[float], plain: list[float]) -> float:
    one, other = np.array(ours), np.array(plain)
    return float((np.abs(one - other) / np.maximum(1.0, np.abs(other))).max())


def _post(client: httpx.Client, url: str, requests: Requests, body: bytes) -> Any:
    answer = client.post(url + requests.path, content=body, headers={"content-type": requests.content_type})
    assert answer.status_code == 200, answer.text
    return answer.json()
