"""Sharing a batch out over threads."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch

from softperm import sinkhorn
from softperm.ops.kernels import threads

LARGE = 1_000_000  # entries: enough for threads to pay


@pytest.fixture(params=["openmp", "pool"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "pool":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        pytest.skip("no OpenMP here")
    return name


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("units", [1, 2, 7, 64])
def test_every_unit_is_done_once(units: int) -> None:
    done: list[int] = []
    threads.share(lambda lo, hi: done.extend(range(lo, hi)), units, LARGE)
    assert sorted(done) == list(range(units))


@pytest.mark.usefixtures("way")
def test_arguments_come_first() -> None:
    seen: list[tuple[str, int, int]] = []
    threads.share(lambda name, lo, hi: seen.append((name, lo, hi)), 1, LARGE, "x")
    assert seen == [("x", 0, 1)]


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="a single core")
@pytest.mark.usefixtures("way")
def test_ranges_are_done_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)
    seen: list[int] = []
    threads.share(lambda lo, hi: seen.append(both.wait()), 2, LARGE)
    assert sorted(seen) == [0, 1]


@pytest.mark.usefixtures("way")
def test_an_error_in_any_range_is_raised() -> None:
    def fail_last(lo: int, hi: int) -> None:
        if hi == 8:
            raise ZeroDivisionError("in the last range")

    with pytest.raises(ZeroDivisionError, match="in the last range"):
        threads.share(fail_last, 8, LARGE)


def test_few_entries_stay_in_the_calling_thread() -> None:
    callers: list[int] = []
    threads.share(lambda lo, hi: callers.append(threading.get_ident()), 8, 100)
    assert callers == [threading.get_ident()]


def _row_sums(x: torch.Tensor, queue: multiprocessing.Queue[float]) -> None:
    queue.put(float(sinkhorn(x).sum()))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_process_can_compute() -> None:
    x = torch.randn(64, 22, 22)  # shared out by us; PyTorch's own operations on more would hang
    total = float(sinkhorn(x).sum())  # the threads of this process are awake
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[float] = context.Queue()
    child = context.Process(target=_row_sums, args=(x, queue))
    child.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(total)
    finally:
        child.kill()
        child.join()
