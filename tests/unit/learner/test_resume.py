"""A start that does not fit is refused, naming the setting that resolves it."""

from pathlib import Path
from typing import Any

import pytest

from libs.adapters.ports import TopicPartition
from libs.errors import RefusedStart
from libs.events.topics import CONTENTS, EVENTS
from services.learner.resume import config_of, find_checkpoint, start_offsets
from services.learner.settings import Settings
from tests.unit.learner.test_checkpoint_files import manifest, save

P0, P1, C0 = TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1), TopicPartition(CONTENTS, 0)


def settings(**fields: Any) -> Settings:
    return Settings(vector_size=4, **fields)


def fitting(root: Path) -> str:
    return save(root, 1, config=config_of(settings())).name


def test_a_fitting_checkpoint_is_taken(tmp_path: Path) -> None:
    name = fitting(tmp_path)

    found = find_checkpoint(tmp_path, settings(), "cluster")

    assert found is not None
    assert found.name == name


def test_another_cluster_is_refused_and_named(tmp_path: Path) -> None:
    name = fitting(tmp_path)

    with pytest.raises(RefusedStart, match=f"cluster cluster.* is other.*MOARD_LEARNER_ABANDON_CHECKPOINT={name}"):
        find_checkpoint(tmp_path, settings(), "other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learner_capacity": 7}, "MOARD_LEARNER_CAPACITY is 7, the checkpoint was made with 1000000"),
        ({"learner_consumption": "single"}, "MOARD_LEARNER_CONSUMPTION is 'single'"),
        ({"learner_context_numbers": ("hour",)}, "MOARD_LEARNER_CONTEXT_NUMBERS"),
    ],
)
def test_changed_settings_are_refused_and_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    fitting(tmp_path)

    with pytest.raises(RefusedStart, match=said):
        find_checkpoint(tmp_path, settings(**change), "cluster")


def test_what_was_learned_live_cannot_become_a_function_of_the_log(tmp_path: Path) -> None:
    name = fitting(tmp_path)

    with pytest.raises(RefusedStart, match=f"MOARD_LEARNER_SCHEDULE is 'log'.*'live'.*ABANDON_CHECKPOINT={name}"):
        find_checkpoint(tmp_path, settings(learner_schedule="log"), "cluster")


def test_a_checkpoint_that_names_no_schedule_was_learned_live(tmp_path: Path) -> None:
    config = {name: value for name, value in config_of(settings()).items() if name != "learner_schedule"}
    save(tmp_path, 1, config=config)

    assert find_checkpoint(tmp_path, settings(), "cluster") is not None
    with pytest.raises(RefusedStart, match="MOARD_LEARNER_SCHEDULE"):
        find_checkpoint(tmp_path, settings(learner_schedule="log"), "cluster")


def test_learning_may_go_on_live_after_a_rebuild_by_the_log(tmp_path: Path) -> None:
    save(tmp_path, 1, config=config_of(settings(learner_schedule="log")))

    assert find_checkpoint(tmp_path, settings(), "cluster") is not None
    assert find_checkpoint(tmp_path, settings(learner_schedule="log"), "cluster") is not None


def test_batches_that_can_never_be_full_are_refused_by_name() -> None:
    assert settings(learner_batch_size=20, learner_capacity=10).learner_schedule == "live"
    with pytest.raises(ValueError, match="MOARD_LEARNER_BATCH_SIZE is 20, but MOARD_LEARNER_CAPACITY holds 10"):
        settings(learner_schedule="log", learner_batch_size=20, learner_capacity=10)


def test_a_changed_reward_is_welcome(tmp_path: Path) -> None:
    fitting(tmp_path)

    assert find_checkpoint(tmp_path, settings(learner_reward_weights={"like": 1.0}), "cluster") is not None


def test_an_abandoned_checkpoint_is_left_behind_once(tmp_path: Path) -> None:
    name = fitting(tmp_path)
    told = settings(learner_abandon_checkpoint=name)
    assert find_checkpoint(tmp_path, told, "other") is None

    save(tmp_path, 1, epoch=2, config=config_of(settings()))

    assert find_checkpoint(tmp_path, told, "cluster") is not None


def test_a_start_without_a_checkpoint_reads_from_the_beginning() -> None:
    assert start_offsets(None, {P0: 3, C0: 0}, {P0: 9, C0: 4}, allow_gap=False) == ({P0: 3, C0: 0}, 0)


def test_a_start_goes_on_where_the_checkpoint_ended() -> None:
    saved = manifest(1, offsets={"moard.events:0": 5, "moard.contents:0": 2})

    offsets, gap = start_offsets(saved, {P0: 0, C0: 0}, {P0: 9, C0: 4}, allow_gap=False)

    assert offsets == {P0: 5, C0: 2}
    assert gap == 0


def test_a_log_that_ends_before_the_checkpoint_is_refused() -> None:
    saved = manifest(1, offsets={"moard.events:0": 10})

    with pytest.raises(RefusedStart, match=r"offset 10 of moard.events:0, but that log ends at 9.*ABANDON_CHECKPOINT"):
        start_offsets(saved, {P0: 0}, {P0: 9}, allow_gap=True)


def test_deleted_events_are_counted_and_need_consent() -> None:
    saved = manifest(1, offsets={"moard.events:0": 2, "moard.events:1": 4, "moard.contents:0": 0})
    beginnings = {P0: 5, P1: 5, C0: 3}
    ends = {P0: 9, P1: 9, C0: 9}

    with pytest.raises(RefusedStart, match=r"4 events .*MOARD_LEARNER_ALLOW_GAP=1"):
        start_offsets(saved, beginnings, ends, allow_gap=False)

    assert start_offsets(saved, beginnings, ends, allow_gap=True) == (beginnings, 4)
