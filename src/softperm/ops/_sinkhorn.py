"""The Sinkhorn operator S(X): alternate row and column normalisation of exp(X)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import torch
from torch import Tensor

from softperm._checks import (
    FLOAT_DTYPES,
    require_float_matrix,
    require_positive_int,
    require_solvable,
    shape_of,
)
from softperm._torch import can_read_values
from softperm.kernels import dispatch, implicit, reference
from softperm.kernels.reference import Problem, Settings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

Backend = Literal["auto", "torch", "cpu", "triton"]
_BACKENDS = ("auto", "torch", "cpu", "triton")
Grad = Literal["unrolled", "implicit"]
_GRADS = ("unrolled", "implicit")


class SinkhornInfo(NamedTuple):
    r"""How a Sinkhorn iteration ended, one entry a matrix.

    Arguments:
        n_iters: Iterations done, int64, shape (\*).
        row_error: Largest distance of a row sum from 1, shape (\*). Columns sum to 1.
        converged: Whether `row_error` is below `tol`, bool, shape (\*); without `tol`, all False.

    Example:
        >>> from softperm import sinkhorn
        >>> _, info = sinkhorn(torch.zeros(3, 3), tol=1e-3, return_info=True)
        >>> info.n_iters, info.converged
        (tensor(1), tensor(True))
    """

    n_iters: Int64[Tensor, "*batch"]
    row_error: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]


def check_tau(tau: object, batch_shape: torch.Size) -> None:
    """Refuse a temperature that is not positive or does not fit the batch."""
    if isinstance(tau, Tensor):
        if tau.dtype not in FLOAT_DTYPES:
            raise TypeError(f"tau must be a float or a floating tensor, got dtype {tau.dtype}")
        if can_read_values(tau) and not bool(((tau > 0) & tau.isfinite()).all()):
            raise ValueError(f"tau must be positive and finite, got {tau.tolist()}")
        try:
            torch.broadcast_shapes(tau.shape, batch_shape)
        except RuntimeError:
            raise ValueError(
                f"tau must broadcast against the batch dimensions {tuple(batch_shape)} of "
                f"log_alpha, got shape {shape_of(tau)}"
            ) from None
    elif isinstance(tau, bool) or not isinstance(tau, int | float):
        raise TypeError(f"tau must be a float or a floating tensor, got {type(tau).__name__}")
    elif not 0 < tau < float("inf"):
        raise ValueError(f"tau must be positive and finite, got {tau}")


def _check_tol(tol: object) -> None:
    if tol is None:
        return
    if isinstance(tol, bool) or not isinstance(tol, int | float):
        raise TypeError(f"tol must be None or a float, got {type(tol).__name__}")
    if not 0 < tol < float("inf"):
        raise ValueError(f"tol must be positive and finite, got {tol}")


def _check_backend(backend: str, device: torch.device) -> None:
    """Refuse a backend that does not exist, or not on this device."""
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}, got {backend!r}")
    if backend == "cpu" and device.type != "cpu":
        raise ValueError(f"backend cpu computes on the CPU, got log_alpha on {device}")
    if backend == "triton":
        if not dispatch.HAS_TRITON:
            raise ValueError("backend triton needs the package triton, which is not installed")
        from softperm.kernels import gpu

        if device.type != "cuda" and not gpu.is_interpreted():
            raise ValueError(f"backend triton computes on a GPU, got log_alpha on {device}")


def _check_values(log_alpha: Tensor, tau: float | Tensor, backend: Backend) -> None:
    """Refuse what has no doubly stochastic matrix, if that costs nothing.

    The kernels for CPUs notice it themselves.
    """
    seen = backend not in ("auto", "cpu") and can_read_values(log_alpha)
    if seen and log_alpha.numel() > 0:
        require_solvable(log_alpha, tau)


def _broadcast(tau: float | Tensor, x: Tensor) -> tuple[Tensor, float | Tensor]:
    """x with the batch dimensions of both, and a temperature: one for all, or one a matrix."""
    if not isinstance(tau, Tensor):
        return x, float(tau)
    dtype = reference.working_dtype(x)
    batch = torch.broadcast_shapes(x.shape[:-2], tau.shape)
    return x.expand(*batch, *x.shape[-2:]), tau.to(x.device, dtype).expand(batch)


def _require_converged(iters: Tensor, error: Tensor, tol: float | None) -> None:
    """Refuse the gradient of a limit that the iteration has not reached."""
    if not can_read_values(error) or error.numel() == 0:
        return
    rounding = torch.finfo(error.dtype).eps
    wanted = rounding**0.5 if tol is None else tol
    worst = int(error.argmax())
    largest = float(error.flatten()[worst])
    if not largest < wanted * (1 + rounding):  # just below tol, it may be rounded to just above
        raise RuntimeError(
            f"grad='implicit' is the gradient of the limit, which is not reached: the largest row "
            f"error is {largest:.3g} after {int(iters.flatten()[worst])} iterations, wanted below "
            f"{wanted:.3g}. Raise n_iters or tau, or use grad='unrolled'"
        )


def _solve(
    log_alpha: Tensor,
    tau: float | Tensor,
    n_iters: int,
    tol: float | None,
    backend: Backend,
    grad: Grad,
    log: bool,
    return_info: bool,
) -> Tensor | tuple[Tensor, SinkhornInfo]:
    """Check the arguments, then iterate in float32, or in float64 for float64."""
    require_float_matrix(log_alpha, "log_alpha")
    check_tau(tau, log_alpha.shape[:-2])
    require_positive_int(n_iters, "n_iters")
    _check_tol(tol)
    _check_backend(backend, log_alpha.device)
    if grad not in _GRADS:
        raise ValueError(f"grad must be one of {', '.join(_GRADS)}, got {grad!r}")
    _check_values(log_alpha, tau, backend)
    dtype = torch.float64 if log_alpha.dtype == torch.float64 else torch.float32
    x = log_alpha if log_alpha.dtype == dtype else log_alpha.to(dtype)
    x, taus = _broadcast(tau, x)
    given = Problem(x, taus)  # type: ignore[arg-type]
    how = Settings(n_iters, float(tol or 0.0), log, backend)
    iters: Tensor | None
    error: Tensor | None
    if grad == "implicit":
        out, iters, error = implicit.sinkhorn(given, how)
        if out.requires_grad:
            _require_converged(iters, error, tol)
    else:
        out, iters, error = dispatch.sinkhorn(given, how, return_info)
    if dtype != log_alpha.dtype:
        out = out.to(log_alpha.dtype)
    if not return_info:
        return out
    assert iters is not None
    assert error is not None
    # A matrix that stopped early has converged, also where rounding makes its error equal to tol.
    converged = (error < (tol or 0.0)) | (iters < n_iters)
    return out, SinkhornInfo(iters, error, converged)


@overload
def sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    return_info: Literal[False] = ...,
) -> Tensor: ...
@overload
def sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    return_info: Literal[True],
) -> tuple[Tensor, SinkhornInfo]: ...
def sinkhorn(
    log_alpha: Float[Tensor, "*#batch n n"],
    tau: float | Float[Tensor, "*#batch"] = 1.0,
    n_iters: int = 20,
    *,
    tol: float | None = None,
    backend: Backend = "auto",
    grad: Grad = "unrolled",
    return_info: bool = False,
) -> Float[Tensor, "*batch n n"] | tuple[Float[Tensor, "*batch n n"], SinkhornInfo]:
    r"""The doubly stochastic matrix that l row and column normalisations make of log_alpha / tau.

    .. math:: S^0(X) = \exp(X), \quad S^l(X) = T_c(T_r(S^{l-1}(X))), \quad X = \log\alpha / \tau

    T_r divides by the row sums, T_c by the column sums: columns sum to 1, rows approximately.
    Right at any temperature: what leaves the range of exp is computed in the log domain. The
    gradient is that of the l steps, exactly, for which O(n^2 + l n) numbers a matrix are kept, or
    that of the limit, for which O(n^2) are kept, and which takes time O(n^3), whatever l.

    Arguments:
        log_alpha: Unnormalised log-probability that item i belongs at position j, any floating
            dtype, shape (\*, n, n). -inf forbids a pair.
        tau: Temperature: a positive float, or a tensor that broadcasts against the batch
            dimensions (differentiable).
        n_iters: Number l of iterations, at least 1; with `tol`, the most that are done.
        tol: Stop a matrix when its largest row-sum error is below this.
        backend: How to compute it: "cpu" (compiled, on CPUs), "triton" (compiled, on GPUs, where
            the package triton is installed), "torch" (on any device), or "auto" for the quickest.
        grad: "unrolled", the gradient of the l steps, or "implicit", that of their limit.
        return_info: Return a `SinkhornInfo` as well.

    Returns:
        S^l(log_alpha / tau), dtype of `log_alpha`, shape (\*, n, n); with `return_info` a pair.
        float16 and bfloat16 are computed in float32.

    Raises:
        TypeError: an argument has the wrong type, or `log_alpha` an integer, boolean or complex
            dtype.
        ValueError: `log_alpha` is not square, or holds NaN or +inf or a row or column of -inf
            alone, or log_alpha / tau reaches 1e100 in magnitude (-inf aside; on a CPU only where
            its exponentials do not do); or `tau`, `n_iters` or `tol` is out of range, `grad` is
            unknown, or `backend` cannot compute on the device.
        RuntimeError: `grad` is "implicit", a gradient is asked for, and the largest row-sum error
            is not below `tol` (without `tol`: 3.5e-4, in float64 1.5e-8, the square root of the
            rounding unit). Raised forwards, where the values can be read for free: not on GPUs
            nor under `torch.compile` and `torch.func`, where `return_info` tells.

    Source: Mena et al., ICLR 2018, equations (1) and (2); for the implicit gradient, the implicit
        function theorem, see `softperm.kernels.implicit`.

    Example:
        >>> S = sinkhorn(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
        >>> S
        tensor([[0.8808, 0.1192],
                [0.1192, 0.8808]])
        >>> S.sum(0)
        tensor([1., 1.])
    """
    return _solve(log_alpha, tau, n_iters, tol, backend, grad, False, return_info)


@overload
def log_sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    return_info: Literal[False] = ...,
) -> Tensor: ...
@overload
def log_sinkhorn(
    log_alpha: Tensor,
    tau: float | Tensor = ...,
    n_iters: int = ...,
    *,
    tol: float | None = ...,
    backend: Backend = ...,
    grad: Grad = ...,
    return_info: Literal[True],
) -> tuple[Tensor, SinkhornInfo]: ...
def log_sinkhorn(
    log_alpha: Float[Tensor, "*#batch n n"],
    tau: float | Float[Tensor, "*#batch"] = 1.0,
    n_iters: int = 20,
    *,
    tol: float | None = None,
    backend: Backend = "auto",
    grad: Grad = "unrolled",
    return_info: bool = False,
) -> Float[Tensor, "*batch n n"] | tuple[Float[Tensor, "*batch n n"], SinkhornInfo]:
    r"""The logarithm of `sinkhorn`, exact where the matrix itself underflows to 0.

    .. math:: \log S^l(X)_{ij} = X_{ij} + u_i + v_j, \quad X = \log\alpha / \tau

    Arguments, errors and source are those of `sinkhorn`.

    Returns:
        log S^l(log_alpha / tau), dtype of `log_alpha`, shape (\*, n, n); with `return_info` a
        pair with a `SinkhornInfo`.

    Example:
        >>> log_sinkhorn(torch.tensor([[0.0, -500.0], [-500.0, 0.0]]))
        tensor([[   0., -500.],
                [-500.,    0.]])
    """
    return _solve(log_alpha, tau, n_iters, tol, backend, grad, True, return_info)
