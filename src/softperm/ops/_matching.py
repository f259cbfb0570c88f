"""The matching operator M(X): the pairs that maximise the sum of their entries in X."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from softperm._checks import (
    broadcast_batch,
    in_one_thread,
    nan_or_inf,
    require_float_matrix,
    shape_of,
)
from softperm._teach import teaching
from softperm._torch import can_read_values
from softperm._typing import Float, Int64, Integer
from softperm.kernels import dispatch
from softperm.kernels.reference import matrix_dtype
from softperm.ops._sizes import (
    check_size,
    counted_entries,
    require_broadcast,
    require_finite,
    require_number_or_tensor,
    side,
)


def require_below_infinity(scores: Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Refuse NaN and +inf; the message shows the shape."""
    highest = float(in_one_thread(scores).max()) if scores.numel() else -torch.inf
    if not highest < torch.inf:
        raise ValueError(
            f"{name} must be finite or -inf (a forbidden pair), got {nan_or_inf(highest)} in a "
            f"tensor of shape {shape}"
        )


def _only_counted(scores: Tensor, n_rows: Tensor | None, n_cols: Tensor | None) -> Tensor:
    """Those of the scores that count."""
    m, n = scores.shape[-2:]
    counted = counted_entries(side(m, n_rows, scores.device), side(n, n_cols, scores.device))
    return scores if counted is None else scores[counted.expand(scores.shape)]


def refuse_infeasible(where: str, shape: tuple[int, ...], square: bool) -> None:
    """Say that -inf entries forbid every matching."""
    what = "one permutation" if square else "one matching of min(m, n) pairs"
    raise ValueError(
        f"log_alpha must leave at least {what} possible, got a matrix{where} whose "
        f"-inf entries forbid them all, in shape {shape}"
    )


def _compute(
    x: Tensor, unmatched: Tensor | None, n_rows: Tensor | None, n_cols: Tensor | None
) -> Tensor:
    """The assignments, found on the CPU wherever the scores are; all arguments have the batch."""
    dtype, batch, count = matrix_dtype(x.dtype), x.shape[:-2], x.shape[:-2].numel()
    scores = x.to("cpu", dtype)
    alone = None if unmatched is None else unmatched.to("cpu", dtype)
    sizes = [None if k is None else k.to("cpu", torch.int64) for k in (n_rows, n_cols)]
    perm, failed = dispatch.assignment_kernel().match_batch(
        scores.reshape(count, *x.shape[-2:]),
        None if alone is None else alone.reshape(count, x.shape[-2]),
        *(None if k is None else k.reshape(count) for k in sizes),
    )
    if failed >= 0:
        require_below_infinity(_only_counted(scores, *sizes), "log_alpha", shape_of(x))
        index = tuple(int(k) for k in np.unravel_index(failed, batch))
        square = x.shape[-1] == x.shape[-2] and sizes == [None, None]
        refuse_infeasible(f" at batch index {index}" if index else "", shape_of(x), square)
    found: Tensor = perm.reshape(x.shape[:-1]).to(x.device)
    return found


@torch.library.custom_op("softperm::matching", mutates_args=())
def _matching(
    x: Tensor, unmatched: Tensor | None, n_rows: Tensor | None, n_cols: Tensor | None
) -> Tensor:
    return _compute(x, unmatched, n_rows, n_cols)


@_matching.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.int64)


@_matching.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
    return _matching(*dispatch.batched(args, in_dims, info.batch_size)), 0


def check_matching(log_alpha: Tensor, unmatched: Any, n_rows: Any, n_cols: Any) -> None:
    """Refuse what does not fit the matrices."""
    *batch, m, n = log_alpha.shape
    if unmatched is not None:
        require_number_or_tensor(unmatched, "unmatched")
        require_broadcast(unmatched, "unmatched", (*batch, m), "rows")
        if n_rows is None:  # else what does not count is not looked at
            require_finite(unmatched, "unmatched")
    if n_rows is not None:
        check_size(n_rows, "n_rows", m, torch.Size(batch))
    if n_cols is not None:
        check_size(n_cols, "n_cols", n, torch.Size(batch))


def matching_batch(x: Tensor, unmatched: Any, n_rows: Any, n_cols: Any) -> torch.Size:
    """The batch dimensions that all arguments broadcast to."""
    shapes = [x.shape[:-2], *(k.shape for k in (n_rows, n_cols) if isinstance(k, Tensor))]
    if isinstance(unmatched, Tensor):
        shapes.append(unmatched.shape[:-1])
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    return broadcast_batch("log_alpha, n_rows, n_cols and unmatched", *shapes)


def _for_each(size: int | Tensor | None, batch: torch.Size, device: torch.device) -> Tensor | None:
    """A size per matrix."""
    if size is None or (isinstance(size, Tensor) and size.shape == batch and size.device == device):
        return size
    return torch.as_tensor(size, device=device).expand(batch)


def in_range(unmatched: float | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Scores of staying alone; those beyond the range of the dtype are as good as its ends."""
    limits = torch.finfo(dtype)
    if isinstance(unmatched, Tensor):
        given = unmatched.detach()
        if given.dtype == torch.float64 and dtype == torch.float32:
            given = given.where(given.isinf(), given.clamp(limits.min, limits.max))
        return given.to(device, dtype)
    if abs(unmatched) < torch.inf:
        unmatched = min(max(unmatched, limits.min), limits.max)
    return torch.tensor(unmatched, dtype=dtype, device=device)


def _expand(x: Tensor, unmatched: Any, n_rows: Any, n_cols: Any) -> tuple[Any, ...]:
    """All arguments with the batch dimensions that they broadcast to."""
    m, n = x.shape[-2:]
    batch = matching_batch(x, unmatched, n_rows, n_cols)
    sizes = [_for_each(k, batch, x.device) for k in (n_rows, n_cols)]
    if unmatched is not None:
        alone = in_range(unmatched, matrix_dtype(x.dtype), x.device)
        if n_rows is not None:
            rows = side(m, sizes[0], x.device)
            alone = rows.keep(alone.expand(*batch, m), 0.0)
            require_finite(alone, "unmatched")
        unmatched = alone.expand(*batch, m)
    return x if x.shape[:-2] == batch else x.expand(*batch, m, n), unmatched, *sizes


@teaching
def matching(
    log_alpha: Float[Tensor, "*#batch m n"],
    *,
    unmatched: float | Float[Tensor, "..."] | None = None,
    n_rows: int | Integer[Tensor, "*#batch"] | None = None,
    n_cols: int | Integer[Tensor, "*#batch"] | None = None,
) -> Int64[Tensor, "*batch m"]:
    r"""Find the permutation with the largest total score: an exact linear assignment.

    .. math:: M(X) = \operatorname*{argmax}_{P \in \mathcal{P}_n} \langle P, X \rangle_F
        = \lim_{\tau \to 0} S(X / \tau)

    Of m items and n positions min(m, n) are paired. With `unmatched` an item may also stay without
    a position: the sum of the scores of all pairs, and of `unmatched` over all items left over, is
    maximal.

    Indices are positions: item i goes to ``perm[i]``. `torch.argsort` gives the inverse, the item
    of each position; see `permutation_from_order`.

    Arguments:
        log_alpha: Scores, any floating dtype, shape (\*, m, n). -inf forbids a pair.
        unmatched: Score of an item without a position: a float, or a tensor that broadcasts
            against (\*, m). With 0 no pair of negative score is made. None: as many pairs as
            possible.
        n_rows: How many rows of each matrix count: an int, or an integer tensor that broadcasts
            against the batch dimensions. What lies beyond is never read, NaN included.
        n_cols: How many columns count, likewise.

    Returns:
        Indices ``perm[..., i] = j``, int64, shape (\*, m), on the device of `log_alpha`; -1 for an
        item without a position, and for rows that do not count. They have no gradient. Of several
        matchings with the same score, the same input always gives the same one.
        `permutation_matrix` makes matrices of them. Matchings are computed on the CPU: from a GPU
        the scores are copied there once, and the indices back once.

    Raises:
        TypeError: `log_alpha` is not a floating-point tensor, or another argument of the wrong
            type.
        ValueError: `log_alpha` holds NaN or +inf, or, without `unmatched`, its -inf entries forbid
            min(m, n) pairs; or an argument does not fit it, or `unmatched` is not finite.

    Source: Mena et al., ICLR 2018, equation (3) and Theorem 1.

    Example:
        >>> matching(torch.tensor([[1.0, 3.0], [2.0, 5.0]]))
        tensor([0, 1])
        >>> matching(torch.tensor([[1.0], [3.0], [2.0]]))
        tensor([-1,  0, -1])
        >>> matching(torch.tensor([[-1.0, -3.0], [2.0, 5.0]]), unmatched=0.0)
        tensor([-1,  1])
    """
    require_float_matrix(log_alpha, "log_alpha")
    x = log_alpha.detach()
    arguments: tuple[Any, ...] = (x, None, None, None)
    if not (unmatched is n_rows is n_cols is None):
        check_matching(x, unmatched, n_rows, n_cols)
        arguments = _expand(x, unmatched, n_rows, n_cols)
    # Dispatching an operator costs more than solving 64 small matrices.
    plain = can_read_values(*(tensor for tensor in arguments if tensor is not None))
    perm: Tensor = _compute(*arguments) if plain else _matching(*arguments)
    return perm
