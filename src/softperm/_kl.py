"""The Kullback-Leibler divergence between Gumbel-Sinkhorn distributions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softperm._checks import broadcast_batch, shape_of
from softperm.kernels.reference import working_dtype

if TYPE_CHECKING:
    from softperm.distributions import GumbelSinkhorn

__all__ = ["kl_gumbel_sinkhorn"]

_EULER = 0.57721566490153286061


def _check_pair(q: GumbelSinkhorn, p: GumbelSinkhorn) -> None:
    """Refuse distributions that have no density, or are not over matrices of one kind."""
    for name, d in (("first", q), ("second", p)):
        if d.noise_scale == 0:
            raise ValueError(
                f"noise_scale must be above 0 in both distributions, got {d.noise_scale} in the "
                f"{name}: without noise there is no density"
            )
    slack = [d._shape.slack is not None for d in (q, p)]
    if q.log_alpha.shape[-2:] != p.log_alpha.shape[-2:] or slack[0] != slack[1]:
        kinds = [
            f"{shape_of(d.log_alpha)[-2:]} {'with' if given else 'without'} slack"
            for d, given in zip((q, p), slack, strict=True)
        ]
        raise ValueError(
            f"both distributions must be over matrices of one shape, with slack in both or in "
            f"neither, got {kinds[0]} and {kinds[1]}"
        )
    broadcast_batch("both distributions", q.batch_shape, p.batch_shape)


def _entries(x: Tensor, x0: Tensor, ratio: Tensor, scales: tuple[float, float]) -> Tensor:
    """The divergence of every entry; the scores are finite, `ratio` is tau_p / tau.

    With u = delta - lgamma(1 + a) it is (u + e^-u - 1) + (lgamma(a) + gamma (a - 1)): neither
    bracket is negative, so nothing large cancels. What e^-u stands for is cut off early enough for
    sums and gradients to be finite as well.
    """
    s, s0 = scales
    largest = torch.finfo(x.dtype).max
    extreme = largest ** (1 / 3)
    ratio = ratio.clamp(1 / extreme, extreme)
    a = (ratio * (s / s0)).clamp(1 / extreme, extreme)
    u = (ratio * x - x0) / s0 - torch.lgamma(1 + a)
    u = u.clamp(-0.9 * math.log(largest), extreme)
    return u + torch.expm1(-u) + torch.lgamma(a) + _EULER * (a - 1)


def kl_gumbel_sinkhorn(q: GumbelSinkhorn, p: GumbelSinkhorn) -> Tensor:
    r"""Bound the divergence of two Gumbel-Sinkhorn distributions by that of their noisy scores.

    ``torch.distributions.kl_divergence(q, p)`` calls it. With scores X, temperature
    :math:`\tau` and noise scale s of q, and :math:`X^0, \tau_p, s_p` of p:

    .. math::
        \sum_{ij} \bigl[\delta_{ij} + e^{-\delta_{ij}}\,\Gamma(1 + a) - 1 - \log a
        + \gamma (a - 1)\bigr], \quad
        a = \frac{\tau_p\,s}{\tau\,s_p}, \quad
        \delta_{ij} = \frac{\tau_p X_{ij} / \tau - X^0_{ij}}{s_p}

    with Euler's constant :math:`\gamma`. (It is a function of :math:`X - X^0` only if
    :math:`X^0 = 0` or the temperatures are equal.)

    It is the exact divergence of the matrices :math:`(X + s\,\varepsilon) / \tau` and
    :math:`(X^0 + s_p\,\varepsilon) / \tau_p`, of which Sinkhorn then makes the samples. A function
    cannot bring two distributions further apart. So if both go through the same function, the
    divergence of the samples is **at most this**, and an evidence bound with it is a bound. The
    function is the same if `n_iters`, `tol`, sums and sizes are the same, and with slack also
    slack / tau.

    Pairs that q forbids (-inf) are left out, and so are those that do not count: they are no random
    numbers. If p allows them, its distribution given that they are forbidden is meant. A pair that
    q allows and p forbids makes the divergence inf. Lines of slack have no noise and add nothing.

    Computed in float64. It is finite wherever temperatures and noise scales are within a factor of
    1e100 of each other. What is beyond the largest number of the result counts as that number, and
    an entry beyond 1e277 as 1e277, both with gradient 0. This happens where tau_p is far above tau
    (at equal scores and noise from tau_p = 35 tau on, in float64 from 157 tau on), or where the
    scores of p are far above those of q: bring the temperatures nearer to each other.

    Arguments:
        q: The distribution whose samples are averaged over, usually the posterior.
        p: The other, usually the prior; its batch dimensions broadcast against those of `q`.

    Returns:
        The divergence in nats, of the common batch shape, differentiable in `log_alpha` and `tau`
        of both; float64 where the scores of q or p are, float32 elsewhere.

    Raises:
        ValueError: `noise_scale` of one is 0, so that it has no density; matrices are of different
            shapes or only one has slack; batch dimensions do not broadcast.

    Source: Mena et al., "Toward Bayesian permutation inference for identifying neurons in C.
    elegans", 2017 (with :math:`X^0 = 0`).

    Example:
        >>> from softperm.distributions import GumbelSinkhorn
        >>> from torch.distributions import kl_divergence
        >>> prior = GumbelSinkhorn(torch.zeros(3, 3))
        >>> kl_divergence(GumbelSinkhorn(2 * torch.eye(3)), prior)
        tensor(3.4060)
        >>> kl_divergence(prior, prior)
        tensor(0.)
    """
    _check_pair(q, p)
    x, x0 = q.log_alpha, p.log_alpha
    allowed, impossible = ~x.isneginf(), x0.isneginf()
    dtype = working_dtype(x)
    # Finite numbers stand in for -inf from the start: a gradient of 0 times inf would be NaN.
    finite, finite0 = (y.masked_fill(y.isneginf(), 0.0).to(dtype) for y in (x, x0))
    ratio = (p.tau.to(dtype) / q.tau.to(dtype))[..., None, None]
    entries = _entries(finite, finite0, ratio, (q.noise_scale, p.noise_scale))
    total = torch.where(allowed & ~impossible, entries, 0.0).sum((-2, -1))
    dtype = torch.promote_types(torch.promote_types(x.dtype, x0.dtype), torch.float32)
    total = total.clamp(max=torch.finfo(dtype).max).to(dtype)
    return total.masked_fill((allowed & impossible).flatten(-2).any(-1), torch.inf)
