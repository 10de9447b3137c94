"""The house rules that a machine can check."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

from services.cli import reference

ROOT = Path(__file__).parents[3]
CODE = ("libs", "services", "infra", "examples", "benchmarks")
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def _python_files() -> list[Path]:
    return [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py")) if "versions" not in path.parts]


def _functions(path: Path) -> list[tuple[str, int]]:
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_files_stay_small() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in _python_files()}
    assert {str(path): n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}
    assert statistics.median(lengths.values()) <= 120


def test_functions_stay_small() -> None:
    functions = [item for path in _python_files() for item in _functions(path)]
    assert [item for item in functions if item[1] > MAX_FUNCTION_LINES] == []
    lengths = [length for _, length in functions]
    assert statistics.median(lengths) <= 10
    assert statistics.quantiles(lengths, n=10)[-1] <= 35


def test_pickles_are_read_by_the_import_of_gensim_files_alone() -> None:
    importing, loading = [], []
    for path in _python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                importing += [path.stem] * bool(names & {"pickle", "joblib", "shelve", "dill", "cloudpickle"})
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "torch.load"):
                loading.append((path.stem, {word.arg: ast.unparse(word.value) for word in node.keywords}))
    assert importing == ["gensim_file"]
    assert [call for call in loading if call[1].get("allow_pickle", call[1].get("weights_only")) is None] == []
    assert [call for call in loading if call[1].get("allow_pickle") == "True"] == []


def test_names_that_attract_everything_are_not_used() -> None:
    vague = {"utils", "helpers", "common", "base", "manager"}
    assert [path for path in _python_files() if path.stem in vague] == []


def test_env_example_and_settings_page_are_what_the_settings_classes_say() -> None:
    remedy = "run: python -m services.cli.reference"
    assert (ROOT / reference.ENV_EXAMPLE).read_text() == reference.env_example(), remedy
    assert (ROOT / reference.SETTINGS_PAGE).read_text() == reference.settings_page(), remedy


def test_every_setting_says_what_it_means() -> None:
    unexplained = [
        f"{title}: {name}"
        for title, cls, names in reference._sections()
        for name in names
        if not cls.model_fields[name].description
    ]
    assert unexplained == []


@pytest.mark.parametrize("path", [ROOT / "requirements.lock"])
def test_lock_names_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    pinned = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, re.MULTILINE)
    assert len(pinned) > 50
    assert text.count("--hash=sha256:") >= len(pinned)


def test_links_in_documents_lead_somewhere() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    links = [
        (name, target)
        for name in tracked.stdout.split()
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text())
        if "://" not in target
    ]
    assert links
    assert [link for link in links if not (ROOT / link[0]).parent.joinpath(link[1]).exists()] == []


def test_metrics_are_named_for_their_service() -> None:
    from prometheus_client import CollectorRegistry

    from libs.adapters.telemetry import IngestMetrics, LearnerMetrics, ServingMetrics

    registry = CollectorRegistry()
    LearnerMetrics(registry, [("moard.events", 0)])
    mirrored = {"kafka_consumergroup_lag"}  # the name that existing dashboards ask for
    names = {metric.name for metric in registry.collect()} - mirrored
    assert names
    assert all(name.startswith("moard_learner_") for name in names)
    for cls, prefixes in (
        (IngestMetrics, ("ingest", "projector", "http")),
        (ServingMetrics, ("serving", "freshness", "http")),
    ):
        registry = CollectorRegistry()
        cls(registry)
        names = {metric.name for metric in registry.collect()} - mirrored
        assert names
        assert all(name.startswith(tuple(f"moard_{prefix}" for prefix in prefixes)) for name in names)
        assert all(metric.documentation for metric in registry.collect())
