"""However many pictures a folder holds, they take no more memory than a few."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from softperm.data import cache, load_folder
from softperm.nn import Puzzle
from softperm.program.training.loader import stored_examples

N, SIDE = 6000, 64
TOTAL = N * 3 * SIDE**2  # bytes
PUZZLE = Puzzle(2, 3, SIDE, SIDE, (0.5,) * 3, (0.5,) * 3)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


def own_memory() -> int:
    """Bytes of memory of this process, without those of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def growth(folder: Path, workers: int) -> int:
    """By how much memory grows at most while a folder is loaded, made known and read."""
    gc.collect()
    before, most = own_memory(), 0
    count = 0

    def look() -> None:
        nonlocal most
        most = max(most, own_memory() - before)

    def paint(path: Path, *, size: int, channels: int) -> Tensor:
        nonlocal count
        count += 1
        if count % 100 == 0:
            look()
        return torch.full((channels, size, size), int(path.stem) % 256, dtype=torch.uint8)

    with mock.patch("softperm.data.reading.read_image", paint):
        data = load_folder(folder, size=SIDE)
    look()
    total = 0
    steps = torch.randperm(len(data.train)).split(64)
    for _ in range(3 if workers else 1):  # what is not given back adds up
        for images in stored_examples(data.train.__getitem__, steps, workers):
            pieces = PUZZLE.cut(images)
            total += int(pieces[:, 0, 0, 0, 0].sum())
            look()
    total //= 3 if workers else 1
    for images in data.test.split(64):
        total += int(images[:, 0, 0, 0].sum())
        look()
    assert total == sum(i % 256 for i in range(N))
    return most


def growths(folder: Path, cached: Path, workers: int = 0) -> list[int]:
    """Those of two loads in a fresh process, whose memory no other test has grown."""
    command = [sys.executable, __file__, str(folder), str(cached), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(N):
        (folder / f"{i}.png").touch()
    return folder


def test_what_is_read_from_the_cache_is_not_held(folder: Path, tmp_path: Path) -> None:
    """Neither while the cache is made nor afterwards."""
    making, reading = growths(folder, tmp_path / "cache")
    assert making < 0.7 * TOTAL
    assert reading < 0.4 * TOTAL


def test_nor_is_what_workers_read(folder: Path, tmp_path: Path) -> None:
    """Freed memory is given back; else more is kept than all images take."""
    assert max(growths(folder, tmp_path / "cache", workers=2)) < 0.8 * TOTAL


def test_without_a_cache_it_is(folder: Path, tmp_path: Path) -> None:
    """So the other test can fail."""
    (tmp_path / "cache").touch()
    assert min(growths(folder, tmp_path / "cache")) > 0.9 * TOTAL


if __name__ == "__main__":
    with mock.patch.object(cache, "user_cache", return_value=Path(sys.argv[2])):
        for _ in range(2):
            print(growth(Path(sys.argv[1]), int(sys.argv[3])))
