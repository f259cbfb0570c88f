"""Gumbel noise, and the two distributions over permutations that it makes of a score matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import (
    FLOAT_DTYPES,
    as_sample_shape,
    require_float_matrix,
    require_noise_scale,
)
from softperm._teach import teaching
from softperm._typing import Float, Int64, Integer, SampleShape
from softperm.kernels.reference import matrix_dtype
from softperm.ops._matching import check_matching, matching, matching_batch
from softperm.ops._options import Backend, Grad, check_tau
from softperm.ops._shapes import Shape, check_shape, common_batch
from softperm.ops._sinkhorn import sinkhorn
from softperm.ops._sizes import side
from softperm.ops._straight_through import replace_by
from softperm.permutations import permutation_matrix


@teaching
def sample_gumbel(
    shape: SampleShape,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "..."]:
    r"""Draw independent standard Gumbel noise.

    .. math:: \varepsilon = -\log(-\log U), \quad U \sim \mathrm{Uniform}(0, 1)

    Arguments:
        shape: Shape of the result.
        dtype: Floating dtype of the result; the default dtype when omitted. float16 and bfloat16
            are drawn in float32.
        device: Device of the result; the generator's, else the default device.
        generator: Source of randomness; torch's global one when omitted.

    Returns:
        Noise, finite for every U that the generator can give.

    Raises:
        TypeError: `dtype` is not floating, or a size not an int.
        ValueError: a size is negative.

    Source: Mena et al., ICLR 2018, section 3.

    Example:
        >>> sample_gumbel((2, 3), generator=torch.Generator().manual_seed(0)).isfinite().all()
        tensor(True)
    """
    dtype = dtype or torch.get_default_dtype()
    if dtype not in FLOAT_DTYPES:
        raise TypeError(f"dtype must be floating, got {dtype}")
    if device is None and generator is not None:
        device = generator.device
    draw = matrix_dtype(dtype)
    u = torch.rand(as_sample_shape(shape, "shape"), dtype=draw, device=device, generator=generator)
    limits = torch.finfo(draw)
    return u.clamp(limits.tiny, 1 - limits.eps / 2).log_().neg_().log_().neg_().to(dtype)


def _perturb(
    log_alpha: Tensor,
    noise_scale: float,
    sample_shape: SampleShape,
    generator: torch.Generator | None,
) -> Tensor:
    """X + s eps, sample_shape + (*, m, n), in float32, or in float64 for float64."""
    noise_scale = require_noise_scale(noise_scale)
    dtype = matrix_dtype(log_alpha.dtype)
    x = log_alpha.to(dtype).expand(as_sample_shape(sample_shape) + log_alpha.shape)
    if noise_scale == 0:
        return x
    noise = sample_gumbel(x.shape, dtype=dtype, device=x.device, generator=generator)
    return x + noise_scale * noise


@teaching
def gumbel_sinkhorn(
    log_alpha: Float[Tensor, "*#batch m n"],
    tau: float | Float[Tensor, "*#batch"] = 1.0,
    n_iters: int = 20,
    *,
    noise_scale: float = 1.0,
    sample_shape: SampleShape = (),
    generator: torch.Generator | None = None,
    hard: bool = False,
    row_sums: float | Float[Tensor, "..."] | None = None,
    col_sums: float | Float[Tensor, "..."] | None = None,
    slack: float | Float[Tensor, "*#batch"] | None = None,
    n_rows: int | Integer[Tensor, "*#batch"] | None = None,
    n_cols: int | Integer[Tensor, "*#batch"] | None = None,
    tol: float | None = None,
    backend: Backend = "auto",
    grad: Grad = "unrolled",
) -> Float[Tensor, "*sample_batch rows columns"]:
    r"""Draw samples of the Gumbel-Sinkhorn distribution: soft permutations with a gradient.

    .. math:: S((X + s\,\varepsilon) / \tau), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    For tau to infinity a sample is the uniform matrix 1/n. For tau to 0 it is a permutation matrix,
    a sample of `gumbel_matching`.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, m, n).
        tau: Temperature: a positive float, or a tensor that broadcasts against the batch
            dimensions (differentiable).
        n_iters: Number of Sinkhorn iterations.
        noise_scale: Scale s of the noise; 0 makes it deterministic.
        sample_shape: Independent samples to draw of every matrix: an int or a shape.
        generator: Source of randomness; torch's global one when omitted.
        hard: Give permutation matrices, with the gradient of the soft ones, as `hard` of
            `torch.nn.functional.gumbel_softmax`: the samples of `gumbel_matching` from a generator
            in the same state. With `slack` it is the score of staying unmatched, and the lines of
            slack say what does. Not together with given sums, which no permutation has.
        row_sums: As in `sinkhorn`.
        col_sums: As in `sinkhorn`.
        slack: As in `sinkhorn`; it gets no noise.
        n_rows: As in `sinkhorn`.
        n_cols: As in `sinkhorn`.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Returns:
        Samples, dtype of `log_alpha`, shape sample_shape + (\*, m, n), with `slack`
        sample_shape + (\*, m + 1, n + 1).

    Raises:
        TypeError, ValueError, RuntimeError: as `sinkhorn`, with `hard` as `matching`; or
            `noise_scale` is negative, not finite or not a number, or `hard` is not a bool, or sums
            are given with it.

    Source: Mena et al., ICLR 2018, section 3.2 (Gumbel-Sinkhorn distribution).

    Example:
        >>> P = gumbel_sinkhorn(torch.zeros(4, 3, 3), tau=0.5, sample_shape=(10,))
        >>> P.shape
        torch.Size([10, 4, 3, 3])
        >>> torch.testing.assert_close(P.sum(-2), torch.ones(10, 4, 3))
        >>> gumbel_sinkhorn(torch.zeros(3, 3), hard=True).sum(-1)
        tensor([1., 1., 1.])
    """
    if not isinstance(hard, bool):
        raise TypeError(f"hard must be a bool, got {type(hard).__name__}")
    require_float_matrix(log_alpha, "log_alpha")
    shape = Shape(row_sums, col_sums, slack, n_rows, n_cols)
    if hard and shape.has_sums:
        raise ValueError(
            "hard needs rows and columns that sum to 1: not together with row_sums or col_sums"
        )
    check_tau(tau, log_alpha.shape[:-2])
    check_shape(log_alpha, shape)
    # The sample dimensions come in front of all others.
    batch = common_batch(log_alpha, tau, shape)
    full = log_alpha.expand(batch + log_alpha.shape[-2:])
    x = _perturb(full, noise_scale, sample_shape, generator)
    options = {"tol": tol, "backend": backend, "grad": grad}
    soft: Tensor = sinkhorn(x, tau, n_iters, **shape._asdict(), **options)  # type: ignore[call-overload]
    return (replace_by(_harden(x, shape), soft) if hard else soft).to(log_alpha.dtype)


def _harden(x: Tensor, shape: Shape) -> Tensor:
    """The matching of scores as matrices, with lines of slack for what is left over."""
    x, slack = x.detach(), shape.slack
    unmatched = slack.detach().unsqueeze(-1) if isinstance(slack, Tensor) else slack
    perm = matching(x, unmatched=unmatched, n_rows=shape.n_rows, n_cols=shape.n_cols)
    P = permutation_matrix(perm, x.dtype, x.shape[-1])
    if slack is None:
        return P
    rows, columns = (
        side(length, size, x.device)
        for length, size in zip(x.shape[-2:], (shape.n_rows, shape.n_cols), strict=True)
    )
    row = columns.keep(1 - P.sum(-2), 0.0).unsqueeze(-2)
    column = rows.keep(1 - P.sum(-1), 0.0).unsqueeze(-1)
    pairs = P.sum((-2, -1))[..., None, None]
    return torch.cat([torch.cat([P, column], -1), torch.cat([row, pairs], -1)], -2)


@teaching
def gumbel_matching(
    log_alpha: Float[Tensor, "*#batch m n"],
    *,
    noise_scale: float = 1.0,
    sample_shape: SampleShape = (),
    generator: torch.Generator | None = None,
    unmatched: float | Float[Tensor, "..."] | None = None,
    n_rows: int | Integer[Tensor, "*#batch"] | None = None,
    n_cols: int | Integer[Tensor, "*#batch"] | None = None,
) -> Int64[Tensor, "*sample_batch m"]:
    r"""Draw samples of the Gumbel-Matching distribution: hard permutations.

    .. math:: M(X + s\,\varepsilon), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    They have no gradient. ``gumbel_sinkhorn(..., hard=True)`` gives the same permutations, from a
    generator in the same state, as matrices with the gradient of Gumbel-Sinkhorn.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, m, n).
        noise_scale: Scale s of the noise; 0 gives ``matching(log_alpha)``.
        sample_shape: Independent samples to draw of every matrix: an int or a shape.
        generator: Source of randomness; torch's global one when omitted.
        unmatched: As in `matching`; it gets no noise.
        n_rows: As in `matching`.
        n_cols: As in `matching`.

    Returns:
        Indices, int64, shape sample_shape + (\*, m); -1 for an item without a position.

    Raises:
        TypeError, ValueError: as `matching`; or `noise_scale` is negative, not finite or not a
            number.

    Source: Mena et al., ICLR 2018, section 3.1 (Gumbel-Matching distribution).

    Example:
        >>> gumbel_matching(torch.zeros(4, 3, 3), sample_shape=(10,)).shape
        torch.Size([10, 4, 3])
    """
    require_float_matrix(log_alpha, "log_alpha")
    check_matching(log_alpha, unmatched, n_rows, n_cols)
    batch = matching_batch(log_alpha, unmatched, n_rows, n_cols)
    full = log_alpha.detach().expand(batch + log_alpha.shape[-2:])
    x = _perturb(full, noise_scale, sample_shape, generator)
    return matching(x, unmatched=unmatched, n_rows=n_rows, n_cols=n_cols)
