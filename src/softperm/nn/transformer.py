"""A network for image pieces in which every piece sees all the others."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from softperm._checks import require_positive_int
from softperm.nn._pieces import piece_shape, require_pieces
from softperm.nn.base import SinkhornNet
from softperm.ops._options import Backend, Grad


class _Attention(nn.Module):
    """Multi-head self-attention over a set: no position enters, so order cannot matter."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(features, 3 * features)
        self.output = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, features = x.shape
        parts = self.inputs(x).reshape(batch, n, 3, self.heads, features // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, n, features))
        return out


def _rename_old_weights(block: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Give weights that were kept under the name "think" the one they have now."""
    old = f"{prefix}think."
    for key in [key for key in state if key.startswith(old)]:
        state[f"{prefix}mlp.{key.removeprefix(old)}"] = state.pop(key)


class _Block(nn.Module):
    """Attention, then a net for each piece alone, both on normalised features and added to them."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(features), _Attention(features, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, 2 * features),
            nn.ReLU(),
            nn.Linear(2 * features, features),
        )
        self.register_load_state_dict_pre_hook(_rename_old_weights)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        out: Tensor = x + self.mlp(x)
        return out


class PieceTransformer(SinkhornNet):
    r"""A puzzle network in which every piece sees all the others before it is scored.

    .. math:: h_i = e(x_i), \qquad
        h \leftarrow h + \operatorname{attention}(\operatorname{norm}(h)), \quad
        h_i \leftarrow h_i + f(\operatorname{norm}(h_i)) \quad \text{(layers times)}, \qquad
        \log\alpha_i = W \operatorname{norm}(h_i) + b

    The encoder e and the nets f are fully connected with one hidden layer and ReLU. The attention
    is over the set of pieces, without positional encoding: permuting the pieces permutes the rows
    of log_alpha and does nothing else.

    Arguments:
        in_channels: Channels of a piece.
        n_pieces: Number n of pieces, and of positions.
        piece_size: Height and width of a piece, or one int for both.
        features: Features that describe a piece, a multiple of `heads`.
        layers: Blocks of attention and net.
        heads: Heads of the attention.
        tau: Temperature of the Gumbel-Sinkhorn samples in training.
        n_iters: Sinkhorn iterations in training.
        noise_scale: Scale of the Gumbel noise in training.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Shapes: see `SinkhornNet.forward`; items are pieces, (\*, n, C, h, w), in a floating dtype.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: the blocks are those of Xiong et al., On Layer Normalization in the Transformer
        Architecture, ICML 2020; attention over sets as in Lee et al., Set Transformer, ICML 2019.

    Example:
        >>> net = PieceTransformer(1, n_pieces=9, piece_size=10, features=32, layers=2).eval()
        >>> pieces, order = torch.rand(9, 1, 10, 10), torch.randperm(9)
        >>> net.log_alpha(pieces).shape
        torch.Size([9, 9])
        >>> torch.allclose(net.log_alpha(pieces[order]), net.log_alpha(pieces)[order], atol=1e-5)
        True
    """

    def __init__(
        self,
        in_channels: int,
        n_pieces: int,
        piece_size: int | tuple[int, int],
        features: int = 128,
        layers: int = 3,
        heads: int = 4,
        tau: float = 1.0,
        n_iters: int = 20,
        *,
        noise_scale: float = 1.0,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__(tau, n_iters, noise_scale, tol=tol, backend=backend, grad=grad)
        self.item_shape = piece_shape(in_channels, n_pieces, piece_size)
        features = require_positive_int(features, "features")
        layers = require_positive_int(layers, "layers")
        heads = require_positive_int(heads, "heads")
        if features % heads:
            raise ValueError(f"features must be a multiple of heads, {heads}, got {features}")
        self.encoder = nn.Sequential(
            nn.Linear(math.prod(self.item_shape[1:]), features),
            nn.ReLU(),
            nn.Linear(features, features),
        )
        self.blocks = nn.Sequential(*(_Block(features, heads) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, self.item_shape[0]))

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""Compute the logits of every piece, shape (\*, n, n).

        Raises:
            ValueError: `items` does not have the shape the network was made for.
        """
        require_pieces(items, self.item_shape)
        n = self.item_shape[0]
        features = self.encoder(items.reshape(-1, n, math.prod(self.item_shape[1:])))
        logits: Tensor = self.head(self.blocks(features))
        return logits.reshape(*items.shape[:-3], n)
