"""``python -m services.serving.training OWNER``: work on training tasks in serving's place (ADR 0019).

``services/serving/training_process.py`` starts it. Rankings go first where processors are short.
"""

import asyncio
import os
import signal
import sys
from typing import Final

_NICENESS: Final = 10  # a tenth of the weight of serving, when both want the same processor


def main() -> int:
    """Work until no task is left; return 0. What fails ends in a traceback: serving tells of the exit status."""
    os.nice(_NICENESS)  # first: what is imported below is half a second of work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it reaches the whole group; serving says when
    from libs.adapters.settings import load_settings
    from libs.adapters.telemetry import configure_logging
    from services.serving.settings import Settings
    from services.serving.training_run import work

    settings = load_settings(Settings)
    configure_logging(settings.log_level)
    asyncio.run(work(settings, sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
