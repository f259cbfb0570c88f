"""Problems for the kernels, their solution by the plain loop in float64, and what may differ."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.kernels import cpu, reference
from softperm.kernels.cpu import library
from softperm.kernels.reference import Problem, Settings
from tests import references

N_ITERS = 5
DTYPES = [torch.float32, torch.float64]
# Safe; in float32 too low for scalings, or for some matrices; in float64 too.
TEMPERATURES = (1.0, 0.1, 0.01, 1e-4)
REACH = {torch.float32: 70.0, torch.float64: torch.inf}  # 2 log 1e15: how far scalings lift K


def compiled_levels() -> list[int]:
    """The levels of instruction sets that this processor has; none without compiled kernels."""
    if not cpu.is_available():
        return []
    return list(range(library._load(0).softperm_level() + 1))


def use_level(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels of a level do everything."""
    use_library(library._load(level), monkeypatch)


def use_library(compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these kernels do everything."""
    monkeypatch.setattr(library, "_library", lambda: compiled)
    monkeypatch.setattr(library, "function", cache(library.function.__wrapped__))


def use_layout(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let matrices of every size be done in lanes, or along rows."""
    monkeypatch.setattr(cpu, "_in_lanes", lambda *_: layout == "lanes")


def use_threads(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels believe that PyTorch uses so many threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)


def settings(tol: float = 0.0, log: bool = False, n_iters: int = N_ITERS) -> Settings:
    return Settings(n_iters, tol, log, "cpu")


def forward(
    given: Problem, how: Settings, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """With everything that can be known."""
    out, iters, error, scalings = cpu.forward(given, how, keep)
    assert iters is not None
    assert error is not None
    return out, iters, error, scalings


def _totals(batch: int, lines: int, seed: int) -> Tensor:
    """Positive sums of lines, whose total is 1 for every matrix."""
    source = torch.Generator().manual_seed(seed)
    sums = torch.rand(batch, lines, generator=source, dtype=torch.float64) + 0.2
    return sums / sums.sum(-1, keepdim=True)


def _sums(kind: str, batch: int, m: int, n: int) -> tuple[Tensor | None, Tensor | None]:
    """The logarithms of the sums of rows and columns."""
    if kind == "ones":
        return None, None
    if kind == "columns":
        return None, torch.full((batch, n), m / n, dtype=torch.float64).log()
    rows, columns = _totals(batch, m, 1), _totals(batch, n, 2)
    if kind == "zeros":
        for sums in (rows, columns):
            if sums.shape[-1] > 1:
                sums[:, -1] = 0
                sums[1::2, 0] = 0 if sums.shape[-1] > 2 else sums[1::2, 0]
        rows, columns = (sums / sums.sum(-1, keepdim=True) for sums in (rows, columns))
    return (m * rows).log(), (m * columns).log()


@dataclass(frozen=True)
class Case:
    """Matrices of one shape, their temperatures in turn, and the kind of their sums.

    Where there is a choice a pair is forbidden, and so are lines of which a sum of 0 is wanted.
    """

    batch: int
    m: int
    n: int
    taus: tuple[float, ...] = TEMPERATURES
    sums: str = "ones"

    def problem(self, dtype: Any) -> tuple[Problem, Tensor]:
        """And a gradient of the result."""
        shape = (self.batch, self.m, self.n)
        x = references.matrices(shape, seed=self.n).to(dtype)
        if min(self.m, self.n) > 3:
            x[:, 1, 2] = -torch.inf
        taus = [self.taus[b % len(self.taus)] for b in range(self.batch)]
        tau = torch.tensor(taus, dtype=torch.float64)
        log_rows, log_columns = _sums(self.sums, *shape)
        grad = references.matrices(shape, seed=9).to(dtype)
        if log_rows is not None and log_columns is not None:
            part = log_rows.isfinite().unsqueeze(-1) & log_columns.isfinite().unsqueeze(-2)
            x, grad = x.masked_fill(~part, -torch.inf), grad.masked_fill(~part, 0)
        return Problem(x, tau, log_rows, log_columns), grad


def rounding(given: Problem) -> Tensor:
    """What log S may be off by, for every matrix (batch, 1, 1): 16 units in the last place for
    the sums and the steps, and the rounding of the largest number whose exponential is taken.

    That is x / tau in float64, here and in the loop; in float32 what is beyond the reach of
    scalings is done in float64 before it is rounded. Scalings that bring lines to different sums
    are larger.
    """
    x = given.x
    largest = x.masked_fill(x.isneginf(), 0).abs().amax((-2, -1)).double() / given.tau
    reach = (2 if given.log_columns is None else 4) * largest.clamp(max=REACH[x.dtype])
    return (torch.finfo(x.dtype).eps * (16 + reach))[:, None, None]


def assert_within(found: Tensor, wanted: Tensor, bound: Tensor) -> None:
    """Equality where infinite, and elsewhere to within `bound` and four units in the last place."""
    eps = torch.finfo(found.dtype).eps
    finite = wanted.isfinite()
    assert torch.equal(found[~finite].double(), wanted[~finite])
    difference = (found.double() - wanted).masked_fill(~finite, 0).abs()
    allowed = bound + 4 * eps * wanted.masked_fill(~finite, 0).abs()
    assert bool((difference <= allowed).all()), float((difference / allowed).max())


def _assert_stopped_in_time(given: Problem, how: Settings, iters: Tensor, margin: Tensor) -> None:
    """Not before the row error was below tol, and no step later."""
    if not how.tol:
        assert bool((iters == how.n_iters).all())
        return
    exact = Problem(given.x.double(), *given[1:])
    for steps in range(1, how.n_iters + 1):
        error = reference.forward(exact, settings(n_iters=steps))[2]
        assert bool((error >= how.tol - margin)[iters > steps].all())
        stopped = (iters == steps) & (iters < how.n_iters)
        assert bool((error < how.tol + margin)[stopped].all())


def _steps_of_every_matrix(
    given: Problem, grad: Tensor, iters: Tensor, log: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """S, the row error and the gradients of the loop, by float64, after so many iterations."""
    outs, errors, gradients = [], [], []
    for b, steps in enumerate(iters.tolist()):
        one = Problem(*(None if t is None else t[b : b + 1].double() for t in given))  # type: ignore[arg-type]
        how = settings(log=log, n_iters=steps)
        out, done, error, kept = reference.forward(one, how, keep=True)
        outs.append(out)
        errors.append(error)
        back = reference.backward(grad[b : b + 1].double(), one, done, how, out, kept)
        gradients.append(back)
    dx, d_rows, d_columns = (torch.cat(parts) for parts in zip(*gradients, strict=True))
    return torch.cat(outs), torch.cat(errors), (dx, d_rows, d_columns)


def check(case: Case, dtype: Any, log: bool, tol: float = 0.0) -> list[Tensor]:
    """Everything that the compiled kernels compute, against the loop; the scalings they kept."""
    given, grad = case.problem(dtype)
    how = settings(tol, log)
    out, iters, error, scalings = forward(given, how, keep=True)
    dx, *d_sums = cpu.backward(grad, given, iters, how, out, scalings)
    assert out.dtype == error.dtype == dx.dtype == dtype

    wanted, wanted_error, (wanted_dx, *wanted_sums) = _steps_of_every_matrix(
        given, grad, iters, log
    )
    bound = rounding(given)
    margin = max(case.m, case.n) * bound[:, 0, 0]
    assert_within(out, wanted, bound)
    assert_within(error, wanted_error, margin)
    _assert_stopped_in_time(given, how, iters, margin)
    # The gradient sums over rows and columns in every step; at low temperature it nearly cancels.
    size = torch.maximum(wanted_dx.abs().amax((-2, -1)), 1 / given.tau)[:, None, None]
    assert_within(dx, wanted_dx, N_ITERS * bound * size)
    assert (d_sums == [None, None]) == (given.log_rows is given.log_columns is None)
    for found, expected in zip(d_sums, wanted_sums, strict=True):
        if found is not None:
            size = expected.abs().amax(-1, keepdim=True).clamp(min=1.0)
            assert_within(found, expected, (case.m + case.n) * bound[..., 0] * size)
    return scalings
