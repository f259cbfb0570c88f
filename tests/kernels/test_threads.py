"""Calling compiled code in several threads, and cutting a batch up for them."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any

import pytest
import torch

from softperm import matching, sinkhorn
from softperm.kernels.cpu import numba_jobs, threads
from softperm.kernels.cpu.numba_work import Work


@pytest.fixture(params=["openmp", "pool"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "pool":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        pytest.skip("no OpenMP here")
    return name


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [1, 2])
def test_every_thread_gets_the_pointer(count: int) -> None:
    seen: list[int] = []
    threads.call_in_threads(threads.Job(seen.append), 1234, count)
    assert 1 <= len(seen) <= count  # OpenMP may have fewer threads
    assert set(seen) == {1234}


def test_threads_of_the_pool_end_before_an_interrupt_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    caller, begun, ended = threading.get_ident(), threading.Event(), threading.Event()

    def work(_: int) -> None:
        if threading.get_ident() == caller:
            begun.wait(20)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.2)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        threads.call_in_threads(work, 0, 2)
    assert ended.is_set()


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="a single core")
@pytest.mark.usefixtures("way")
def test_threads_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)
    seen: list[int] = []

    def meet(_: Any) -> None:
        seen.append(both.wait())

    threads.call_in_threads(threads.Job(meet), 0, 2)
    assert sorted(seen) == [0, 1]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("batch", [2, 7, 64])
def test_every_matrix_is_done(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    x = torch.randn(batch, 70, 70)
    assert torch.equal(matching(x), torch.stack([matching(one) for one in x]))
    S = torch.stack([sinkhorn(one) for one in x])
    torch.testing.assert_close(sinkhorn(x), S)


def test_parts_that_no_thread_took_are_done_too(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []

    def one_thread(function: Any, pointer: int, count: int) -> None:
        alone.append(count)
        function(pointer)

    x = torch.randn(8, 70, 70)
    expected = matching(x)
    monkeypatch.setattr(numba_jobs, "call_in_threads", one_thread)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(matching(x), expected)
    assert alone == [3]


def test_few_entries_stay_in_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(numba_jobs, "call_in_threads", lambda _f, _p, count: counts.append(count))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for batch in (8, 8_000):
        matching(torch.randn(batch, 4, 4))
    assert counts == [1, 3]


def test_a_part_that_fails_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any, pointer: int, count: int) -> None:
        Work.from_address(pointer).next = count

    monkeypatch.setattr(numba_jobs, "call_in_threads", fail)
    with pytest.raises(MemoryError, match="matching at n = 4"):
        matching(torch.randn(8, 4, 4))


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
