"""What every process of a group does in the tests of rows that are spread: compare its rows with
those of the whole matrix.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import softperm
from tests import references

SHARES = {2: [5, 2], 3: [3, 0, 4]}  # rows of each process
N = 4


def local(x: Tensor, dim: int = -2) -> Tensor:
    """The rows of this process."""
    parts: tuple[Tensor, ...] = x.split(SHARES[dist.get_world_size()], dim)
    return parts[dist.get_rank()]


def compare(function: Callable[..., Tensor], dtype: torch.dtype, scale: float, **how: Any) -> None:
    """The result and all gradients, with those of one process that has all rows."""
    m, group = 7, dist.group.WORLD
    x = (scale * references.matrices((2, m, N), seed=1)).to(dtype)
    x[0, 0, 1] = x[1, 6, 3] = -torch.inf
    rows = references.matrices((m,), seed=2).abs() + 0.5
    columns = rows.sum() * references.matrices((2, N), seed=3).softmax(-1)
    weights = references.matrices((2, m, N), seed=4).to(dtype).masked_fill(x == -torch.inf, 0)

    def gradients(x: Tensor, rows: Tensor, weights: Tensor, **more: Any) -> list[Tensor]:
        leaves = [t.clone().requires_grad_() for t in (x, rows, columns)]
        out = function(leaves[0], 0.7, row_sums=leaves[1], col_sums=leaves[2], **how, **more)
        out, info = out if isinstance(out, tuple) else (out, None)
        product = torch.where(weights == 0, 0, out * weights)
        found = [out.detach(), *torch.autograd.grad(product.sum(), leaves)]
        return found if info is None else [*found, *info]

    whole = gradients(x, rows, weights, backend="torch")
    mine = gradients(local(x), local(rows, -1), local(weights), group=group)
    wanted = [local(whole[0]), local(whole[1]), local(whole[2], -1), *whole[3:]]
    for k, (found, expected) in enumerate(zip(mine, wanted, strict=True)):
        tolerance = 1e-9 if dtype == torch.float64 else 1e-5
        if not torch.allclose(found, expected, tolerance, tolerance):
            raise AssertionError(f"number {k} of {function.__name__} with {how} at scale {scale}")


def derived_sums() -> None:
    """Sums that are not given are uniform over all rows, and their gradient is right."""
    x, m = references.matrices((7, N), seed=5), 7
    whole = softperm.sinkhorn(x, col_sums=m / N)
    torch.testing.assert_close(
        softperm.sinkhorn(local(x), col_sums=m / N, group=dist.group.WORLD), local(whole)
    )
    rows = (references.matrices((m,), seed=6).abs() + 0.5).requires_grad_()
    mine = local(rows.detach(), -1).requires_grad_()
    whole = softperm.sinkhorn(x, row_sums=rows)
    spread = softperm.sinkhorn(local(x), row_sums=mine, group=dist.group.WORLD)
    torch.testing.assert_close(spread, local(whole))
    (wanted,) = torch.autograd.grad((whole * x).sum(), rows)
    (found,) = torch.autograd.grad((spread * local(x)).sum(), mine)
    torch.testing.assert_close(found, local(wanted, -1))


def refused(message: str, x: Tensor, **how: Any) -> None:
    """Whether every process says so."""
    try:
        softperm.sinkhorn(x, **{"col_sums": 1.0, "group": dist.group.WORLD, **how})
    except ValueError as error:
        if message not in str(error):
            raise
    else:
        raise AssertionError(message)


def errors() -> None:
    """What is wrong on one process is told on all."""
    rank, world = dist.get_rank(), dist.get_world_size()
    first = rank == 0
    x = references.matrices((3, N), seed=rank)
    wrong = x.clone()
    wrong[1, 2] = torch.nan
    elsewhere = "wrong on another process"
    refused("got NaN" if first else elsewhere, wrong if first else x)
    refused("a row of -inf" if first else elsewhere, x - torch.inf if first else x)
    refused("row_sums must be positive" if first else elsewhere, x, row_sums=-1.0 if first else 1.0)
    refused("must be the same on all processes", x, n_iters=5 if first else 6)
    refused("must be the same on all processes", x[:, :2] if first else x)
    refused(f"same total, got {3 * world} and 4", x, row_sums=1.0)
    uneven = torch.tensor([0.5, 1.5, 1.0, 1.0])
    refused("must be the same on all processes", x, col_sums=uneven if first else 1.0)
    other = {"row_sums": 1.0, "col_sums": None} if first else {"col_sums": 1.0}
    refused("must be the same on all processes", x, **other)
    x[:, 1] = -torch.inf
    refused("a column of -inf alone on all", x)


def main(rank: str, world: str, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world)
    )
    for dtype, scale in ((torch.float64, 1.0), (torch.float64, 300.0), (torch.float32, 1.0)):
        compare(softperm.sinkhorn, dtype, scale, n_iters=7)
        compare(softperm.log_sinkhorn, dtype, scale, n_iters=7)
        compare(softperm.sinkhorn, dtype, scale, n_iters=60, tol=1e-3, return_info=True)
    derived_sums()
    errors()
    dist.destroy_process_group()
    print("all equal", flush=True)
    os._exit(0)  # threads of gloo may outlive the interpreter, and end it with a complaint


if __name__ == "__main__":
    main(*sys.argv[1:])
