"""The team of threads: every part of a job is done, once, whoever asks for it and from where."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import matching, matching_list, sinkhorn
from softperm.kernels.cpu import library
from tests.conftest import compiled
from tests.kernels import cases

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
pytestmark = compiled


@pytest.fixture
def own_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that has borrowed no threads and hired none."""
    loaded = library._library()
    assert loaded is not None
    cases.use_library(ctypes.CDLL(str(shutil.copy(loaded._name, tmp_path))), monkeypatch)


@pytest.fixture(params=["borrowed", "own"])
def way(request: pytest.FixtureRequest) -> str:
    """PyTorch's threads, where it has any, or our own."""
    chosen: str = request.param
    if chosen == "own":
        request.getfixturevalue("own_threads")
    return chosen


def tasks() -> int:
    """The threads of this process."""
    return len(os.listdir("/proc/self/task"))


def solve(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The iterate, its gradient and the matching."""
    leaf = x.detach().requires_grad_()
    S = sinkhorn(leaf, n_iters=5)
    (dx,) = torch.autograd.grad(S, leaf, x)
    return S.detach(), dx, matching(x)


def assert_same(found: Any, wanted: Any) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("batch", [2, 7, 64])
def test_every_matrix_is_done(threads: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(batch, 70, 70)
    cases.use_threads(1, monkeypatch)
    wanted = solve(x)
    cases.use_threads(threads, monkeypatch)
    for _ in range(5):
        assert_same(solve(x), wanted)
        assert_same(matching_list(list(x)), wanted[2])


@pytest.mark.usefixtures("way")
def test_jobs_of_many_sizes_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(2, 60, 60), (16, 60, 60), (3, 90, 90), (700, 5, 5)]
    cases.use_threads(1, monkeypatch)
    problems = [torch.randn(shape) for shape in shapes]
    wanted = [solve(x) for x in problems]
    cases.use_threads(3, monkeypatch)
    for k in (0, 1, 2, 3, 1, 0, 3) * 20:
        assert torch.equal(matching(problems[k]), wanted[k][2])
    for x, expected in zip(problems, wanted, strict=True):
        assert_same(solve(x), expected)


@LINUX
@pytest.mark.usefixtures("own_threads")
def test_threads_are_hired_once_and_only_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    cases.use_threads(4, monkeypatch)
    before = tasks()
    sinkhorn(torch.randn(8, 4, 4))
    matching(torch.randn(8, 4, 4))
    assert tasks() == before
    for _ in range(3):
        sinkhorn(torch.randn(64, 30, 30))
        assert tasks() == before + 3
    matching(torch.randn(64, 30, 30))
    assert tasks() == before + 3


@LINUX
@pytest.mark.usefixtures("own_threads")
def test_rows_of_a_large_matrix_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cases.use_threads(2, monkeypatch)
    before = tasks()
    sinkhorn(torch.randn(500, 500), n_iters=2)
    assert tasks() == before
    sinkhorn(torch.randn(600, 500), n_iters=2, row_sums=5.0, col_sums=6.0)
    assert tasks() == before + 1


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="threads do not run at the same time")
@pytest.mark.usefixtures("way")
def test_a_thread_with_more_to_do_than_others_does_not_end_the_team(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases.use_threads(2, monkeypatch)
    small, large = [torch.randn(60, 60)] * 4, [torch.randn(1500, 1500)]
    even = torch.randn(64, 64, 64)

    def shared_out() -> bool:
        """A job that takes far longer than threads of OpenMP wait for the next one."""
        begun, before = time.perf_counter(), time.process_time()
        sinkhorn(even, n_iters=2000)
        return time.perf_counter() - begun < 0.65 * (time.process_time() - before)

    before = 0
    for _ in range(6):
        before += shared_out()
        matching_list(small + large + small)
        if shared_out():
            return
        time.sleep(1)
    assert before < 4, "one thread did everything"  # fewer where other programs are in the way


@pytest.mark.usefixtures("own_threads")
@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_matrix_that_fails_in_some_thread_is_named(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_threads(3, monkeypatch)
    x = torch.randn(64, 30, 30)
    x[41, 3] = -torch.inf
    with pytest.raises(ValueError, match=r"\(41,\)"):
        sinkhorn(x, backend=backend)
    with pytest.raises(ValueError, match=r"\(41,\)"):
        matching(x)


def in_python_threads(count: int, work: Callable[[int], None]) -> None:
    """Do some work in several threads at once; the first error of any is raised."""
    errors: list[BaseException] = []

    def guarded(k: int) -> None:
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    team = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("way")
def test_calls_from_many_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cases.use_threads(2, monkeypatch)
    problems = [torch.randn(b, n, n) for b, n in ((64, 22), (8, 60), (1, 520), (300, 8))]
    wanted = [solve(x) for x in problems]

    def work(k: int) -> None:
        for step in range(4):
            which = (k + step) % len(problems)
            assert_same(solve(problems[which]), wanted[which])

    in_python_threads(8, work)


def run(script: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )


BOUNDED = """
import os, torch, softperm

torch.set_num_threads(6)
x, y = torch.randn(2, 130, 130, requires_grad=True), torch.randn(64, 22, 22)

def rounds(count):
    for _ in range(count):
        softperm.sinkhorn(x).square().sum().backward()
        softperm.matching(y)
        softperm.sinkhorn(y[:3])
        torch.randn(400, 400).exp().sum()
    return len(os.listdir("/proc/self/task"))

print(rounds(10), rounds(50))
"""


@LINUX
def test_threads_do_not_become_more() -> None:
    done = run(BOUNDED)
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late <= early <= 6 + 5 + 1  # PyTorch's, at worst our own, and that of autograd


INTERRUPTED = """
import os, signal, threading, time, torch, softperm

torch.set_num_threads(2)
x = torch.randn(64, 48, 48).requires_grad_()
wanted = softperm.sinkhorn(x[:3].detach())

def interrupted(call):
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        call()
        time.sleep(30)  # the call was shorter than that
    except KeyboardInterrupt:
        timer.join()
        return True
    return False

assert interrupted(lambda: softperm.sinkhorn(x.detach(), n_iters=3000))
S = softperm.sinkhorn(x, n_iters=1000)
assert interrupted(lambda: S.backward(x.detach()))
assert interrupted(lambda: [softperm.matching(x.detach()) for _ in range(3000)])
assert (softperm.sinkhorn(x[:3].detach()) == wanted).all()
print("fine")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill does not interrupt there")
def test_an_interrupt_is_raised_and_later_calls_work() -> None:
    done = run(INTERRUPTED)
    assert done.stdout == "fine\n", done.stderr


def test_threads_keep_their_way_with_subnormal_numbers(way: str) -> None:
    small = torch.full((1 << 18,), 1e-40)
    assert bool((small / 2 > 0).all()), way
    for shape in ((64, 64, 64), (1, 600, 600)):
        solve(torch.zeros(shape))
        assert bool((small / 2 > 0).all()), way
