"""What the distributions over permutations have in common: nothing of them has a closed form."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Perturbed"]


class Perturbed(Distribution):
    """A function of scores and Gumbel noise, of which nothing has a closed form."""

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
