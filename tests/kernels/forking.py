"""Run by test_fork.py: fork a process at bad moments, and print how its children fared."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

PATIENCE = 30.0  # seconds; what hangs, hangs for good


def child(work: Callable[[], object]) -> str:
    """How a child that does some work ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return f"ended with {status}"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def report(step: str, *outcomes: str) -> None:
    bad = [outcome for outcome in outcomes if outcome != "ended with 0"]
    print(f"{step}: {', '.join(bad) or 'fine'}", flush=True)


def wake_openmp() -> None:
    """Let PyTorch use all its threads, which then stay awake for a while."""
    torch.ones(1000, 1000).add(1).sum()


def solve(shape: tuple[int, ...] = (64, 22, 22)) -> list[Any]:
    """What the library computes in several threads, as arrays: PyTorch's own operations on more
    than some ten thousand numbers are not safe after a fork.
    """
    import softperm

    source = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=source).requires_grad_()
    S = softperm.sinkhorn(x)
    (dx,) = torch.autograd.grad(S, x, x.detach())
    return [S.detach().numpy(), dx.numpy(), softperm.matching(x.detach()[:, :, :20]).numpy()]


def same(wanted: list[Any], shape: tuple[int, ...] = (64, 22, 22)) -> None:
    """Raise unless this process gets the same."""
    found = solve(shape)
    assert all((one == other).all() for one, other in zip(found, wanted, strict=True))


def in_a_pool(shape: tuple[int, ...]) -> list[Any]:
    """A job of `multiprocessing`."""
    return solve(shape)


def beside_a_thread() -> None:
    """The library is imported where there is another thread."""
    threading.Thread(target=time.sleep, args=(PATIENCE,), daemon=True).start()
    solve()


def before_it_is_imported() -> None:
    wake_openmp()
    report("import", child(solve))
    wake_openmp()
    report("import beside a thread", child(beside_a_thread))


def before_it_is_called() -> None:
    import softperm  # noqa: F401

    wake_openmp()
    report("first call", child(solve))


def after_calls() -> None:
    large = (1, 520, 520)
    wanted, wanted_large = solve(), solve(large)
    wake_openmp()
    report("after calls", *(child(lambda: same(wanted)) for _ in range(3)))
    report("a large matrix", child(lambda: same(wanted_large, large)))
    many = torch.zeros(8, 100, 100), torch.zeros(400, 100)
    report("many numbers", child(lambda: look_at_many_numbers(*many)))
    report("a fork in a fork", child(lambda: with_a_grandchild(wanted)))
    same(wanted)


def look_at_many_numbers(x: torch.Tensor, y: torch.Tensor) -> None:
    """More than PyTorch itself would look at in this thread alone."""
    import softperm

    softperm.matching(x)
    softperm.matching_list([x[0], y])
    x[:, 0, 1] = -torch.inf
    assert softperm.sinkhorn(x, 1e-4).shape == x.shape
    for value, message in ((-torch.inf, "-inf"), (torch.nan, "got NaN")):
        x[:, 0] = value
        for call in (softperm.sinkhorn, softperm.matching):
            with pytest.raises(ValueError, match=message):
                call(x)


def with_a_grandchild(wanted: list[Any]) -> None:
    same(wanted)
    assert child(lambda: same(wanted)) == "ended with 0"


def with_a_pool() -> None:
    shapes = [(64, 22, 22), (1, 520, 520), (8, 60, 60)] * 2
    wanted = [solve(shape) for shape in shapes]
    wake_openmp()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map_async(in_a_pool, shapes).get(PATIENCE)
    for one, other in zip(found, wanted, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    report("a pool")


def while_another_thread_computes() -> None:
    import softperm

    wanted, stop = solve(), threading.Event()
    x = torch.randn(64, 32, 32)

    def compute() -> None:
        while not stop.is_set():
            softperm.sinkhorn(x, n_iters=300)

    busy = threading.Thread(target=compute)
    busy.start()
    outcomes = [child(lambda: same(wanted)) for _ in range(8)]
    stop.set()
    busy.join()
    report("amid a call", *outcomes)


if __name__ == "__main__":
    torch.set_num_threads(2)
    before_it_is_imported()
    before_it_is_called()
    after_calls()
    with_a_pool()
    while_another_thread_computes()
