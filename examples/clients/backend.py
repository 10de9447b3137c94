"""A Python backend's calls: ``python -m examples.clients.backend [INGEST_URL SERVING_URL]``. Needs httpx and tenacity.

Puts three contents, asks for a ranking, and tells what the user did with it.
"""

import sys
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential_jitter


class Busy(Exception):
    """moard asked to be called again."""


class Moard:
    """The calls that a backend makes. Share one: it keeps connections open.

    Parameters
    ----------
    key
        API key of the scopes ``ingest`` and ``rank``; None where none is configured.
    """

    def __init__(self, ingest_url: str, serving_url: str, key: str | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # A page that waits for its contents does not wait long; what must not be lost may take its time.
        self._ranking = httpx.Client(base_url=f"{serving_url}/api/v1", headers=headers, timeout=0.5)
        self._writing = httpx.Client(base_url=f"{ingest_url}/api/v1", headers=headers, timeout=15)

    def put_content(self, content_id: int, title: str, description: str = "") -> None:
        """Put a content into the catalogue; it can be ranked at once."""
        self._write("PUT", f"/contents/{content_id}", {"title": title, "description": description})

    def rank(self, user_id: str, candidates: Sequence[int], size: int) -> tuple[list[int], str | None]:
        """Return the contents to show and the impression to name in what follows.

        Without an answer in time it is the backend's own order and no impression: the page never fails.
        """
        body = {"user_id": user_id, "candidates": list(candidates), "size": size}
        try:
            answer = self._ranking.post("/rank", json=body).raise_for_status().json()
        except httpx.HTTPError as error:
            print(f"moard did not rank: {error!r}", file=sys.stderr)  # noqa: T201
            return list(candidates[:size]), None
        return [position["content_id"] for position in answer["slate"]], answer["impression_id"]

    def click(self, user_id: str, content_id: int, impression_id: str | None) -> None:
        """Tell of a click. The id is made here, so that a repeated call counts once."""
        event = {
            "type": "interaction",
            "event_id": uuid4().hex,
            "kind": "click",
            "user_id": user_id,
            "content_id": content_id,
            "impression_id": impression_id,
        }
        self._write("POST", "/events", event)

    @retry(
        retry=retry_if_exception_type((Busy, httpx.TransportError)),
        wait=wait_exponential_jitter(initial=0.5, max=10),
        stop=stop_after_delay(60),
        reraise=True,
    )
    def _write(self, method: str, path: str, body: dict[str, Any]) -> None:
        answer = self._writing.request(method, path, json=body)
        if answer.status_code in (429, 503):
            raise Busy(answer.text)
        if answer.is_error:  # 4xx: sending it again would change nothing; the answer names the field
            raise ValueError(answer.text)


def main(ingest_url: str = "http://127.0.0.1:8001", serving_url: str = "http://127.0.0.1:8000") -> None:
    """Make each call once."""
    moard = Moard(ingest_url, serving_url)
    titles = {101: "A year of jazz", 102: "Ten rules of sailing", 103: "Everyday gardens"}
    for content_id, title in titles.items():
        moard.put_content(content_id, title)
    slate, impression_id = moard.rank("ann", list(titles), size=2)
    moard.click("ann", slate[0], impression_id)
    print(f"showed {slate} as impression {impression_id}, clicked {slate[0]}")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
