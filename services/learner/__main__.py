"""``python -m services.learner``: learn from the event stream until SIGTERM."""

import os
import sys

# One thread for each process, set before numpy and torch read it: with a busy second core two threads are two to three
# times slower (rl.md §8).
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    """Learn; return the exit status."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    from services.learner.process import learn_until_stopped

    return learn_until_stopped()


if __name__ == "__main__":
    sys.exit(main())
