"""The Sinkhorn operator at convergence, against other libraries, where they are installed.

They are imported in a process of their own: JAX, which some of them bring, starts threads, and
later tests fork.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softperm import sinkhorn
from tests import references


def require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def apart() -> Iterator[Executor]:
    """A process that shares nothing with this one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def sums(m: int, n: int) -> tuple[Tensor, Tensor]:
    """Uneven sums of total 1 for m rows and n columns."""
    return tuple(references.matrices((k,), seed=k).softmax(-1) for k in (m, n))  # type: ignore[return-value]


def converged(x: Tensor, tau: float, **given: Any) -> Tensor:
    S, info = sinkhorn(x, tau, 20_000, tol=1e-12, return_info=True, **given)
    assert bool(info.converged.all())
    return S


def by_pot(x: Tensor, r: Tensor, c: Tensor, tau: float) -> Any:
    import ot

    given = r.numpy(), c.numpy(), -x.numpy(), tau
    return ot.sinkhorn(*given, numItermax=100_000, stopThr=1e-13)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (6, 6)])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_pot(m: int, n: int, tau: float, apart: Executor) -> None:
    require("ot")
    x, (r, c) = references.matrices((m, n)), sums(m, n)
    wanted = apart.submit(by_pot, x, r, c, tau).result()
    found = converged(x, tau, row_sums=r, col_sums=c)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)


def by_ott(x: Tensor, r: Tensor, c: Tensor, tau: float) -> Any:
    import jax
    from ott.geometry import geometry
    from ott.solvers import linear

    jax.config.update("jax_enable_x64", True)
    costs = geometry.Geometry(-x.numpy(), epsilon=tau)
    out = linear.solve(costs, r.numpy(), c.numpy(), threshold=1e-12, max_iterations=100_000)
    return np.asarray(out.matrix)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3)])
def test_ott(m: int, n: int, apart: Executor) -> None:
    require("ott")
    x, (r, c) = references.matrices((m, n)), sums(m, n)
    wanted = apart.submit(by_ott, x, r, c, 0.5).result()
    found = converged(x, 0.5, row_sums=r, col_sums=c)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)


def by_pygmtools(x: Tensor, n_rows: Tensor | None, n_cols: Tensor | None, tau: float) -> Any:
    import pygmtools

    given: dict[str, Any] = {"dummy_row": True, "max_iter": 2000, "tau": tau}
    return pygmtools.sinkhorn(x, n_rows, n_cols, backend="pytorch", **given).numpy()


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("sizes", [None, ([2, 3], [3, 2])])
def test_pygmtools(m: int, n: int, sizes: Any, apart: Executor) -> None:
    require("pygmtools")
    x = references.matrices((2, m, n), scale=0.5)
    n_rows, n_cols = map(torch.tensor, sizes) if sizes else (None, None)
    wanted = apart.submit(by_pygmtools, x, n_rows, n_cols, 0.5).result()
    found = converged(x, 0.5, n_rows=n_rows, n_cols=n_cols)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-8)
