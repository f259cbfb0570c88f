"""A permutation as a parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softperm._apply import apply_permutation
from softperm._checks import (
    as_int,
    require_noise_scale,
    require_positive_float,
    require_positive_int,
    shape_of,
)
from softperm._teach import teaching
from softperm.ops import gumbel_sinkhorn, matching
from softperm.permutations import invert_permutation

__all__ = ["LearnedPermutation"]

_SPREAD = 0.01  # of the first scores: nearly all alike, but none quite


class LearnedPermutation(nn.Module):
    r"""A permutation of n items that is learnt: an order of channels, of weights, of variables.

    .. math:: y = P^\top x, \qquad P = S((X + s\,\varepsilon) / \tau) \text{ in training}, \quad
        P = M(X) \text{ in evaluation}

    Arguments:
        n: Number of items.
        block_size: Learn one permutation within every block of this many items; None for a single
            one of all items.
        tau: Temperature, a positive float; may be changed between calls.
        n_iters: Number of Sinkhorn iterations in training.
        noise_scale: Scale s of Gumbel noise in training.
        hard: Permute hard in training too, with the gradient of the soft permutation.

    Attributes:
        log_alpha: The scores X that are learnt, shape (n / block_size, block_size, block_size).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or `block_size` does not divide n.

    Source: Mena et al., ICLR 2018, for soft permutations.

    Example:
        >>> layer = LearnedPermutation(6, block_size=3)
        >>> layer(torch.randn(10, 6)).shape
        torch.Size([10, 6])
        >>> layer.permutation.shape
        torch.Size([6])
    """

    @teaching
    def __init__(
        self,
        n: int,
        *,
        block_size: int | None = None,
        tau: float = 1.0,
        n_iters: int = 20,
        noise_scale: float = 0.0,
        hard: bool = False,
    ) -> None:
        super().__init__()
        self.n = require_positive_int(n, "n")
        size = self.n if block_size is None else require_positive_int(block_size, "block_size")
        if self.n % size:
            raise ValueError(f"block_size must divide n, got {size} for {self.n} items")
        self.block_size = size
        self.tau = require_positive_float(tau, "tau")
        self.n_iters = require_positive_int(n_iters, "n_iters")
        self.noise_scale = require_noise_scale(noise_scale)
        self.hard = hard
        self.log_alpha = nn.Parameter(torch.empty(self.n // size, size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from scores that are nearly equal, that is, from the uniform matrix."""
        nn.init.normal_(self.log_alpha, std=_SPREAD)

    @property
    def permutation(self) -> Tensor:
        """The most likely permutation, ``permutation[i] = j``, int64, shape (n,)."""
        within = matching(self.log_alpha)
        first = torch.arange(0, self.n, self.block_size, device=within.device)
        return (within + first.unsqueeze(-1)).flatten()

    def soft(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw the matrices P of all blocks as in training, shape of `log_alpha`."""
        return gumbel_sinkhorn(
            self.log_alpha,
            self.tau,
            self.n_iters,
            noise_scale=self.noise_scale,
            generator=generator,
            hard=self.hard,
        )

    def forward(self, x: Tensor, dim: int = -1, generator: torch.Generator | None = None) -> Tensor:
        """Permute a dimension of x.

        Arguments:
            x: Any tensor with n items in the dimension; floating in training.
            dim: The dimension.
            generator: Source of the noise in training.

        Returns:
            The same shape; in evaluation mode the same dtype, in training the two dtypes promoted.
        """
        dim = as_int(dim, "dim")
        if not -x.dim() <= dim < x.dim() or x.shape[dim] != self.n:
            raise ValueError(
                f"x must have {self.n} items in dimension {dim}, got shape {shape_of(x)}"
            )
        if not self.training:
            return x.index_select(dim, invert_permutation(self.permutation).to(x.device))
        P = self.soft(generator)
        blocks = x.movedim(dim, 0).unflatten(0, P.shape[:2])
        return apply_permutation(P, blocks).flatten(0, 1).movedim(0, dim)

    def extra_repr(self) -> str:
        """The settings, as `print(layer)` shows them."""
        return (
            f"{self.n}, block_size={self.block_size}, tau={self.tau}, n_iters={self.n_iters}, "
            f"noise_scale={self.noise_scale}, hard={self.hard}"
        )
