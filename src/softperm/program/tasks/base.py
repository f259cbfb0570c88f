"""What the training loop knows of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from softperm.nn import SinkhornNet

Watch = Callable[[int], object]  # is told how many examples were done


class Task(Protocol):
    """A problem that a Sinkhorn network is trained on."""

    @property
    def n_items(self) -> int:
        """Items in a list, which is the size of its permutation."""

    @property
    def n_train(self) -> int:
        """Training examples in an epoch."""

    @property
    def n_test(self) -> int:
        """Examples in the test set."""

    @property
    def summary(self) -> str:
        """The data and the network, in a few words."""

    def make_net(self) -> SinkhornNet:
        """A new network, initialised from torch's global generator."""

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """The training examples at `indices`, on the generator's device."""

    def loss(self, net: torch.nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The scalar to minimise; all its randomness comes from `generator`."""

    def evaluate(
        self, net: SinkhornNet, device: torch.device, *, watch: Watch | None = None
    ) -> dict[str, float]:
        """All metrics over the whole test set, the same for the same network."""

    def describe(self) -> dict[str, Any]:
        """All that using the trained network takes, ready for JSON."""
