"""What a stack writes down about what it has running."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra.processes import identify
from infra.run_state import RunningServer, RunState
from libs.errors import RefusedStart

ME = identify(os.getpid())


def test_what_was_written_down_comes_back(tmp_path: Path) -> None:
    assert ME is not None
    server = RunningServer(ME, (12_001, 12_002), detached=True)
    RunState(tmp_path).record("kafka", server)
    assert RunState(tmp_path).running() == {"kafka": server}


def test_one_that_ended_is_known_by_its_ports_but_not_running(tmp_path: Path) -> None:
    assert ME is not None
    gone = RunningServer(replace(ME, birth="an earlier boot:1"), (12_001,))
    RunState(tmp_path).record("redis", gone)
    assert RunState(tmp_path).running() == {}
    assert RunState(tmp_path).last() == {"redis": gone}


def test_servers_started_side_by_side_are_all_written_down(tmp_path: Path) -> None:
    assert ME is not None
    state = RunState(tmp_path)
    names = [f"server-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: state.record(name, RunningServer(ME, (1,))), names))
    assert set(state.running()) == set(names)


def test_a_folder_has_one_owner_and_the_refusal_names_it(tmp_path: Path) -> None:
    with (
        RunState(tmp_path).owned(),
        pytest.raises(RefusedStart, match=f"in use by process {os.getpid()}"),
        RunState(tmp_path).owned(),
    ):
        pass
    with RunState(tmp_path).owned():
        pass
