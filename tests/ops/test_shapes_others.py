"""The Sinkhorn operator at convergence, against other libraries, where they are installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softperm import sinkhorn
from tests import references

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs


def sums(m: int, n: int) -> tuple[Tensor, Tensor]:
    """Uneven sums of total 1 for m rows and n columns."""
    return tuple(references.matrices((k,), seed=k).softmax(-1) for k in (m, n))  # type: ignore[return-value]


def converged(x: Tensor, tau: float, **given: Any) -> Tensor:
    S, info = sinkhorn(x, tau, 20_000, tol=1e-12, return_info=True, **given)
    assert bool(info.converged.all())
    return S


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (6, 6)])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_pot(m: int, n: int, tau: float) -> None:
    ot = pytest.importorskip("ot")
    x, (r, c) = references.matrices((m, n)), sums(m, n)
    cost = -x.numpy()
    wanted = ot.sinkhorn(r.numpy(), c.numpy(), cost, tau, numItermax=100_000, stopThr=1e-13)
    found = converged(x, tau, row_sums=r, col_sums=c)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3)])
def test_ott(m: int, n: int) -> None:
    pytest.importorskip("ott")
    import jax
    from ott.geometry import geometry
    from ott.solvers import linear

    x, (r, c) = references.matrices((m, n)), sums(m, n)
    double = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        geom = geometry.Geometry(-x.numpy(), epsilon=0.5)
        out = linear.solve(geom, r.numpy(), c.numpy(), threshold=1e-12, max_iterations=100_000)
        wanted = np.asarray(out.matrix)
    finally:
        jax.config.update("jax_enable_x64", double)
    found = converged(x, 0.5, row_sums=r, col_sums=c)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("sizes", [None, ([2, 3], [3, 2])])
def test_pygmtools(m: int, n: int, sizes: Any) -> None:
    pygm = pytest.importorskip("pygmtools")
    x = references.matrices((2, m, n), scale=0.5)
    given: dict[str, Any] = {}
    if sizes is not None:
        given = {"n_rows": torch.tensor(sizes[0]), "n_cols": torch.tensor(sizes[1])}
    wanted = pygm.sinkhorn(
        x,
        given.get("n_rows"),
        given.get("n_cols"),
        dummy_row=True,
        max_iter=2000,
        tau=0.5,
        backend="pytorch",
    )
    torch.testing.assert_close(converged(x, 0.5, **given), wanted, atol=1e-8, rtol=0)
