"""What the training loop knows of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from softperm.nn import SinkhornNet
from softperm.ops import sample_gumbel

Watch = Callable[[int], object]  # is told how many examples were done


@dataclass(frozen=True)
class Part:
    """What one of several processes does of a work that they share.

    Arguments:
        rank: Which process it is, from 0.
        size: Processes that share the work.
    """

    rank: int = 0
    size: int = 1

    def of(self, values: Tensor, dim: int = 0) -> Tensor:
        """Its part of the values along a dimension; all parts together are the values."""
        return values if self.size == 1 else values.tensor_split(self.size, dim)[self.rank]


WHOLE = Part()


@dataclass(frozen=True)
class Examples:
    """The part of a training step that one process does, with all randomness drawn.

    Arguments:
        items: What the network reads, (b, n, ...).
        targets: The same items in their order, (b, n, ...).
        noise: Gumbel noise, (n_samples, b, n, n); None without noise.
        n_samples: Samples per example.
        total: Examples of the whole step, of all processes together.
    """

    items: Tensor
    targets: Tensor
    noise: Tensor | None
    n_samples: int
    total: int


def draw_noise(
    shape: tuple[int, int, int], noise_scale: float, part: Part, generator: torch.Generator
) -> Tensor | None:
    """A part of the Gumbel noise of a step, (n_samples, b, n, n); None where the scale is 0.

    Every process draws the noise of the whole step, so that it is the same for any number of them.

    Arguments:
        shape: n_samples, examples of the whole step, and n.
        noise_scale: Scale that the noise will get.
        part: Which part to return.
        generator: Source of randomness.
    """
    if noise_scale == 0:
        return None
    return part.of(sample_gumbel((*shape, shape[-1]), generator=generator), 1)


def squared_error(net: torch.nn.Module, examples: Examples) -> Tensor:
    r"""The loss of a step: the losses of all its parts add up to

    .. math:: \frac1{BK} \sum_{b,k} \lVert y_b - P_{bk}^\top x_b \rVert_2^2

    with items x, targets y, and K samples P_bk for each of B examples.
    """
    ordered, _ = net(examples.items, (examples.n_samples,), noise=examples.noise)
    error: Tensor = (ordered - examples.targets).square().sum()
    return error / (examples.n_samples * examples.total)


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

    def read(self, indices: Tensor) -> Tensor:
        """The training examples at `indices` as they are stored; may run in another process."""

    def examples(
        self,
        stored: Tensor,
        generator: torch.Generator,
        part: Part = WHOLE,
        total: int | None = None,
    ) -> Examples:
        """What a process needs for its part of a step, on the generator's device.

        Arguments:
            stored: Its part of the examples, as `read` gives them.
            generator: Source of all randomness, in the same state in every process; each draws as
                much from it.
            part: Which part it is.
            total: Examples of the whole step; those stored when omitted.
        """

    def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
        """The scalar to minimise; those of all parts of a step add up to the step's."""

    def evaluate(
        self,
        net: SinkhornNet,
        device: torch.device,
        *,
        watch: Watch | None = None,
        part: Part = WHOLE,
    ) -> dict[str, float]:
        """All metrics over the whole test set, the same for the same network.

        Those of a part are what it adds to them.
        """

    def describe(self) -> dict[str, Any]:
        """All that using the trained network takes, ready for JSON."""
