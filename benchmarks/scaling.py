"""How much faster is training in two processes, and what would 8 and 64 devices reach?

The first is measured: the same training on one core and in two processes on two, in turns, as
`softperm train` does it; so are `--compile` and bfloat16, on one core. The second is calculated,
from the times that a step's parts take on one core here:

    step(N) = compute(b) + draw(N b) + reduce(N) + agree(N)

for N devices with b images each. Every process draws the randomness of the whole step, so that
part grows with N. `reduce` is a ring: 2 (N - 1) / N times the bytes of the gradients over the
bandwidth, and 2 (N - 1) times the latency.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import report
import torch
from timing import limit_threads, seconds
from torch import distributed
from torch.multiprocessing.spawn import spawn

from softperm.program.tasks import Jigsaw, JigsawConfig
from softperm.program.tasks.base import Part
from softperm.program.training.run import Run

TRAIN = (
    *("train", "jigsaw", "--data", "digits", "--image_size", "28", "--pieces", "4"),
    *("--net", "transformer", "--features", "128", "--layers", "3", "--heads", "8"),
    *("--batch_size", "256", "--device", "cpu", "--deterministic", "false"),
)
VARIANTS = {  # the options, and the cores
    "one process": ([], 1),
    "two processes": (["--devices", "2"], 2),
    "bfloat16": (["--precision", "bf16-mixed"], 1),
    "compiled": (["--compile", "true"], 1),
}
CONFIG = JigsawConfig(data="digits", image_size=28, pieces=4, net="transformer", heads=8)
BATCH = 64  # images per device
BANDWIDTH = {8: 100e9, 64: 25e9}  # bytes per second between devices: in one machine, and in eight
LATENCY = 10e-6  # seconds per message
FASTER = (1, 30, 100)  # how many times as fast as a core here a device is


def images_per_second(options: list[str], cores: int, epochs: int) -> list[float]:
    """Those of every epoch but the first, with one thread per process."""

    def pin() -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "softperm", *TRAIN, *options]
        subprocess.run(
            [*command, "--epochs", str(epochs), "--out", str(out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=pin,
        )
        return [row["examples_per_second"] for row in Run(out).read_metrics()[1:]]


def typical(function: Callable[[], object], times: int = 15) -> float:
    """Median seconds of a call."""
    function()
    return median(seconds(function) for _ in range(times))


class Parts:
    """What the parts of a step take on one core here, in seconds, and the bytes of the gradients.

    Arguments:
        answer: Seconds of an answer between two processes; among N it takes log2(N) of them.
    """

    def __init__(self, answer: float) -> None:
        self.answer = answer
        task = Jigsaw(CONFIG)
        net, generator = task.make_net(), torch.Generator().manual_seed(0)
        stored = task.read(torch.arange(BATCH))

        def step() -> None:
            task.loss(net, task.examples(stored, generator)).backward()

        def share(total: int) -> Callable[[], object]:
            """The data of one process of as many as make a step of `total` images."""
            size = total // BATCH
            return lambda: task.examples(stored, generator, Part(0, size), total)

        self.compute = typical(step)
        few, many = typical(share(BATCH)), typical(share(16 * BATCH))
        self.draw = (many - few) / (15 * BATCH)  # per image of another process
        self.bytes = 4 * sum(p.numel() for p in net.parameters())

    def reached(self, devices: int, faster: float) -> float:
        """Images per second of so many devices."""
        others = (devices - 1) * BATCH
        reduce = 2 * (devices - 1) * (self.bytes / devices / BANDWIDTH[devices] + LATENCY)
        agree = self.answer * (devices - 1).bit_length()
        step = (self.compute + others * self.draw) / faster + reduce + agree
        return devices * BATCH / step


def answer_time(rank: int, folder: str) -> None:
    """Time the answers that two processes wait for after every step (gloo); rank 0 writes it."""
    where = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    number = torch.tensor(0)
    taken = typical(lambda: distributed.all_reduce(number), times=200)
    if rank == 0:
        Path(folder, "seconds").write_text(str(taken))
    distributed.destroy_process_group()


def measure_answers() -> float:
    """Seconds of an answer, between two processes."""
    with TemporaryDirectory() as folder:
        spawn(answer_time, (folder,), nprocs=2)
        return float(Path(folder, "seconds").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each number of processes")
    parser.add_argument("--epochs", type=int, default=6, help="epochs per turn, the first left out")
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, (extra, cores) in VARIANTS.items():
            found[name] += images_per_second(extra, cores, options.epochs)
    speeds = {name: median(values) for name, values in found.items()}
    one = speeds["one process"]
    rows = [[name, f"{speed:,.0f}", f"{speed / one:.2f}x"] for name, speed in speeds.items()]
    measured = report.Cells(["", "images/s", "faster than one process"], rows)
    measured.print("scaling")

    answer = measure_answers()
    limit_threads(1)
    parts = Parts(answer)
    header = ["a device is faster than a core here", *(f"{n} devices" for n in BANDWIDTH)]
    calculated = report.Cells(header, [])
    for faster in FASTER:
        alone = BATCH / parts.compute * faster
        cells = [f"{parts.reached(n, faster) / alone:.1f}x" for n in BANDWIDTH]
        calculated.rows.append([f"{faster}x", *cells])
    calculated.print("scaling, calculated")
    print(
        f"per step of {BATCH} images: compute {1e3 * parts.compute:.1f} ms, draw "
        f"{1e6 * parts.draw:.2f} us per image of another process, answer {1e6 * answer:.0f} us, "
        f"gradients {parts.bytes / 1e6:.1f} MB"
    )
    report.publish(
        {"scaling": measured, "scaling-calculated": calculated},
        {"scaling": {"seconds per image": {name: 1 / speed for name, speed in speeds.items()}}},
    )


if __name__ == "__main__":
    main()
