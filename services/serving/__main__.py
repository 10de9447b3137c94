"""``python -m services.serving``: read the settings, connect the parts, serve until SIGTERM."""

import os
import sys

from libs.adapters.settings import load_settings
from libs.adapters.telemetry import configure_logging
from libs.errors import RefusedStart
from services.serving.settings import Settings
from services.serving.worker import Place

# One thread for each process, set before numpy reads it: the products here are small, more threads only wait for each
# other, and on a busy machine they make ranking slower (rl.md §8).
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# CPython lets a thread keep the interpreter for 5 ms by default; a snapshot being built would hold up requests.
_SWITCH_INTERVAL_S = 0.0005


def main() -> int:
    """Serve; return the exit status: 0 after SIGTERM, 1 when a background task failed, 2 for a refused start."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        settings, place = load_settings(Settings), Place.parse(sys.argv[1:])
        configure_logging(settings.log_level)
        if place is None and settings.serving_workers > 1:
            from services.serving.supervisor import supervise  # stays small: no numpy, no client of any store

            return supervise(settings)
        from services.serving.server import serve

        return serve(settings, place)
    except RefusedStart as error:
        print(error, file=sys.stderr)  # noqa: T201 - logs may not be configured yet
        return 2


if __name__ == "__main__":
    sys.exit(main())
