"""Jigsaw puzzles: put the shuffled pieces of an image back, learnt without labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from softperm.data import (
    ImageData,
    Images,
    channel_statistics,
    draw_shifts,
    enlarge_images,
    load_images,
    load_test_images,
    shift_images,
)
from softperm.metrics import kendall_tau, prop_any_wrong, prop_wrong
from softperm.nn import Puzzle, SinkhornNet
from softperm.permutations import apply_permutation, random_permutation
from softperm.program.counting import counting
from softperm.program.settings import JigsawConfig
from softperm.program.tasks.base import (
    WHOLE,
    Examples,
    Part,
    Watch,
    draw_noise,
    squared_error,
)
from softperm.puzzles import identical_pieces, scramble_by

_EVALUATION_SEED = 0
_EVALUATION_BATCH = 2500
_NET_PIECES = 512  # the activations of more pieces at a time fall out of the cache

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Jigsaw:
    r"""The jigsaw task.

    .. math:: \text{loss} = \frac1B \sum_b \lVert x_b - P_b^\top \tilde x_b \rVert_2^2

    with the pieces x_b of image b, the same pieces scrambled, and P_b the network's Gumbel-Sinkhorn
    sample (averaged over `n_samples`).

    Arguments:
        config: The settings.
        statistics: Mean and standard deviation of every channel of the training images, as in
            `Puzzle`. With them given these images are not read before they are used.

    Raises:
        ValueError, OSError: the data cannot be read or do not fit the settings.

    Source: Mena et al., ICLR 2018, section 5.2.
    """

    def __init__(self, config: JigsawConfig, statistics: Statistics | None = None) -> None:
        self.config = config
        given: dict[str, Any] = {}
        given["mean"], given["std"] = statistics or self._statistics()
        given["channels"], given["height"], given["width"] = self.test_images.shape[1:]
        shared = {field.name for field in fields(Puzzle)} - given.keys()
        self.puzzle = Puzzle(**given, **{name: getattr(config, name) for name in shared})

    @cached_property
    def images(self) -> ImageData[Any]:
        """Training and test images, stretched to sides that the number of pieces divides."""
        return load_images(**self._wanted)

    @cached_property
    def test_images(self) -> Tensor | Images:
        """The test images, read alone where the others were not needed yet."""
        if "images" in vars(self):
            images: Tensor | Images = self.images.test
            return images
        return load_test_images(**self._wanted)

    @property
    def _wanted(self) -> dict[str, Any]:
        """Which images, and how."""
        c = self.config
        return {
            "data": c.data,
            "size": c.image_size,
            "channels": c.channels,
            "multiple": c.pieces,
            "progress": counting,
        }

    def _statistics(self) -> Statistics:
        """Mean and standard deviation of every channel of the training images."""
        if self.config.gamma == 1:
            return self.images.mean, self.images.std
        return channel_statistics(self.images.train, self.config.gamma)

    @property
    def n_items(self) -> int:
        """Pieces of an image."""
        return self.config.pieces**2

    @property
    def n_train(self) -> int:
        """Training images in an epoch."""
        return len(self.images.train)

    @property
    def n_test(self) -> int:
        """Images in the test set."""
        return len(self.test_images)

    @property
    def summary(self) -> str:
        """The data and the network, in a few words."""
        k = self.config.pieces
        return f"{self.config.data} in {k}x{k} pieces, {self.config.net} net"

    def make_net(self) -> SinkhornNet:
        """A new network, initialised from torch's global generator."""
        return self.puzzle.make_net()

    def describe(self) -> dict[str, Any]:
        """The fields of `Puzzle`."""
        return asdict(self.puzzle)

    def read(self, indices: Tensor) -> Tensor:
        """Training images, uint8, (B, C, H, W)."""
        images: Tensor = self.images.train[indices]
        return images

    def examples(
        self,
        stored: Tensor,
        generator: torch.Generator,
        part: Part = WHOLE,
        total: int | None = None,
    ) -> Examples:
        """Images moved, enlarged, cut and scrambled, all at random."""
        c, n = self.config, self.n_items
        total = len(stored) if total is None else total
        images = stored.to(generator.device, non_blocking=True)
        if c.shift > 0:
            images = shift_images(images, part.of(draw_shifts(total, c.shift, generator)))
        if c.enlarge > 1:
            images = enlarge_images(images, c.enlarge, generator)
        pieces = self.puzzle.normalise(self.puzzle.cut(images))
        perm = part.of(self._scrambles(total, generator))
        noise = draw_noise((c.n_samples, total, n), c.noise_scale, part, generator)
        return Examples(scramble_by(pieces, perm), pieces, noise, c.n_samples, total)

    def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
        """Squared error of the softly restored pieces: summed over an image, mean over images."""
        return squared_error(net, examples)

    def _scrambles(self, n_images: int, generator: torch.Generator) -> Tensor:
        """Random permutations of the pieces of images, (n_images, n)."""
        return random_permutation(self.n_items, (n_images,), generator=generator)

    @torch.no_grad()
    def solved(
        self,
        net: SinkhornNet,
        device: torch.device,
        n_images: int | None = None,
        part: Part = WHOLE,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Test images in batches: pieces, scrambled pieces, true and predicted permutations."""
        net.eval()
        generator = torch.Generator(device).manual_seed(_EVALUATION_SEED)
        n = len(self.test_images[:n_images])
        for indices in torch.arange(n).split(_EVALUATION_BATCH):
            images: Tensor = self.test_images[part.of(indices)]
            pieces = self.puzzle.cut(images.to(device))
            target = part.of(self._scrambles(len(indices), generator))
            scrambled = scramble_by(pieces, target)
            chunks = scrambled.split(max(1, _NET_PIECES // scrambled.shape[1]))
            perm = torch.cat([net(self.puzzle.normalise(chunk))[1] for chunk in chunks])
            yield pieces, scrambled, target, perm

    def evaluate(
        self,
        net: SinkhornNet,
        device: torch.device,
        *,
        watch: Watch | None = None,
        part: Part = WHOLE,
    ) -> dict[str, float]:
        """Mean over all test images of every metric; scrambles are the same every time.

        Distances are norms of the difference of pixel values in [0, 1].

        Arguments:
            net: The network.
            device: Where the network is.
            watch: Is told the number of images done, again and again.
            part: Which part of the images is tested; what it adds to the means is returned.
        """
        sums: defaultdict[str, float] = defaultdict(float)
        for pieces, scrambled, target, perm in self.solved(net, device, part=part):
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
            if watch is not None:
                watch(len(pieces))
        return {name: total / self.n_test for name, total in sums.items()}
