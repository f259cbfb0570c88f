"""The compiled CPU kernels, every path by itself, against the float64 loop and autograd through it.

The paths are chosen by size in practice; here each is made to do matrices of every size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, sinkhorn
from softperm.kernels.cpu import numba_cpu, numba_rows_linear
from tests import references

N_ITERS = 5
PATHS = ["lanes", "rows", "shared"]
TEMPERATURES = (1.0, 0.02, 1e-3)  # safe; in float32 too low for scalings; in float64 too
BATCHES = [(1, (1.0,)), (1, (0.02,)), (1, (1e-3,)), (3, TEMPERATURES), (17, TEMPERATURES)]
REACH = {torch.float32: 70.0, torch.float64: torch.inf}  # 2 log 1e15: how far scalings lift K


def force(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cpu._Problem, "in_lanes", lambda _: path == "lanes")
    monkeypatch.setattr(numba_cpu, "_rows_are_shared", lambda *_: path == "shared")


def forward(
    x: Tensor, tau: float | Tensor, tol: float, log: bool, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """With everything that can be known."""
    out, iters, error, scalings = numba_cpu.forward(x, tau, N_ITERS, tol, log, keep)
    assert iters is not None
    assert error is not None
    return out, iters, error, scalings


def problem(
    batch: int, n: int, taus: tuple[float, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, with a forbidden pair where there is a choice, temperatures and a gradient."""
    x = references.matrices((batch, n, n), seed=n).to(dtype)
    if n > 2:
        x[:, 1, 2] = -torch.inf
    tau = torch.tensor([taus[b % len(taus)] for b in range(batch)], dtype=torch.float64)
    return x, tau, references.matrices((batch, n, n), seed=9).to(dtype)


def rounding(x: Tensor, tau: Tensor) -> Tensor:
    """What log S may be off by, for every matrix (batch, 1, 1): 16 units in the last place for
    the sums and the steps, and the rounding of the largest number whose exponential is taken.

    That is x / tau in float64, here and in the loop; in float32 what is beyond the reach of
    scalings is done in float64 before it is rounded.
    """
    largest = x.masked_fill(x.isneginf(), 0).abs().amax((-2, -1)).double() / tau
    reach = 2 * largest.clamp(max=REACH[x.dtype])
    return (torch.finfo(x.dtype).eps * (16 + reach))[:, None, None]


def assert_within(found: Tensor, wanted: Tensor, bound: Tensor) -> None:
    """Equality where infinite, and elsewhere to within `bound` and four units in the last place."""
    eps = torch.finfo(found.dtype).eps
    finite = wanted.isfinite()
    assert torch.equal(found[~finite].double(), wanted[~finite])
    difference = (found.double() - wanted).masked_fill(~finite, 0).abs()
    allowed = bound + 4 * eps * wanted.masked_fill(~finite, 0).abs()
    assert bool((difference <= allowed).all()), float((difference / allowed).max())


def every_step(x: Tensor, tau: Tensor) -> Tensor:
    """log S after 1 to `N_ITERS` steps of the loop, (N_ITERS, batch, n, n)."""
    return torch.stack([references.log_sinkhorn_loop(x, tau, k + 1) for k in range(N_ITERS)])


def check(batch: int, n: int, taus: tuple[float, ...], dtype: Any, tol: float, log: bool) -> None:
    x, tau, grad = problem(batch, n, taus, dtype)
    out, iters, error, scalings = forward(x, tau, tol, log, keep=True)
    dx = numba_cpu.backward(grad, x, tau, iters, N_ITERS, tol, log, out, scalings)
    assert out.dtype == error.dtype == dx.dtype == dtype

    leaf = x.double().requires_grad_()
    steps = every_step(leaf, tau)
    errors = (steps.detach().exp().sum(-1) - 1).abs().amax(-1)
    one_each = torch.arange(batch)
    log_S = steps[iters - 1, one_each]
    wanted = log_S if log else log_S.exp()
    (wanted_dx,) = torch.autograd.grad(wanted, leaf, grad.double())

    bound = rounding(x, tau)
    assert_within(out, wanted.detach(), bound)
    assert_within(error, errors[iters - 1, one_each], n * bound[:, 0, 0])
    # The gradient sums over rows and columns in every step; at low temperature it nearly cancels.
    size = torch.maximum(wanted_dx.abs().amax((-2, -1)), 1 / tau)[:, None, None]
    assert_within(dx, wanted_dx, N_ITERS * bound * size)
    before = torch.arange(N_ITERS)[:, None] < iters - 1
    margin = n * bound[:, 0, 0]
    assert bool((errors >= tol - margin)[before].all())
    assert bool(((errors[iters - 1, one_each] < tol + margin) | (iters == N_ITERS)).all())


@pytest.mark.parametrize(
    ("path", "tol"),
    [("lanes", 0.0), ("rows", 0.0), ("rows", 1e-2), ("shared", 0.0), ("shared", 1e-2)],
)
@pytest.mark.parametrize("n", [1, 3, 5, 16, 17, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log", [False, True])
def test_against_the_loop(
    path: str, tol: float, n: int, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(path, monkeypatch)
    for batch, taus in BATCHES:
        check(batch, n, taus, dtype, tol, log)


@pytest.mark.parametrize("n", [112, 100, 405])  # in place, copied, too large to be copied
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log", [False, True])
def test_rows_of_larger_matrices(
    n: int, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force("rows", monkeypatch)
    check(2, n, (1.0,), dtype, 0.0, log)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("n", [5, 20])
def test_many_unsafe_matrices_along_rows_are_finished_in_lanes(
    n: int, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force("rows", monkeypatch)
    taus = (1.0, 0.02, 1e-3, 1e-3)
    x, tau, _ = problem(16, n, taus, dtype)
    assert len(forward(x, tau, 0.0, log, keep=True)[3]) == 4
    check(16, n, taus, dtype, 0.0, log)


@pytest.mark.parametrize(("path", "tol"), [("lanes", 0.0), ("rows", 0.0), ("rows", 1e-2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 3, 5, 17, 33])
def test_nan_is_refused_wherever_it_is(
    path: str, tol: float, dtype: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(path, monkeypatch)
    for place in range(0, n * n, 1 if n < 9 else 13):
        for neighbour in (0.0, 100.0, torch.inf):
            x, tau, _ = problem(3, n, (1.0,), dtype)
            x[1].view(-1)[place - 1] = neighbour
            x[1].view(-1)[place] = torch.nan
            with pytest.raises(ValueError, match="got NaN"):
                forward(x, tau, tol, False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 5, 33])
def test_what_has_no_answer_is_refused(
    path: str, dtype: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(path, monkeypatch)
    x, tau, _ = problem(3, n, (1.0,), dtype)
    for index, value, message in (
        ((1, 0, 1), torch.nan, "got NaN"),
        ((1, 1, 0), torch.inf, r"got \+inf"),
        ((2, 1), -torch.inf, "got a row of -inf"),
        ((2, slice(None), 0), -torch.inf, "got a column of -inf"),
    ):
        bad = x.clone()
        bad[index] = value
        with pytest.raises(ValueError, match=message):
            forward(bad, tau, 0.0, False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_temperatures_reach_both_kernels(
    path: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(path, monkeypatch)
    x, tau, _ = problem(17, 16, TEMPERATURES, dtype)
    safe = forward(x, tau, 0.0, False, keep=True)[3][0]
    assert safe[tau == 1].all()
    assert not safe[tau == 1e-3].any()


@pytest.mark.parametrize("path", ["rows", "shared"])
def test_matrices_stop_at_different_steps(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force(path, monkeypatch)
    x, tau, _ = problem(17, 16, TEMPERATURES, torch.float32)
    iters = forward(x, tau, 1e-2, False)[1]
    assert len(iters.unique()) > 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", [3, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log", [False, True])
def test_keeping_the_scalings_changes_nothing(
    path: str, n: int, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(path, monkeypatch)
    x, tau, grad = problem(17, n, TEMPERATURES, dtype)
    tol = 0.0 if path == "lanes" else 1e-2
    *kept, scalings = forward(x, tau, tol, log, keep=True)
    *dropped, none = forward(x, tau, tol, log)
    assert none == []
    for with_scalings, without in zip(kept, dropped, strict=True):
        assert torch.equal(with_scalings, without)
    arguments = (grad, x, tau, kept[1], N_ITERS, tol, log)
    dx = numba_cpu.backward(*arguments, kept[0], scalings)
    assert torch.equal(numba_cpu.backward(*arguments), dx)


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="a single core")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("operator", "reference"),
    [(sinkhorn, references.sinkhorn_loop), (log_sinkhorn, references.log_sinkhorn_loop)],
)
def test_a_large_matrix_is_shared_out(
    operator: Any, reference: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[str] = []
    for name in ("forward_shared", "backward_shared"):
        original = getattr(numba_rows_linear, name)

        def spy(*args: Any, name: str = name, original: Any = original) -> None:
            shared.append(name)
            original(*args)

        monkeypatch.setattr(numba_rows_linear, name, spy)
    x, tau, grad = problem(1, 520, (1.0,), dtype)
    leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    out, wanted = operator(leaf, 1.0, N_ITERS), reference(exact, tau, N_ITERS)
    (dx,) = torch.autograd.grad(out, leaf, grad)
    (wanted_dx,) = torch.autograd.grad(wanted, exact, grad.double())
    bound = rounding(x, tau)
    assert_within(out.detach(), wanted.detach(), bound)
    assert_within(dx, wanted_dx, N_ITERS * bound * max(1.0, float(wanted_dx.abs().max())))
    assert shared == ["forward_shared", "backward_shared"]
    assert torch.equal(operator(x, 1.0, N_ITERS), out.detach())


@pytest.mark.parametrize("tau", [1.0, 0.02])
def test_leaving_out_the_statistics_changes_nothing(tau: float) -> None:
    x, _, grad = problem(17, 6, (tau,), torch.float32)
    found = []
    for info in (True, False):
        out, iters, error, kept = numba_cpu.forward(x, tau, N_ITERS, 0.0, False, True, info)
        assert (iters is None, error is None) == (not info, not info)
        found.append((out, numba_cpu.backward(grad, x, tau, iters, N_ITERS, 0.0, False, out, kept)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tau", [1.0, 0.02])
def test_one_temperature_for_all_is_one_for_each(
    path: str, tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(path, monkeypatch)
    x, taus, grad = problem(3, 6, (tau,), torch.float32)

    def both(tau: float | Tensor) -> tuple[Tensor, Tensor]:
        out, iters, _, kept = forward(x, tau, 0.0, False, keep=True)
        return out, numba_cpu.backward(grad, x, tau, iters, N_ITERS, 0.0, False, out, kept)

    for one, each in zip(both(tau), both(taus), strict=True):
        assert torch.equal(one, each)
