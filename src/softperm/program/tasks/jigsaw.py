"""Jigsaw puzzles: put the shuffled pieces of an image back, learnt without labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from softperm.data import channel_statistics, load_images, shift_images
from softperm.metrics import kendall_tau, prop_any_wrong, prop_wrong
from softperm.nn import Puzzle, SinkhornNet
from softperm.permutations import apply_permutation
from softperm.program.settings import JigsawConfig
from softperm.puzzles import identical_pieces, scramble

_EVALUATION_SEED = 0
_EVALUATION_BATCH = 2500
_NET_PIECES = 512  # the activations of more pieces at a time fall out of the cache


class Jigsaw:
    r"""The jigsaw task.

    .. math:: \text{loss} = \frac1B \sum_b \lVert x_b - P_b^\top \tilde x_b \rVert_2^2

    with the pieces x_b of image b, the same pieces scrambled, and P_b the network's Gumbel-Sinkhorn
    sample (averaged over `n_samples`).

    Arguments:
        config: The settings.

    Raises:
        ValueError, OSError: the data cannot be read or do not fit the settings.

    Source: Mena et al., ICLR 2018, section 5.2.
    """

    def __init__(self, config: JigsawConfig) -> None:
        self.config = config
        self.images = load_images(config.data, size=config.image_size, channels=config.channels)
        channels, height, width = self.images.train.shape[1:]
        given: dict[str, Any] = {"channels": channels, "height": height, "width": width}
        given["mean"], given["std"] = self.images.mean, self.images.std
        if config.gamma != 1:
            given["mean"], given["std"] = channel_statistics(self.images.train, config.gamma)
        shared = {field.name for field in fields(Puzzle)} - given.keys()
        self.puzzle = Puzzle(**given, **{name: getattr(config, name) for name in shared})

    @property
    def n_items(self) -> int:
        """Pieces of an image."""
        return self.config.pieces**2

    @property
    def n_train(self) -> int:
        """Training images in an epoch."""
        return len(self.images.train)

    def make_net(self) -> SinkhornNet:
        """A new network, initialised from torch's global generator."""
        return self.puzzle.make_net()

    def describe(self) -> dict[str, Any]:
        """The fields of `Puzzle`."""
        return asdict(self.puzzle)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Training images, uint8, (B, C, H, W)."""
        images = self.images.train[indices].to(generator.device, non_blocking=True)
        if self.config.shift == 0:
            return images
        return shift_images(images, self.config.shift, generator)

    def loss(self, net: torch.nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of the softly restored pieces: summed over an image, mean over images."""
        pieces = self.puzzle.normalise(self.puzzle.cut(batch))
        scrambled, _ = scramble(pieces, generator)
        ordered, _ = net(scrambled, (self.config.n_samples,), generator=generator)
        error: Tensor = (ordered - pieces).square().sum()
        return error / (self.config.n_samples * len(batch))

    @torch.no_grad()
    def solved(
        self, net: SinkhornNet, device: torch.device, n_images: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Test images in batches: pieces, scrambled pieces, true and predicted permutations."""
        net.eval()
        generator = torch.Generator(device).manual_seed(_EVALUATION_SEED)
        for images in self.images.test[:n_images].split(_EVALUATION_BATCH):
            pieces = self.puzzle.cut(images.to(device))
            scrambled, target = scramble(pieces, generator)
            parts = scrambled.split(max(1, _NET_PIECES // scrambled.shape[1]))
            perm = torch.cat([net(self.puzzle.normalise(part))[1] for part in parts])
            yield pieces, scrambled, target, perm

    def evaluate(self, net: SinkhornNet, device: torch.device) -> dict[str, float]:
        """Mean over all test images of every metric; scrambles are the same every time.

        Distances are norms of the difference of pixel values in [0, 1].
        """
        sums: defaultdict[str, float] = defaultdict(float)
        for pieces, scrambled, target, perm in self.solved(net, device):
            labels = identical_pieces(scrambled)
            difference = apply_permutation(perm, scrambled).flatten(1).float()
            difference = (difference - pieces.flatten(1)) / 255
            values = {
                "kendall_tau": kendall_tau(perm, target),
                "prop_wrong": prop_wrong(perm, target),
                "prop_any_wrong": prop_any_wrong(perm, target),
                "kendall_tau_up_to_identical": kendall_tau(perm, target, labels),
                "prop_wrong_up_to_identical": prop_wrong(perm, target, labels),
                "prop_any_wrong_up_to_identical": prop_any_wrong(perm, target, labels),
                "exact_reconstruction": (difference == 0).all(-1),
                "l1": difference.abs().sum(-1),
                "l2": difference.square().sum(-1).sqrt(),
            }
            for name, value in values.items():
                sums[name] += value.cpu().sum(dtype=torch.float64).item()
        return {name: total / len(self.images.test) for name, total in sums.items()}
