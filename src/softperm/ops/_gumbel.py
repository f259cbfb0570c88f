"""Gumbel noise, and the two distributions over permutations that it makes of a score matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softperm._checks import (
    FLOAT_DTYPES,
    as_sample_shape,
    require_float_matrix,
    require_log_alpha,
    require_noise_scale,
    shape_of,
)
from softperm._torch import can_read_values
from softperm._typing import Float, Int64, SampleShape
from softperm.ops._matching import matching
from softperm.ops._options import Backend, Grad, check_tau
from softperm.ops._sinkhorn import sinkhorn
from softperm.permutations import permutation_matrix


def sample_gumbel(
    shape: SampleShape,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "..."]:
    r"""Independent standard Gumbel noise.

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
    draw = torch.float64 if dtype == torch.float64 else torch.float32
    u = torch.rand(as_sample_shape(shape, "shape"), dtype=draw, device=device, generator=generator)
    limits = torch.finfo(draw)
    return u.clamp(limits.tiny, 1 - limits.eps / 2).log_().neg_().log_().neg_().to(dtype)


def _perturb(
    log_alpha: Tensor,
    noise_scale: float,
    sample_shape: SampleShape,
    generator: torch.Generator | None,
) -> Tensor:
    """X + s eps, sample_shape + (*, n, n), in float32, or in float64 for float64."""
    require_log_alpha(log_alpha)
    noise_scale = require_noise_scale(noise_scale)
    dtype = torch.float64 if log_alpha.dtype == torch.float64 else torch.float32
    x = log_alpha.to(dtype).expand(as_sample_shape(sample_shape) + log_alpha.shape)
    if noise_scale == 0:
        return x
    noise = sample_gumbel(x.shape, dtype=dtype, device=x.device, generator=generator)
    return x + noise_scale * noise


def gumbel_sinkhorn(
    log_alpha: Float[Tensor, "*#batch n n"],
    tau: float | Float[Tensor, "*#batch"] = 1.0,
    n_iters: int = 20,
    *,
    noise_scale: float = 1.0,
    sample_shape: SampleShape = (),
    generator: torch.Generator | None = None,
    hard: bool = False,
    tol: float | None = None,
    backend: Backend = "auto",
    grad: Grad = "unrolled",
) -> Float[Tensor, "*sample_batch n n"]:
    r"""Samples of the Gumbel-Sinkhorn distribution: differentiable, nearly doubly stochastic.

    .. math:: S((X + s\,\varepsilon) / \tau), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    At tau to infinity the uniform matrix 1/n, at tau to 0 a permutation matrix, a sample of
    `gumbel_matching`.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, n, n).
        tau: Temperature: a positive float, or a tensor that broadcasts against the batch
            dimensions (differentiable).
        n_iters: Number of Sinkhorn iterations.
        noise_scale: Scale s of the noise; 0 makes it deterministic.
        sample_shape: Independent samples to draw of every matrix: an int or a shape.
        generator: Source of randomness; torch's global one when omitted.
        hard: Give permutation matrices, with the gradient of the soft ones: `straight_through` of
            the samples, as `hard` of `torch.nn.functional.gumbel_softmax`.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Returns:
        Samples, dtype of `log_alpha`, shape sample_shape + (\*, n, n).

    Raises:
        TypeError, ValueError, RuntimeError: as `sinkhorn`; or `noise_scale` is negative, not finite
            or not a number, or `hard` not a bool.

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
    check_tau(tau, log_alpha.shape[:-2])
    if isinstance(tau, Tensor):  # the sample dimensions come in front of those of tau
        batch_shape = torch.broadcast_shapes(log_alpha.shape[:-2], tau.shape)
        log_alpha = log_alpha.expand(batch_shape + log_alpha.shape[-2:])
    x = _perturb(log_alpha, noise_scale, sample_shape, generator)
    soft = sinkhorn(x, tau, n_iters, tol=tol, backend=backend, grad=grad)
    return (straight_through(soft) if hard else soft).to(log_alpha.dtype)


def gumbel_matching(
    log_alpha: Float[Tensor, "*#batch n n"],
    *,
    noise_scale: float = 1.0,
    sample_shape: SampleShape = (),
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "*sample_batch n"]:
    r"""Samples of the Gumbel-Matching distribution: hard permutations.

    .. math:: M(X + s\,\varepsilon), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    Not differentiable. ``straight_through(gumbel_sinkhorn(...))`` gives, from a generator in the
    same state, the same permutations as matrices, with the gradient of Gumbel-Sinkhorn (unless tau
    is so small that entries underflow, see `straight_through`).

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, n, n).
        noise_scale: Scale s of the noise; 0 gives ``matching(log_alpha)``.
        sample_shape: Independent samples to draw of every matrix: an int or a shape.
        generator: Source of randomness; torch's global one when omitted.

    Returns:
        Indices, int64, shape sample_shape + (\*, n).

    Raises:
        TypeError, ValueError: as `matching`; or `noise_scale` is negative, not finite or not a
            number.

    Source: Mena et al., ICLR 2018, section 3.1 (Gumbel-Matching distribution).

    Example:
        >>> gumbel_matching(torch.zeros(4, 3, 3), sample_shape=(10,)).shape
        torch.Size([10, 4, 3])
    """
    return matching(_perturb(log_alpha, noise_scale, sample_shape, generator))


class _StraightThrough(torch.autograd.Function):
    """The hard matrix forwards, the identity backwards."""

    generate_vmap_rule = True

    @staticmethod
    def forward(soft: Tensor) -> Tensor:
        # M(log S(X)) = M(X): log S differs from X by a constant a row and a column only.
        scores = soft.clamp_min(torch.finfo(soft.dtype).tiny).log()
        return permutation_matrix(matching(scores), soft.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def straight_through(soft: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    r"""The most likely permutation of a soft one, with the gradient of the soft one.

    .. math:: \text{forwards } M(\log \mathrm{soft}), \qquad
        \text{backwards } \partial\,\mathrm{out} / \partial\,\mathrm{soft} = \mathrm{id}

    For soft = S(X / tau) the forward value is M(X): the logarithm of S differs from X / tau only
    by constants of rows and columns, which no permutation feels. That holds while no entry that
    matters underflows: below about tau = 0.03 times the spread of X in float32, use `matching`.

    Arguments:
        soft: Doubly stochastic matrices, any floating dtype, shape (\*, n, n), entries at least 0.

    Returns:
        Permutation matrices, dtype of `soft`, shape (\*, n, n).

    Raises:
        TypeError: `soft` is not a floating-point tensor.
        ValueError: it is not square, or holds NaN, infinities or entries below 0.

    Source: Mena et al., ICLR 2018, section 3; the straight-through estimator of Bengio et al.
        (2013), as in `torch.nn.functional.gumbel_softmax` with hard=True.

    Example:
        >>> soft = torch.tensor([[0.7, 0.3], [0.3, 0.7]], requires_grad=True)
        >>> straight_through(soft)[0, 0].backward()
        >>> soft.grad
        tensor([[1., 0.],
                [0., 0.]])
    """
    require_float_matrix(soft, "soft")
    if can_read_values(soft) and not bool(((soft >= 0) & soft.isfinite()).all()):
        raise ValueError(
            f"soft must hold finite entries of at least 0, got others in shape {shape_of(soft)}"
        )
    hard: Tensor = _StraightThrough.apply(soft)  # type: ignore[no-untyped-call]
    return hard
