"""The harness: what is recorded, how variants are compared, what is found."""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks.harness import Bench, discover, execute, interleave, table


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("update-step", seed=7, results=tmp_path, console=Console(file=io.StringIO()))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with two benchmarks and a module that is none."""
    name = "bench_package"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "update_step.py").write_text("def run(bench):\n    bench.record('split', 'time', 20.0, 'ms', n=5)\n")
    (folder / "learner.py").write_text("async def run(bench):\n    bench.record('live', 'rate', 3000, 'events/s')\n")
    (folder / "world.py").write_text("raise RuntimeError('imported')\ndef step():\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def test_a_figure_is_one_json_line_with_the_agreed_names(bench: Bench, tmp_path: Path) -> None:
    bench.record("split", "time", 20.5, "ms", n=5)
    bench.record("naive", "time", 110, "ms", n=5, seed=8)

    lines = [json.loads(line) for line in (tmp_path / "update-step.jsonl").read_text().splitlines()]
    assert lines == [
        {"name": "update-step", "variant": "split", "metric": "time", "value": 20.5, "unit": "ms", "n": 5, "seed": 7},
        {"name": "update-step", "variant": "naive", "metric": "time", "value": 110, "unit": "ms", "n": 5, "seed": 8},
    ]


def test_a_second_run_appends(bench: Bench, tmp_path: Path) -> None:
    bench.record("split", "time", 1, "ms")
    Bench("update-step", results=tmp_path).record("split", "time", 2, "ms")

    assert len((tmp_path / "update-step.jsonl").read_text().splitlines()) == 2


def test_variants_take_turns_and_each_round_is_a_ratio_of_its_own() -> None:
    order: list[str] = []
    times = {"a": iter([1.0, 2.0, 30.0]), "b": iter([2.0, 4.0, 60.0])}  # the third round was slow for both

    def measured(name: str) -> float:
        order.append(name)
        return next(times[name])

    compared = interleave({"a": lambda: measured("a"), "b": lambda: measured("b")}, rounds=3)

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert compared.median("a") == 2.0
    assert compared.ratio("b", to="a") == 2.0


def test_progress_hands_everything_on(bench: Bench) -> None:
    assert list(bench.progress(range(5), "counting")) == [0, 1, 2, 3, 4]


def test_modules_with_a_run_are_found_without_importing_them(package: str) -> None:
    assert discover(package) == {"update-step": f"{package}.update_step", "learner": f"{package}.learner"}


def test_plain_and_async_benchmarks_run(package: str, bench: Bench) -> None:
    for module in discover(package).values():
        execute(module, bench)

    assert {figure.variant for figure in bench.figures} == {"split", "live"}


def test_the_table_shows_every_figure_and_warns_of_a_short_round(tmp_path: Path) -> None:
    bench = Bench("learner", short=True, results=tmp_path)
    bench.record("live", "rate", 3141.5, "events/s", n=2)
    shown = Console(file=io.StringIO(), width=120)
    shown.print(table(bench))

    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "3,142" in text
    assert "events/s" in text
    assert "not for quoting" in text


def test_one_failure_of_all_is_reported_after_the_others_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(bench: Bench) -> None:
        raise ZeroDivisionError("no samples")

    modules = {"bench_bad": fail, "bench_good": lambda bench: bench.record("v", "m", 1, "s")}
    for name, run in modules.items():
        module = ModuleType(name)
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(command, "discover", lambda: {"bad": "bench_bad", "good": "bench_good"})

    assert command.main(["all", "--short"]) == 1

    written = capsys.readouterr()
    assert "failed: bad" in written.err
    assert "no samples" in written.err
    assert (tmp_path / ".moard/bench/good.jsonl").exists()


def test_an_unknown_name_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nonsense"])

    assert "all" in capsys.readouterr().err
