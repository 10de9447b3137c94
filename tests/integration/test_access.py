"""API keys against a running service: made, used, revoked, without a restart."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from infra.local import Addresses
from infra.services import ServiceProcess

pytestmark = pytest.mark.stack

EVENT = {"type": "interaction", "user_id": "ann", "kind": "click", "content_id": 1}
DEADLINE_S = 5.0  # what docs/security.md promises


def moard(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


def within_the_promise(ask: Callable[[], int], status: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (found := ask()) != status:
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.05)


def test_keys_are_made_used_and_revoked_while_ingest_runs(
    stack: Addresses, services: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    database = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/own.db"}
    ingest = services("ingest", stack.environment() | database)
    with httpx.Client(base_url=ingest.url, timeout=10) as client:

        def post(key: str | None = None) -> int:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            return client.post("/api/v1/events", json=EVENT, headers=headers).status_code

        assert post() == 202  # no key exists: open on loopback
        made = json.loads(moard("keys", "create", "--name", "a", "--scopes", "ingest", "--json", **database))
        within_the_promise(post, 401)
        assert post(made["key"]) == 202
        other = json.loads(moard("keys", "create", "--name", "b", "--scopes", "rank", "--json", **database))
        within_the_promise(lambda: post(other["key"]), 403)
        moard("keys", "revoke", made["id"], **database)
        within_the_promise(lambda: post(made["key"]), 401)
        assert client.get("/readyz").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.get("/docs").status_code == 200
    assert made["key"].split("_", 2)[2] not in ingest.log.read_text()
