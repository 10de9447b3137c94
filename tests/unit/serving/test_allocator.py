"""A worker must not grow with every snapshot."""

import subprocess
import sys

# Arrays of a snapshot come and go while small things that stay are made in between, as requests do.
CHURN = """
import numpy as np
from pathlib import Path
from services.serving.allocator import return_freed_memory

def held_mb():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024

return_freed_memory()
before, kept = held_mb(), []
for _ in range(8):
    for size in (26, 26):  # half rows of the network, in MB
        table = np.ones(size * 2**18, np.float32)
        table = None
    tables = [np.ones(size * 2**18, np.float32) for size in (14, 7, 7, 1)]
    kept += [bytes(1_000) for _ in range(200)]
    del tables
print(held_mb() - before - sum(map(len, kept)) / 2**20)
"""


def test_what_a_snapshot_took_goes_back_when_it_is_replaced() -> None:
    done = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) < 10  # MB; 29 as the C library does it by itself
