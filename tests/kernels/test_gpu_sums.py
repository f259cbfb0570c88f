"""The Triton kernels with given sums and matrices of any shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.kernels import reference
from softperm.kernels.reference import Problem, Settings
from tests import references

pytest.importorskip("triton")

from softperm.kernels import gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def loop(x: Tensor, rows: Tensor, columns: Tensor, n_iters: int, log: bool) -> Tensor:
    """S or log S: lines of log S shifted to the wanted log sums, one half step after the other."""
    for _ in range(n_iters):
        x = x + (rows - x.logsumexp(-1)).unsqueeze(-1)
        x = x + (columns - x.logsumexp(-2)).unsqueeze(-2)
    return x if log else x.exp()


def log_sums(shape: tuple[int, ...], total: float, seed: int) -> Tensor:
    """Logarithms of random sums with a total."""
    sums = references.matrices(shape, seed).softmax(-1)
    return sums.mul(total).log()


def pair_of(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Log sums of rows and of columns for a shape."""
    total = float(min(shape[-2:]))
    return log_sums(shape[:-1], total, 1), log_sums((*shape[:-2], shape[-1]), total, 2)


def by_triton(given: Problem, how: Settings, grad: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Result, iterations and row errors, and the three gradients, brought back."""
    given = Problem(*(None if t is None else t.to(DEVICE) for t in given))  # type: ignore[arg-type]
    out, iters, error, kept = gpu.forward(given, how)
    assert kept == []
    gradients = gpu.backward(grad.to(out), given, iters, how)
    return [t.cpu() for t in (out, iters, error)], [t.cpu() for t in gradients]


def exact(given: Problem, how: Settings, grad: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Result and gradients by autograd through the loop, in float64."""
    m, n = given.x.shape[-2:]
    x = given.x.double().requires_grad_()
    rows, columns = (
        torch.zeros(*given.x.shape[:-2], size).double() if s is None else s.clone()
        for s, size in ((given.log_rows, m), (given.log_columns, n))
    )
    leaves = [x, rows.requires_grad_(), columns.requires_grad_()]
    X = x / given.tau[..., None, None]
    out = loop(X, rows, columns, how.n_iters, how.log)
    return out.detach(), [*torch.autograd.grad(out, leaves, grad)]


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    rounding = 32 * torch.finfo(dtype).eps
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found.double(), wanted, atol=rounding * scale, rtol=rounding)


@pytest.mark.parametrize(
    ("shape", "dtype", "sums", "log"),
    [
        ((2, 3, 20), torch.float32, "both", True),
        ((2, 21, 4), torch.float64, "both", False),
        ((1, 5, 3), torch.float64, "rows", False),
        ((3, 5), torch.float32, "columns", False),
        ((1, 2, 4, 2), torch.float32, "none", True),
    ],
)
def test_any_shape_and_any_sums(
    shape: tuple[int, ...], dtype: Any, sums: str, log: bool, kernels: str
) -> None:
    rows, columns = pair_of(shape)
    x, tau = references.matrices(shape).to(dtype), torch.full(shape[:-2], 0.5).double()
    given = Problem(
        x, tau, rows if sums in ("both", "rows") else None,
        columns if sums in ("both", "columns") else None,
    )  # fmt: skip
    how, grad = Settings(3, 0.0, log, "triton"), references.matrices(shape, 9).to(dtype).double()
    (out, iters, error), found = by_triton(given, how, grad)
    wanted, gradients = exact(given, how, grad)
    close(out, wanted, dtype)
    close(found[0], gradients[0], dtype)
    for sum_given, f, w in zip(given[2:], found[1:], gradients[1:], strict=True):
        assert f.shape == w.shape
        assert f.dtype == torch.float64
        if sum_given is not None:
            close(f, w, dtype)
    assert out.dtype == found[0].dtype == error.dtype == dtype
    assert bool((iters == 3).all())
    S = wanted.exp() if log else wanted
    close(error, reference.final_row_error(S, given.log_rows), dtype)


@pytest.mark.parametrize(("log", "scale"), [(False, 1.0), (True, 50.0)])
def test_lines_that_take_no_part(log: bool, scale: float, kernels: str) -> None:
    small, how = (2, 3, 4), Settings(3, 0.0, log, "triton")
    rows, columns = pair_of(small)
    x, grad = references.matrices(small, 3, scale), references.matrices(small, 9)
    tau = torch.ones(2).double()
    wanted, gradients = exact(Problem(x, tau, rows, columns), how, grad)
    i, j = torch.tensor([0, 2, 3]), torch.tensor([1, 2, 4, 5])
    large = (torch.full((2, *s), -torch.inf).double() for s in ((5, 6), (5,), (6,)))
    X, log_rows, log_columns = large
    G = torch.full((2, 5, 6), 0.0 if log else 1.0).double()  # log S moves with the other lines
    for big, part in ((X, x), (G, grad)):
        big[:, i[:, None], j] = part
    log_rows[:, i], log_columns[:, j] = rows, columns
    given = Problem(X, tau, log_rows, log_columns)
    (out, _, error), found = by_triton(given, how, G)
    torch.testing.assert_close(out[:, i[:, None], j], wanted, atol=1e-13, rtol=1e-12)
    others = torch.ones(5, 6).bool()
    others[i[:, None], j] = False
    assert bool((out[:, others] == (-torch.inf if log else 0)).all())
    assert all(bool(tensor.isfinite().all()) for tensor in (error, *found))
    close(found[0][:, i[:, None], j], gradients[0], torch.float64)
    close(found[1][:, i], gradients[1], torch.float64)
    close(found[2][:, j], gradients[2], torch.float64)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("power", [8, 16, 30, 99])
def test_columns_have_their_sums_however_large_the_entries(
    log: bool, power: int, kernels: str
) -> None:
    shape = (1, 3, 5)
    rows, columns = pair_of(shape)
    x = references.matrices(shape, 4)
    given = Problem(x / x.abs().max() * 10.0**power, torch.ones(1).double(), rows, columns)
    grad = references.matrices(shape, 9)
    (out, _, error), found = by_triton(given, Settings(3, 0.0, log, "triton"), grad)
    S = out.exp() if log else out
    torch.testing.assert_close(S.sum(-2), columns.exp(), atol=0, rtol=1e-14)
    torch.testing.assert_close(error, (S.sum(-1) - rows.exp()).abs().amax(-1))
    assert all(bool(gradient.isfinite().all()) for gradient in found)
    assert float(found[0].sum(-1).abs().max()) < 1e-14


@pytest.mark.parametrize("offset", [-95.0, 95.0])
def test_sums_beyond_the_range_of_float32(offset: float, kernels: str) -> None:
    rows = torch.tensor([[0.3, 1e-26, 0.7]]).double().log() + offset
    columns = torch.tensor([[0.5, 0.5]]).double().log() + offset
    given = Problem(references.matrices((1, 3, 2)).float(), torch.ones(1).double(), rows, columns)
    how, grad = Settings(3, 0.0, True, "triton"), references.matrices((1, 3, 2), 9)
    (out, _, _), found = by_triton(given, how, grad.float())
    wanted, gradients = exact(given, how, grad.float().double())
    close(out, wanted, torch.float32)
    for f, w in zip(found, gradients, strict=True):
        close(f, w, torch.float32)


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (0, 2, 3)])
@pytest.mark.parametrize("tol", [0.0, 1e-2])
def test_no_entries(shape: tuple[int, ...], tol: float) -> None:
    rows, columns = torch.zeros(shape[:-1]).double(), torch.zeros(shape[0], shape[2]).double()
    given = Problem(references.matrices(shape), torch.ones(shape[0]).double(), rows, columns)
    how, grad = Settings(4, tol, False, "triton"), references.matrices(shape, 9)
    found, gradients = by_triton(given, how, grad)
    wanted = reference.forward(given, how)[:3]
    assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))
    exact_gradients = reference.backward(grad, given, wanted[1], how)
    for f, w in zip(gradients, exact_gradients, strict=True):
        assert f.dtype == w.dtype
        assert torch.equal(f, w)


def test_as_many_steps_are_reserved_as_are_done(kernels: str) -> None:
    shape, how = (3, 3, 4), Settings(10**9, 1e-2, False, "triton")
    scale = torch.tensor([0.1, 1.0, 2.0])[:, None, None]
    x, tau = references.matrices(shape) * scale, torch.ones(3).double()
    given, grad = Problem(x, tau, *pair_of(shape)), references.matrices(shape, 9)
    (out, iters, error), found = by_triton(given, how, grad)
    wanted = reference.forward(given, how)
    assert len(iters.unique()) > 1
    assert torch.equal(iters, wanted[1])
    assert bool((error < how.tol).all())
    torch.testing.assert_close(out, wanted[0])
    torch.testing.assert_close(error, wanted[2])
    for f, w in zip(found, reference.backward(grad, given, iters, how), strict=True):
        torch.testing.assert_close(f, w)
