"""Every query of every dashboard and rule, on a real Prometheus that scrapes a system under load."""

import contextlib
import random
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from infra.grafana.dashboards import FOLDER
from tests.e2e.prometheus import Prometheus
from tests.running_system import RunningSystem, eventually

pytestmark = pytest.mark.stack

CONTENTS = range(1, 13)
USERS = 150
RATE_INTERVAL = "10s"
DEADLINE_S = 60.0
RATE = re.compile(r"sum( by \([^)]*\))? ?\((rate|increase)\(")
RATIO = re.compile(r"\) / ")


@pytest.fixture
def settings() -> dict[str, str]:
    """Two serving workers, exploration enough for estimates from a few hundred rows, stories that end in seconds."""
    return {
        "MOARD_SERVING_WORKERS": "2",
        "MOARD_SERVING_TEMPERATURE": "1",
        "MOARD_SERVING_EPSILON": "0.3",
        "MOARD_LEARNER_LEARNING_STARTS": "20",
        "MOARD_LEARNER_BATCH_SIZE": "8",  # slates are looked at each 200 updates
        "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "2",
        "MOARD_LEARNER_CLICK_WINDOW_S": "1",
        "MOARD_LEARNER_DWELL_WINDOW_S": "1",
        "MOARD_LEARNER_HORIZON_S": "2",
        "MOARD_LEARNER_DISPLACEMENT_S": "1",
    }


@pytest.fixture
def prometheus(system: RunningSystem, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus on the running services, whom nobody visits yet."""
    for content_id in CONTENTS:
        system.put_content(content_id, title=f"content {content_id}")
    targets: dict[str, str] = {
        part.name: part.url.removeprefix("http://") for part in (system.ingest, system.learner, system.serving)
    }
    with Prometheus(tmp_path / "prometheus", targets) as running:
        yield running


@contextlib.contextmanager
def visited(system: RunningSystem) -> Iterator[None]:
    """Let visitors come, one after the other, each of whom likes a third of the contents."""
    chance, over = random.Random(7), threading.Event()

    def visit() -> None:
        while not over.is_set():
            user = chance.randrange(USERS)
            answer = system.rank(f"user-{user}", chance.sample(CONTENTS, 3), size=2)
            for shown in answer["slate"]:
                if chance.random() < (0.6 if shown["content_id"] % 3 == user % 3 else 0.1):
                    system.click(f"user-{user}", shown["content_id"], answer["impression_id"])

    visitors = threading.Thread(target=visit)
    visitors.start()
    try:
        yield
    finally:
        over.set()
        visitors.join()


def queries() -> dict[str, str]:
    """Return every query of every committed dashboard, as Grafana would send it, by where it is."""
    return {
        f"{path.stem} / {panel['title']} / {target['refId']}": target["expr"].replace("$__rate_interval", RATE_INTERVAL)
        for path in sorted(FOLDER.glob("*.json"))
        for panel in orjson.loads(path.read_bytes())["panels"]
        for target in panel.get("targets", ())
    }


def test_every_query_is_valid_and_draws_something(system: RunningSystem, prometheus: Prometheus) -> None:
    asked = queries() | prometheus.recorded() | {record: record for record in prometheus.recorded()}
    assert len(asked) > 100
    rates = {name: expr for name, expr in asked.items() if RATE.match(expr) and not RATIO.search(expr)}
    assert len(rates) > 30
    assert lasting(prometheus, rates) == {}  # a rate of nothing is 0

    with visited(system):
        assert lasting(prometheus, asked) == {}
        alerts = prometheus.alerts()
        assert len(alerts) == 20
        silent = {name: prometheus.problem(expr, may_be_silent=True) for name, expr in alerts.items()}
        assert {name: problem for name, problem in silent.items() if problem} == {}
        _wrong_ones_are_found(prometheus)


def lasting(prometheus: Prometheus, asked: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the queries that are still wrong after a while, each with its problem."""
    problems = dict.fromkeys(asked, "not asked")

    def all_well() -> bool:
        problems.update({name: prometheus.problem(asked[name]) for name, problem in problems.items() if problem})
        return not any(problems.values())

    with contextlib.suppress(AssertionError):
        eventually(all_well, "every query", DEADLINE_S)
    return {name: (problem, asked[name]) for name, problem in problems.items() if problem}


def _wrong_ones_are_found(prometheus: Prometheus) -> None:
    lag = "sum by (topic) (moard_learner_consumer_lag_records)"
    assert prometheus.problem(lag) == ""
    assert prometheus.problem(lag.replace("lag_records", "lag_record")).startswith("no series: moard_learner_consumer")
    hidden = "sum(rate(moard_serving_degrade_total[10s])) or vector(0)"
    assert prometheus.problem(hidden).startswith("no series")
    assert prometheus.problem('moard_learner_loss{part="totl"}').startswith("no series")
    assert prometheus.problem("moard_learner_loss > 1e9") == "empty"
    assert prometheus.problem("0 * sum(moard_learner_loss) / 0") == "not a number, all the time"
    assert prometheus.problem("sum(moard_learner_loss").startswith("invalid")
