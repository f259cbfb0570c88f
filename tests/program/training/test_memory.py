"""What is freed stays with the process that trains."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Blocks that are freed together, as of the layers of a network; the first steps are left out.
FAULTS = """
import resource, sys, torch
from softperm.program.training.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    keep_freed_memory()
for step in range(30):
    if step == 15:
        before = faults()
    blocks = [torch.empty(250_000 * k).fill_(1.0) for k in range(1, 9)]
    del blocks
print(faults() - before)
"""


def page_faults(how: str) -> int:
    """Where the C library is told to give back what it can, the pages that had to be cleared."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told")
def test_what_is_freed_is_kept() -> None:
    without = page_faults("freed")
    if without < 1000:
        pytest.skip("not glibc")
    assert page_faults("kept") < without / 100
