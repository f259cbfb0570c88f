"""The Sinkhorn operator S(X): alternate row and column normalisation of exp(X)."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from softperm._checks import (
    require_float_matrix,
    require_positive_int,
    require_solvable,
    shape_of,
)
from softperm._teach import teaching
from softperm._torch import can_read_values
from softperm._typing import Float, Integer
from softperm.kernels import dispatch, implicit
from softperm.kernels.reference import Problem, Settings, matrix_dtype
from softperm.ops._info import SinkhornInfo, require_converged
from softperm.ops._options import Backend, Grad, check_backend, check_grad, check_tau, check_tol
from softperm.ops._shapes import Cut, Shape, as_shape, broadcast_tau, check_shape, pose


def _needs_check(log_alpha: Tensor, backend: Backend) -> bool:
    """Whether to look for what has no doubly stochastic matrix, if that costs nothing.

    The compiled kernels for CPUs notice it themselves.
    """
    if not can_read_values(log_alpha) or log_alpha.numel() == 0:
        return False
    return not (backend == "cpu" or (backend == "auto" and dispatch.best(log_alpha) == "cpu"))


def _pose(
    log_alpha: Tensor, tau: float | Tensor, shape: Shape | None, backend: Backend
) -> tuple[Problem, Cut | None]:
    """The problem to iterate on, in float32, or in float64 for float64, and how to cut its result.

    Square matrices that nothing else is given for are the problem themselves.
    """
    dtype = matrix_dtype(log_alpha.dtype)
    x = log_alpha if log_alpha.dtype == dtype else log_alpha.to(dtype)
    if shape is None and x.shape[-1] == x.shape[-2]:
        if _needs_check(log_alpha, backend):
            require_solvable(log_alpha, tau)
        x, taus = broadcast_tau(tau, x)
        return Problem(x, taus), None  # type: ignore[arg-type]
    shape = shape or Shape()
    check_shape(log_alpha, shape)
    given, cut = pose(x, tau, shape)
    x, taus = broadcast_tau(tau, given.x)
    if _needs_check(x, backend):
        require_solvable(x, tau, *given[2:], shape_of(log_alpha))
    return Problem(x, taus, *given[2:]), cut  # type: ignore[arg-type]


def _iterate(
    given: Problem, how: Settings, grad: Grad, info: bool, log_alpha: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The result, and where `info` asks for them the iterations done and the row errors."""
    try:
        if grad == "implicit":
            return implicit.sinkhorn(given, how)
        return dispatch.sinkhorn(given, how, info)
    except ValueError:  # of a kernel, which knows the problem, but not the shape that was given
        if can_read_values(given.x):
            require_solvable(*given, shape_of(log_alpha))
        raise


def _spread(
    log_alpha: Tensor,
    tau: float | Tensor,
    how: Settings,
    shape: Shape,
    grad: Grad,
    group: torch.distributed.ProcessGroup,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for rows that are spread over the processes of a group."""
    from softperm.ops import _spread  # few need it, and it imports torch.distributed

    tau = _spread.check_options(group, tau, shape, how, grad)
    dtype = matrix_dtype(log_alpha.dtype)
    return _spread.solve(log_alpha.to(dtype), tau, how, shape, group)


def _solve(
    log_alpha: Tensor,
    tau: float | Tensor,
    n_iters: int,
    shape: Shape | None,
    tol: float | None,
    backend: Backend,
    grad: Grad,
    group: torch.distributed.ProcessGroup | None,
    log: bool,
    return_info: bool,
) -> Tensor | tuple[Tensor, SinkhornInfo]:
    """Check the arguments, then iterate."""
    require_float_matrix(log_alpha, "log_alpha")
    tau = check_tau(tau, log_alpha.shape[:-2])
    how = Settings(require_positive_int(n_iters, "n_iters"), check_tol(tol), log, backend)
    check_backend(backend, log_alpha.device)
    check_grad(grad)
    cut = None
    if group is None:
        given, cut = _pose(log_alpha, tau, shape, backend)
        out, iters, error = _iterate(given, how, grad, return_info, log_alpha)
    else:
        out, iters, error = _spread(log_alpha, tau, how, shape or Shape(), grad, group)
    if grad == "implicit" and out.requires_grad:
        assert iters is not None
        assert error is not None
        require_converged(iters, error, tol, how.n_iters)
    if cut is not None:
        out = cut(out, log)
    if out.dtype != log_alpha.dtype:
        out = out.to(log_alpha.dtype)
    if not return_info:
        return out
    assert iters is not None
    assert error is not None
    # A matrix that stopped early has converged, also where rounding makes its error equal to tol.
    converged = (error < how.tol) | (iters < how.n_iters)
    return out, SinkhornInfo(iters, error, converged)


@overload
def sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    row_sums: float | Tensor | None = ...,
    col_sums: float | Tensor | None = ...,
    slack: float | Tensor | None = ...,
    n_rows: int | Tensor | None = ...,
    n_cols: int | Tensor | None = ...,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    group: torch.distributed.ProcessGroup | None = ...,
    return_info: Literal[False] = ...,
) -> Tensor: ...
@overload
def sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    row_sums: float | Tensor | None = ...,
    col_sums: float | Tensor | None = ...,
    slack: float | Tensor | None = ...,
    n_rows: int | Tensor | None = ...,
    n_cols: int | Tensor | None = ...,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    group: torch.distributed.ProcessGroup | None = ...,
    return_info: Literal[True],
) -> tuple[Tensor, SinkhornInfo]: ...
@teaching
def sinkhorn(
    log_alpha: Float[Tensor, "*#batch m n"],
    tau: float | Float[Tensor, "*#batch"] = 1.0,
    n_iters: int = 20,
    *,
    row_sums: float | Float[Tensor, "..."] | None = None,
    col_sums: float | Float[Tensor, "..."] | None = None,
    slack: float | Float[Tensor, "*#batch"] | None = None,
    n_rows: int | Integer[Tensor, "*#batch"] | None = None,
    n_cols: int | Integer[Tensor, "*#batch"] | None = None,
    tol: float | None = None,
    backend: Backend = "auto",
    grad: Grad = "unrolled",
    group: torch.distributed.ProcessGroup | None = None,
    return_info: bool = False,
) -> (
    Float[Tensor, "*batch rows columns"] | tuple[Float[Tensor, "*batch rows columns"], SinkhornInfo]
):
    r"""Make scores doubly stochastic: normalise rows and columns of exp(log_alpha / tau) in turn.

    .. math:: S^0(X) = \exp(X), \quad S^l(X) = T_c(T_r(S^{l-1}(X))), \quad X = \log\alpha / \tau

    T_r divides by the row sums, T_c by the column sums. So columns sum to 1, rows approximately.
    This holds at any temperature: what leaves the range of exp is computed in the log domain. The
    gradient is exactly that of the l steps, for which O(m n + l (m + n)) numbers per matrix are
    kept. Or it is that of the limit, which keeps O(m n) and takes time O(n^3), whatever l is.

    Matrices need not be square:

    - m < n: rows sum to 1, columns to at most 1. m > n: the other way round. The result is as if
      |m - n| lines of score 0 completed the square. For tau to 0 the limit is `matching`.
    - `row_sums`, `col_sums`: rows and columns are brought to these sums (T_r and T_c multiply by
      them). N items to K clusters of equal size: ``row_sums=1, col_sums=N / K``.
    - `slack`: one more row and one more column of that score; they take what stays unmatched, the
      row up to n, the column up to m.
    - `n_rows`, `n_cols`: only so many leading rows and columns of each matrix count.

    Arguments:
        log_alpha: Unnormalised log-probability that item i belongs at position j, any floating
            dtype, shape (\*, m, n). -inf forbids a pair; a line that may be left over may be
            forbidden altogether.
        tau: Temperature: a positive float, or a tensor that broadcasts against the batch
            dimensions (differentiable). It divides `slack` too.
        n_iters: Number l of iterations, at least 1; with `tol`, the most that are done.
        row_sums: Wanted sums of the rows: a positive float for all, or a tensor that broadcasts
            against (\*, m) (differentiable). If only one of the two is given, the other is uniform
            with the same total.
        col_sums: Wanted sums of the columns, likewise, against (\*, n).
        slack: Score of the lines of slack: a float, or a tensor that broadcasts against the batch
            dimensions (differentiable). Not together with given sums.
        n_rows: How many rows of each matrix count: an int, or an integer tensor that broadcasts
            against the batch dimensions. What lies beyond is never read, NaN included.
        n_cols: How many columns count, likewise.
        tol: Stop every matrix as soon as its largest row-sum error is below this.
        backend: How to compute it: "cpu" (compiled, on CPUs), "triton" (compiled, on GPUs, where
            the package triton is installed), "torch" (on any device), or "auto" for the fastest.
        grad: "unrolled", the gradient of the l steps, or "implicit", that of their limit, which has
            no forward mode.
        group: A `torch.distributed.ProcessGroup` over which the rows are spread, in any numbers.
            Every process gives its own rows of `log_alpha` and `row_sums`, and gets those rows of
            the result that one process would have with all of them. Gradients are those of the sum
            of all processes' losses. All of them make the call and its backward pass. Needs given
            sums, and a float for `tau`; computed by plain PyTorch, differentiable once.
        return_info: Return a `SinkhornInfo` as well.

    Returns:
        S^l(log_alpha / tau), dtype of `log_alpha`, shape (\*, m, n), with `slack`
        (\*, m + 1, n + 1), where \* is what all batch dimensions broadcast to; 0 in lines that do
        not count. With `return_info` a pair. float16 and bfloat16 are computed in float32.

    Raises:
        TypeError: an argument has the wrong type, or `log_alpha` an integer, boolean or complex
            dtype.
        ValueError: `log_alpha` holds NaN or +inf, or only -inf in a row or column that may not be
            left over, or log_alpha / tau reaches 1e100 in magnitude (-inf aside; on a CPU only
            where its exponentials do not do); or the totals of the sums differ by more than the
            rounding of their dtype (a share of the square root of its unit); or an argument is out
            of range or does not fit the others, or `backend` cannot compute on the device.
        RuntimeError: `grad` is "implicit", a gradient is asked for, and the largest row-sum error
            is not below `tol` (without `tol`: 3.5e-4, in float64 1.5e-8, the square root of the
            rounding unit). It is raised in the forward pass, where values can be read for free:
            not on GPUs nor under `torch.compile` and `torch.func`, where `return_info` tells.

    Source: Mena et al., ICLR 2018, equations (1) and (2); for `slack`, Sarlin et al. (SuperGlue),
        CVPR 2020, section 3.2; for the implicit gradient, the implicit function theorem, see
        `softperm.kernels.implicit`.

    Example:
        >>> S = sinkhorn(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
        >>> S
        tensor([[0.8808, 0.1192],
                [0.1192, 0.8808]])
        >>> S.sum(0)
        tensor([1., 1.])
        >>> sinkhorn(torch.tensor([[2.0, 0.0, 0.0]]), slack=1.0)
        tensor([[0.4972, 0.1180, 0.1180, 0.2667],
                [0.5028, 0.8820, 0.8820, 0.7333]])
    """
    shape = as_shape(row_sums, col_sums, slack, n_rows, n_cols)
    return _solve(log_alpha, tau, n_iters, shape, tol, backend, grad, group, False, return_info)


@overload
def log_sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    row_sums: float | Tensor | None = ...,
    col_sums: float | Tensor | None = ...,
    slack: float | Tensor | None = ...,
    n_rows: int | Tensor | None = ...,
    n_cols: int | Tensor | None = ...,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    group: torch.distributed.ProcessGroup | None = ...,
    return_info: Literal[False] = ...,
) -> Tensor: ...
@overload
def log_sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    row_sums: float | Tensor | None = ...,
    col_sums: float | Tensor | None = ...,
    slack: float | Tensor | None = ...,
    n_rows: int | Tensor | None = ...,
    n_cols: int | Tensor | None = ...,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    group: torch.distributed.ProcessGroup | None = ...,
    return_info: Literal[True],
) -> tuple[Tensor, SinkhornInfo]: ...
@teaching
def log_sinkhorn(
    log_alpha: Float[Tensor, "*#batch m n"],
    tau: float | Float[Tensor, "*#batch"] = 1.0,
    n_iters: int = 20,
    *,
    row_sums: float | Float[Tensor, "..."] | None = None,
    col_sums: float | Float[Tensor, "..."] | None = None,
    slack: float | Float[Tensor, "*#batch"] | None = None,
    n_rows: int | Integer[Tensor, "*#batch"] | None = None,
    n_cols: int | Integer[Tensor, "*#batch"] | None = None,
    tol: float | None = None,
    backend: Backend = "auto",
    grad: Grad = "unrolled",
    group: torch.distributed.ProcessGroup | None = None,
    return_info: bool = False,
) -> (
    Float[Tensor, "*batch rows columns"] | tuple[Float[Tensor, "*batch rows columns"], SinkhornInfo]
):
    r"""Compute the logarithm of `sinkhorn`, exact where the matrix itself underflows to 0.

    .. math:: \log S^l(X)_{ij} = X_{ij} + u_i + v_j, \quad X = \log\alpha / \tau

    Arguments, errors and source are those of `sinkhorn`.

    Returns:
        The logarithm, dtype and shape of the result of `sinkhorn`, -inf in lines that do not count;
        with `return_info` a pair with a `SinkhornInfo`.

    Example:
        >>> log_sinkhorn(torch.tensor([[0.0, -500.0], [-500.0, 0.0]]))
        tensor([[   0., -500.],
                [-500.,    0.]])
    """
    shape = as_shape(row_sums, col_sums, slack, n_rows, n_cols)
    return _solve(log_alpha, tau, n_iters, shape, tol, backend, grad, group, True, return_info)
