"""How long does the first call in a new process take?

Fresh processes import PyTorch and softperm and make their first calls; others do a step of the
plain loop instead, which shows what PyTorch's own first calls take. They take turns; medians are
shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

import report
from plain import THREADS
from timing import limit_threads

SIZE = (64, 16)
SCRIPT = """
import json, sys, time
times, start = {}, time.perf_counter()

def done(what):
    global start
    times[what] = time.perf_counter() - start
    start = time.perf_counter()

import torch
torch.set_num_threads(int(sys.argv[1]))
x = torch.randn(*map(int, sys.argv[3:]), requires_grad=True)
done("import torch")
if sys.argv[2] == "softperm":
    import softperm
    done("import softperm, beyond that")
    softperm.sinkhorn(x).square().sum().backward()
    done("sinkhorn with its gradient")
    softperm.matching(x)
    done("then matching")
else:
    log_p = x
    for _ in range(20):
        log_p = log_p - log_p.logsumexp(-1, keepdim=True)
        log_p = log_p - log_p.logsumexp(-2, keepdim=True)
    log_p.exp().square().sum().backward()
    done("instead: the plain loop with its gradient")
print(json.dumps(times))
"""


def times_of_one(what: str) -> dict[str, float]:
    """Seconds of the steps of one fresh process."""
    sizes = (str(size) for size in (*SIZE, SIZE[-1]))
    command = [sys.executable, "-c", SCRIPT, str(THREADS), what, *sizes]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    times: dict[str, float] = json.loads(found.stdout)
    return times


def medians_of(rounds: int) -> dict[str, float]:
    """Median seconds of every step, and of all that come after the imports."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        ours, plain = times_of_one("softperm"), times_of_one("plain loop")
        first, second = list(ours.values())[-2:]
        ours["both calls"] = first + second
        for step, taken in (ours | plain).items():
            times.setdefault(step, []).append(taken)
    return {step: median(taken) for step, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=report.QUICK)
    options = parser.parse_args()
    limit_threads(THREADS)
    report.require_kernels()
    found = medians_of(2 if options.quick else 11)
    rows = [[step, f"{taken * 1e3:.1f} ms"] for step, taken in found.items()]
    table = report.Cells([f"first call, {report.label(SIZE)}", "median"], rows)
    table.print("The first call in a new process")
    if not options.quick:
        report.publish({"first call": table}, {"first call": {SIZE: found}})


if __name__ == "__main__":
    main()
