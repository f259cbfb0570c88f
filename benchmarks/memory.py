"""Peak memory of one contender's forward and backward passes at one size, on Linux.

Runs in a process of its own: a small call first loads code and starts threads, then the resident
set is read, and its highest level (VmHWM) after the large call. What lies between, input and
weights not counted, is what the call needs; the result is printed in bytes.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from pathlib import Path

import torch
from contenders import OURS, PLAIN, Contender
from timing import limit_threads

WARM_N = 512  # on the same path through the kernels as large matrices


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (highest level ever) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def call(contender: Contender, x: torch.Tensor, weights: torch.Tensor) -> None:
    contender.bind(x, weights, 1.0).both()


def measure(contender: Contender, n: int) -> int:
    """Bytes that both passes on one n x n matrix need at their peak."""
    call(contender, *torch.randn(2, 1, WARM_N, WARM_N))
    x, weights = torch.randn(1, n, n), torch.randn(1, n, n)
    gc.collect()
    before = resident("VmRSS")
    call(contender, x, weights)
    return resident("VmHWM") - before


def measure_apart(name: str, n: int, threads: int) -> int:
    """`measure` in a fresh process, where the allocator gives back at once what is freed."""
    command = [sys.executable, __file__, name, str(n), "--threads", str(threads)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def main() -> None:
    contenders = {contender.name: contender for contender in (OURS, PLAIN)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=contenders)
    parser.add_argument("n", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    limit_threads(options.threads)
    print(measure(contenders[options.contender], options.n))


if __name__ == "__main__":
    main()
