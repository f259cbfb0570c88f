"""The paper's network for sorting numbers."""

from __future__ import annotations

from torch import Tensor, nn

from softperm._checks import require_positive_int, shape_of
from softperm.nn.base import SinkhornNet


class SinkhornSortNet(SinkhornNet):
    r"""The paper's sorting network: every number is read by the same small net.

    .. math:: \log\alpha_i = W_2 \operatorname{relu}(W_1 x_i + b_1) + b_2

    Arguments:
        n_items: Length n of the lists, and number of positions.
        hidden_features: Units of the hidden layer.
        tau: Temperature of the Gumbel-Sinkhorn samples in training.
        n_iters: Sinkhorn iterations in training.
        noise_scale: Scale of the Gumbel noise in training.

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
    ) -> None:
        super().__init__(tau, n_iters, noise_scale)
        require_positive_int(n_items, "n_items")
        require_positive_int(hidden_features, "hidden_features")
        self.n_items = n_items
        self.scores = nn.Sequential(
            nn.Linear(1, hidden_features), nn.ReLU(), nn.Linear(hidden_features, n_items)
        )

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""The logits of every number, shape (\*, n, n).

        Raises:
            ValueError: `items` does not have the length the network was made for.
        """
        if items.dim() < 1 or items.shape[-1] != self.n_items:
            raise ValueError(f"items must have shape (*, {self.n_items}), got {shape_of(items)}")
        logits: Tensor = self.scores(items.unsqueeze(-1))
        return logits
