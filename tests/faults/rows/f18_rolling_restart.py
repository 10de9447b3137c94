"""F18: the workers of serving are replaced one by one while users are served."""

import os
import signal
from collections.abc import Mapping

from infra.services import ServiceName
from tests.faults.checker import (
    DELIVERY,
    epochs_never_go_back,
    offsets_never_go_back,
    pointers_fit_blobs,
    something_happened,
    statuses,
)
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import RunningSystem, eventually

WORKERS = 2


def run(trial: Trial) -> None:
    own: Mapping[ServiceName, Mapping[str, str]] = {"serving": {"MOARD_SERVING_WORKERS": str(WORKERS)}}
    with trial.stack() as stack, trial.under_load(stack, own=own, backends=2) as system:
        for number in range(1, 1 + trial.choose(full=3, short=1)):
            eventually(lambda: metric(system, "worker_ready") == WORKERS, "all workers", DEADLINE_S)
            trial.pause(0.2, 1.0)
            trial.inject("SIGHUP serving")
            with trial.recovering("all workers are replaced"):
                while not rolled(system, number):  # given up where a new worker was not ready in 60 s: a busy machine
                    continue
        trial.await_snapshot()


def rolled(system: RunningSystem, times: int) -> bool:
    """Ask for a rolling restart and return, once it is over, whether all workers were replaced so many times."""
    given_up = metric(system, "rolling_restarts_total", result="abandoned")
    os.kill(system.serving.pid, signal.SIGHUP)
    eventually(
        lambda: (
            metric(system, "rolling_restarts_total", result="done") == times
            or metric(system, "rolling_restarts_total", result="abandoned") > given_up
        ),
        "the rolling restart",
        DEADLINE_S,
    )
    return metric(system, "rolling_restarts_total", result="done") == times


def metric(system: RunningSystem, name: str, **labels: str) -> float:
    return system.metric(system.serving.url, f"moard_serving_{name}", **labels)


ROW = Row(
    "F18",
    fault="rolling restart of serving workers under load",
    must_hold="0 failed requests",
    run=run,
    # A client that two workers answer in turn may see the newer version first: for each worker they rise.
    checks=(
        something_happened,
        *DELIVERY,
        offsets_never_go_back,
        epochs_never_go_back,
        pointers_fit_blobs,
        statuses(rank=(200,)),
    ),
)
