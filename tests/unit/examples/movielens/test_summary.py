"""What the summary tells to try: commands that a shell and the services understand."""

import json
import shlex

import pytest

from examples.movielens.live import Addresses
from examples.movielens.summary import next_steps
from libs.events.codec import parse_events


@pytest.fixture
def commands() -> list[list[str]]:
    steps = next_steps(Addresses("http://s:1", "http://i:2", "http://l:3"), "ml-1f-259")
    script = "\n".join(steps).replace("\\\n", " ")
    return [shlex.split(line) for line in script.splitlines() if line.strip().startswith("curl")]


def test_every_body_is_json_and_every_address_is_a_real_one(commands: list[list[str]]) -> None:
    assert len(commands) == 4
    for command in commands:
        assert isinstance(json.loads(command[command.index("-d") + 1]), dict)
        assert any(part.startswith(("http://s:1/api/v1/", "http://i:2/api/v1/")) for part in command)


def test_the_event_to_post_is_a_valid_one(commands: list[list[str]]) -> None:
    (post,) = [command for command in commands if "http://i:2/api/v1/events" in command]

    accepted, rejected = parse_events(post[post.index("-d") + 1].encode())

    assert len(accepted) == 1
    assert rejected == []
