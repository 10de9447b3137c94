"""``python -m benchmarks NAME [--short] [--seed N]``: run one benchmark, or ``all`` of them."""

import argparse
import os
import sys
import time
import traceback

from rich.console import Console

from benchmarks.harness import RESULTS, Bench, discover, execute, table


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 0, or 1 when a benchmark failed."""
    known = discover()
    options = _parse(arguments, sorted(known))
    # One thread a process, before numpy or torch read it: two are slower than one where the machine has two cores
    # and a broker to feed (rl.md §8), and a figure that depends on the number of cores cannot be compared.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    names = sorted(known) if options.name == "all" else [options.name]
    failed = [name for name in names if not _run(known[name], Bench(name, options.short, options.seed))]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parse(arguments: list[str] | None, known: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*known, "all"], help="which one")
    parser.add_argument("--short", action="store_true", help="a quick round that shows that it works")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default %(default)s)")
    return parser.parse_args(arguments)


def _run(module: str, bench: Bench) -> bool:
    started = time.perf_counter()
    try:
        execute(module, bench)
    except Exception:  # noqa: BLE001 - shown in full, and the others of `all` still get their turn
        traceback.print_exc()
        return False
    Console().print(table(bench))
    bench.note(f"{time.perf_counter() - started:.0f} s; appended to {RESULTS / bench.name}.jsonl")
    return True


if __name__ == "__main__":
    sys.exit(main())
