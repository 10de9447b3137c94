from dataclasses import replace

import numpy as np
import orjson
import pytest

from benchmarks import choc_kale_world as world
from benchmarks.choc_kale import GAP_S
from benchmarks.choc_kale_live import SETTINGS, USERS, Guest, LiveCrowd, environment, events_of
from benchmarks.choc_kale_play import one_dimensional
from libs.events.codec import MAX_BATCH_EVENTS, parse_events
from libs.events.schema import Interaction
from services.learner.settings import Settings


def test_the_learner_is_told_the_settings_of_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    for gamma in (SETTINGS.gamma, 0.0):
        wanted = replace(SETTINGS, gamma=gamma)
        for name, value in environment(wanted, vector_size=2).items():
            monkeypatch.setenv(name, value)
        told = Settings()
        assert told.agent_settings() == wanted
        assert told.vector_size == 2


def test_a_consumption_is_two_events_in_the_time_of_the_world() -> None:
    guest = Guest("somebody", began_ms=1_700_000_000_000, steps=2)
    accepted, refused = parse_events(orjson.dumps({"events": events_of(guest, "imp", 7, 21.5)}))
    click, reward = (event for _, event in accepted if isinstance(event, Interaction))
    assert refused == []
    assert {click.timestamp_ms, reward.timestamp_ms} == {1_700_000_000_000 + 2 * int(1_000 * GAP_S)}
    assert {click.source, reward.source} == {"backfill"}
    assert (click.kind, reward.kind, reward.value) == ("click", "reward", 21.5)
    assert click.event_id != reward.event_id
    assert 2 * USERS <= MAX_BATCH_EVENTS


def test_users_begin_one_after_the_other_and_make_room_at_the_end() -> None:
    crowd = LiveCrowd("learning", users=4, catalogue=one_dimensional(0, 1_000), seed=0, staggered=True)
    crowds = []
    for _ in range(world.STEPS + 1):
        present = crowd.present()
        crowds.append(len(present))
        brought, expected = crowd.consume(present, [500] * len(present))
        assert len(brought) == len(expected) == len(present)
    assert crowds[:2] == [1, 1]
    assert crowds[15] == 2
    assert crowds[-1] == 4
    assert [guest.user_id for guest in crowd.guests] == ["learning-5", "learning-2", "learning-3", "learning-4"]
    assert [guest.steps for guest in crowd.guests] == [1, 46, 31, 16]


def test_kale_makes_the_next_content_worth_more() -> None:
    crowd = LiveCrowd("fresh", users=500, catalogue=one_dimensional(0, 1_000), seed=0)
    everybody = crowd.present()
    _, before = crowd.consume(everybody, [0] * 500)
    _, after = crowd.consume(everybody, [0] * 500)
    assert np.mean(after) > 1.2 * np.mean(before)
