"""How much memory does a folder of pictures take, whatever their number? On Linux.

Folders of N and of 10 N pictures are made. For each of them a process of its own opens the jigsaw
task and reads all training images in batches, as a training does. Before and afterwards it reads
its resident memory: RssAnon is its own, RssFile is that of mapped files, which the system takes
back when it needs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import report
import torch
from PIL import Image
from timing import limit_threads

from softperm.data import cache
from softperm.program.tasks import Jigsaw, JigsawConfig
from softperm.program.training.loader import stored_examples

SIDE, BATCH = 64, 256
# What a row shows: whether the cache can be written to, whether it is there, and the workers.
ROWS = {
    "held in memory": (False, False, 0),
    "cache made and read": (True, False, 0),
    "cache read": (True, True, 0),
    "cache read by 2 workers": (True, True, 2),
}
Measured = dict[str, float]


def resident() -> tuple[float, float]:
    """RssAnon and RssFile of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    anonymous, file = (int(values[name].split()[0]) / 1000 for name in ("RssAnon", "RssFile"))
    return anonymous, file


def paint(folder: Path, n: int) -> None:
    """So many JPEGs of noise on a ramp."""
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 200, SIDE, dtype=np.uint8)[:, None, None]
    folder.mkdir()
    for i in range(n):
        pixels = ramp + draw.integers(0, 56, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:07}.jpg")


def measure(folder: str, workers: int) -> Measured:
    """One pass over all training images of a folder in this process."""
    Jigsaw(JigsawConfig(data="digits"))  # what is loaded at first use
    before, started = resident(), time.process_time()
    task = Jigsaw(JigsawConfig(data=folder, image_size=SIDE))
    steps = torch.randperm(task.n_train).split(BATCH)
    opened = time.process_time()
    for images in stored_examples(task.images.train.__getitem__, steps, workers):
        task.puzzle.cut(images)
    after = resident()
    return {
        "anonymous": after[0] - before[0],
        "file": after[1] - before[1],
        "CPU seconds to open": opened - started,
        "images per CPU second": task.n_train / (time.process_time() - opened),
    }


def measure_apart(folder: Path, user_cache: Path, workers: int) -> Measured:
    """`measure` in a fresh process with a cache in its place."""
    options = ["--folder", str(folder), "--cache", str(user_cache), "--workers", str(workers)]
    command = [sys.executable, __file__, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: Measured = json.loads(done.stdout)
    return measured


def compare(sizes: Iterable[int]) -> dict[int, dict[str, Measured]]:
    """Every row for folders of so many pictures."""
    results: dict[int, dict[str, Measured]] = {}
    with tempfile.TemporaryDirectory() as place:
        no_folder = Path(place, "none")
        no_folder.touch()
        for n in sizes:
            folder, own_cache = Path(place, str(n)), Path(place, f"cache-{n}")
            paint(folder, n)
            results[n] = {}
            for name, (writable, is_there, workers) in ROWS.items():
                if is_there != own_cache.exists():
                    raise RuntimeError(f"{own_cache} must be there where a row says so")
                where = own_cache if writable else no_folder
                results[n][name] = measure_apart(folder, where, workers)
    return results


def memory_table(results: dict[int, dict[str, Measured]]) -> report.Cells:
    """MB that opening and reading a folder adds."""
    header = [""]
    for n in results:
        pixels = 3 * SIDE**2 * n / 1e6
        header += [f"{n:,} images ({pixels:,.0f} MB): own", "mapped"]
    rows = []
    for name in ROWS:
        values = (results[n][name][kind] for n in results for kind in ("anonymous", "file"))
        rows.append([name, *(f"{value:,.0f}" for value in values)])
    return report.Cells(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="N, pictures in the small folder")
    parser.add_argument("--folder", help="measure this one here, and print JSON")
    parser.add_argument("--cache", type=Path, help="with --folder: the user's cache")
    parser.add_argument("--workers", type=int, default=0, help="with --folder: processes that read")
    parser.add_argument("--quick", action="store_true", help=report.QUICK)
    options = parser.parse_args()
    limit_threads(1)
    if options.folder:
        cache.user_cache = lambda: options.cache
        print(json.dumps(measure(options.folder, options.workers)))
        return
    n = options.images // 10 if options.quick else options.images
    results = compare((n, 10 * n))
    table = memory_table(results)
    table.print("MB of memory")
    kinds = [kind for kind in results[n]["cache read"] if "second" in kind]
    speeds = [
        [name, *(f"{results[n][name][kind]:,.2f}" for n in results for kind in kinds)]
        for name in ROWS
    ]
    report.Cells(["", *(f"{n:,}: {kind}" for n in results for kind in kinds)], speeds).print("time")
    if not options.quick:
        report.write_sections({"many images": table.markdown()})


if __name__ == "__main__":
    main()
