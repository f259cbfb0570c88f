"""Networks for sorting numbers: the paper's, and one that reads a list as a whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softperm._checks import require_positive_int, shape_of
from softperm.nn.base import SinkhornNet
from softperm.ops._options import Backend, Grad
from softperm.ops._soft_sort import standardise


class SinkhornSortNet(SinkhornNet):
    r"""The paper's sorting network: every number is read by the same small net.

    .. math:: \log\alpha_i = W_2 \operatorname{relu}(W_1 x_i + b_1) + b_2

    Arguments:
        n_items: Length n of the lists, and number of positions.
        hidden_features: Units of the hidden layer.
        tau: Temperature of the Gumbel-Sinkhorn samples in training.
        n_iters: Sinkhorn iterations in training.
        noise_scale: Scale of the Gumbel noise in training.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Shapes: see `SinkhornNet.forward`; items are numbers, (\*, n), in a floating dtype.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Mena et al., ICLR 2018, section 5.1.

    Example:
        >>> net = SinkhornSortNet(n_items=5)
        >>> ordered, P = net(torch.rand(10, 5), sample_shape=3)
        >>> ordered.shape, P.shape
        (torch.Size([3, 10, 5]), torch.Size([3, 10, 5, 5]))
    """

    def __init__(
        self,
        n_items: int,
        hidden_features: int = 32,
        tau: float = 1.0,
        n_iters: int = 10,
        *,
        noise_scale: float = 1.0,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__(tau, n_iters, noise_scale, tol=tol, backend=backend, grad=grad)
        self.n_items = n_items = require_positive_int(n_items, "n_items")
        hidden_features = require_positive_int(hidden_features, "hidden_features")
        self.scores = nn.Sequential(
            nn.Linear(1, hidden_features), nn.ReLU(), nn.Linear(hidden_features, n_items)
        )

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""Compute the logits of every number, shape (\*, n, n).

        Raises:
            ValueError: `items` does not have the length the network was made for.
        """
        if items.dim() < 1 or items.shape[-1] != self.n_items:
            raise ValueError(f"items must have shape (*, {self.n_items}), got {shape_of(items)}")
        logits: Tensor = self.scores(items.unsqueeze(-1))
        return logits


def _curve(hidden_features: int) -> nn.Sequential:
    """A smooth learnt function of one number; nothing makes it monotone."""
    return nn.Sequential(
        nn.Linear(1, hidden_features), nn.Tanh(), nn.Linear(hidden_features, 1), nn.Flatten(-2)
    )


class RelativeSortNet(SinkhornNet):
    r"""A sorting network that reads every number relative to the others in its list.

    .. math:: \log\alpha_{ij} = -e^s (a(z_i) - b(t_j))^2, \qquad
        z_i = \frac{x_i - \operatorname{mean}(x)}{\operatorname{std}(x)}

    with the positions t = 0, ..., n - 1 standardised like the numbers, two small nets a and b, and
    a scale s, all learnt. Shifting or stretching the numbers changes nothing. Permuting them
    permutes the rows. Nothing depends on n: a trained network sorts lists of any length. The
    matching puts the largest a with the largest b. So it sorts exactly if both are monotone, which
    training has to find.

    Arguments:
        hidden_features: Units of the hidden layer of a, and of b.
        tau: Temperature of the Gumbel-Sinkhorn samples in training.
        n_iters: Sinkhorn iterations in training.
        noise_scale: Scale of the Gumbel noise in training.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Shapes: see `SinkhornNet.forward`; items are numbers, (\*, n), in a floating dtype.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> net = RelativeSortNet()
        >>> ordered, P = net(torch.rand(10, 5), sample_shape=3)
        >>> ordered.shape, P.shape
        (torch.Size([3, 10, 5]), torch.Size([3, 10, 5, 5]))
        >>> x = torch.rand(5, dtype=torch.float64)
        >>> torch.allclose(net.double().log_alpha(x), net.log_alpha(10 * x + 1000))
        True
    """

    def __init__(
        self,
        hidden_features: int = 32,
        tau: float = 1.0,
        n_iters: int = 10,
        *,
        noise_scale: float = 1.0,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__(tau, n_iters, noise_scale, tol=tol, backend=backend, grad=grad)
        hidden_features = require_positive_int(hidden_features, "hidden_features")
        self.number_curve = _curve(hidden_features)
        self.position_curve = _curve(hidden_features)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""Compute the logits of every number, shape (\*, n, n).

        Raises:
            TypeError: `items` is not floating.
            ValueError: `items` has no dimension, or no numbers.
        """
        if not items.is_floating_point():
            raise TypeError(f"items must be floating, got {items.dtype}")
        if items.dim() < 1 or items.shape[-1] < 1:
            raise ValueError(f"items must have shape (*, n) with n >= 1, got {shape_of(items)}")
        places = torch.arange(items.shape[-1], dtype=items.dtype, device=items.device)
        a = self.number_curve(standardise(items).unsqueeze(-1))
        b = self.position_curve(standardise(places).unsqueeze(-1))
        logits: Tensor = -self.log_scale.exp() * (a.unsqueeze(-1) - b).square()
        return logits
