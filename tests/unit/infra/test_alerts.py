"""Each alert says what to do, and fires when it should and not before."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.tools import PROMTOOL, find
from tests.unit.infra.alert_rules import FOLDER, alerts

ROOT = Path(__file__).parents[3]
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find(PROMTOOL), *arguments], capture_output=True, text=True, check=False)


def test_prometheus_accepts_its_configuration() -> None:
    checked = promtool("check", "config", FOLDER / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_should_and_not_before() -> None:
    tested = promtool("test", "rules", FOLDER / "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_alert_that_never_fires_is_noticed(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.yml"):
        text = path.read_text()
        if path.name == "alerts.yml":
            assert "moard_learner_turn_age_seconds > 60" in text
            text = text.replace("moard_learner_turn_age_seconds > 60", "moard_learner_turn_age > 60")
        (tmp_path / path.name).write_text(text)
    tested = promtool("test", "rules", tmp_path / "alerts_test.yml")
    assert tested.returncode != 0
    assert "MoardLearnerStandsStill" in tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", [rule["alert"] for rule in alerts()])
def test_each_has_cases_in_which_it_fires_and_in_which_it_does_not(alert: str) -> None:
    expected = [test for case in CASES for test in case["promql_expr_test"] if case["name"].startswith(alert)]
    assert any(f'alertname="{alert}"' in sample["labels"] for test in expected for sample in test["exp_samples"])
    assert any(not test["exp_samples"] for test in expected)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_each_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "remedy", "runbook"}
    assert all(said.values())
    page, _, section = said["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert section in anchors
