"""What the distributions over permutations have in common: nothing of them has a closed form."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Perturbed"]


class Perturbed(Distribution):
    """A function of scores and Gumbel noise, of which nothing has a closed form."""

    log_alpha: Tensor
    noise_scale: float

    def _expanded(self, kind: type[Self], batch_shape: Any, instance: Any) -> Self:
        """Give a `kind` of these batch dimensions, without the attributes that it alone has."""
        new: Self = self._get_checked_instance(kind, instance)  # type: ignore[no-untyped-call]
        batch_shape = torch.Size(batch_shape)
        new.log_alpha = self.log_alpha.expand(batch_shape + self.log_alpha.shape[-2:])
        new.noise_scale = self.noise_scale
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} has no closed form of its {what}: it is an integral over all "
            f"noise that leads to the same matrix. {instead}"
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Not known in closed form.

        Raises:
            NotImplementedError: always; it says what to use instead.
        """
        self._refuse(
            "probability",
            "Use that of the perturbed scores, torch.distributions.Gumbel(log_alpha, noise_scale); "
            "to train, the bound that torch.distributions.kl_divergence gives for two "
            "GumbelSinkhorn",
        )

    def entropy(self) -> Tensor:
        """Not known in closed form.

        Raises:
            NotImplementedError: always; it says what to use instead.
        """
        self._refuse(
            "entropy",
            "To keep samples diverse, use that of the matrix of GumbelSinkhorn without noise, "
            "torch.special.entr(d.noiseless).sum((-2, -1)); for an evidence bound, "
            "torch.distributions.kl_divergence of two GumbelSinkhorn",
        )

    @property
    def mean(self) -> Tensor:
        """Not known in closed form; averages of samples approach it.

        Raises:
            NotImplementedError: always.
        """
        self._refuse("mean", "Use the average of samples, d.sample((1000,)).mean(0)")

    @property
    def mode(self) -> Tensor:
        """Not known: nobody has shown that the matrix without noise is the most probable one.

        Raises:
            NotImplementedError: always; it says what to use instead.
        """
        self._refuse("mode", "Use d.noiseless, the sample without noise")
