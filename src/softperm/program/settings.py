"""Settings of the tasks: what the options of `softperm train` mean. Made without PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from softperm.program.schema import require_ranges, require_within

JIGSAW_RANGES: dict[str, tuple[float, float]] = {
    "pieces": (1, 100),
    "hidden_channels": (1, 65_536),
    "kernel_size": (1, 1_001),
    "features": (1, 65_536),
    "layers": (1, 1_000),
    "heads": (1, 1_024),
    "gamma": (0.01, 100.0),
    "shift": (0, 10_000),
    "enlarge": (1, 100),
    "tau": (1e-6, 1e6),
    "n_iters": (1, 100_000),
    "noise_scale": (0.0, 1e6),
    "n_samples": (1, 10_000),
}
NAMED_DATA = ("digits", "mnist")  # images that are no folder


@dataclass(frozen=True)
class JigsawConfig:
    """Settings of the jigsaw task; the defaults are those of the tutorial's run.

    Arguments:
        data: Images to train and test on: digits (embedded), mnist, or a folder of images, of which
            the absolute path is kept.
        pieces: Pieces per side: the puzzle has pieces x pieces of them.
        image_size: Side in pixels to which the images of a folder are brought.
        channels: Channels to which the images of a folder are converted, 1 (grey) or 3 (colour).
        net: conv, the paper's net, which reads every piece alone; or transformer, in which every
            piece sees the others.
        hidden_channels: conv only: channels of the convolution.
        kernel_size: conv only: side of the convolution's kernel, odd.
        features: transformer only: features that describe a piece, a multiple of heads.
        layers: transformer only: blocks of attention.
        heads: transformer only: heads of the attention.
        gamma: Power to which pixel values in [0, 1] are raised before the network reads them and
            the error is measured; below 1 faint strokes count for more.
        shift: Pixels by which training images are moved each way at most, at random.
        enlarge: Largest whole factor by which training images are enlarged, at random, before their
            pieces are brought to size one by one, as those of a large picture are.
        tau: Temperature of the Gumbel-Sinkhorn samples.
        n_iters: Sinkhorn iterations.
        noise_scale: Scale of the Gumbel noise.
        n_samples: Gumbel-Sinkhorn samples per image in every step.
    """

    data: str = "mnist"
    pieces: int = 2
    image_size: int | None = None
    channels: int | None = None
    net: Literal["conv", "transformer"] = "conv"
    hidden_channels: int = 32
    kernel_size: int = 5
    features: int = 128
    layers: int = 3
    heads: int = 4
    gamma: float = 1.0
    shift: int = 0
    enlarge: int = 1
    tau: float = 0.1
    n_iters: int = 20
    noise_scale: float = 1.0
    n_samples: int = 1

    def __post_init__(self) -> None:
        require_ranges(self, JIGSAW_RANGES)
        if self.image_size is not None:
            require_within(self.image_size, "image_size", 1, 10_000)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        if not self.data:
            raise ValueError("data must be digits, mnist or a folder, got an empty name")
        if self.data not in NAMED_DATA:  # a run is evaluated and resumed from other folders, too
            object.__setattr__(self, "data", os.path.realpath(self.data))
        if self.net not in ("conv", "transformer"):
            raise ValueError(f"net must be conv or transformer, got {self.net!r}")
        if self.features % self.heads:
            raise ValueError(
                f"features must be a multiple of heads, {self.heads}, got {self.features}"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")


_LARGEST_TEST = 1_000_000_000  # numbers in the test set
SORTING_RANGES: dict[str, tuple[float, float]] = {
    "n_items": (1, 20_000),
    "low": (-1e9, 1e9),
    "high": (-1e9, 1e9),
    "test_low": (-1e9, 1e9),
    "test_high": (-1e9, 1e9),
    "train_lists": (1, 1_000_000_000),
    "test_lists": (1, 100_000_000),
    "hidden_features": (1, 65_536),
    "tau": (1e-6, 1e6),
    "n_iters": (1, 100_000),
    "noise_scale": (0.0, 1e6),
    "n_samples": (1, 10_000),
}


@dataclass(frozen=True)
class SortingConfig:
    """Settings of the sorting task; the defaults are those of the paper's code.

    Arguments:
        n_items: Numbers in a list.
        low: Lower end of the interval that training lists are drawn from.
        high: Upper end of that interval.
        test_low: Lower end of the interval that test lists are drawn from.
        test_high: Upper end of that interval.
        train_lists: Lists in an epoch; every epoch draws new ones.
        test_lists: Lists in the test set, the same every time.
        net: paper (`SinkhornSortNet`), or relative (`RelativeSortNet`).
        hidden_features: Units of the hidden layers.
        tau: Temperature of the Gumbel-Sinkhorn samples.
        n_iters: Sinkhorn iterations.
        noise_scale: Scale of the Gumbel noise.
        n_samples: Gumbel-Sinkhorn samples per list in every step.
    """

    n_items: int = 10
    low: float = 0.0
    high: float = 1.0
    test_low: float = 0.0
    test_high: float = 1.0
    train_lists: int = 10_000
    test_lists: int = 1_000
    net: Literal["paper", "relative"] = "paper"
    hidden_features: int = 32
    tau: float = 1.0
    n_iters: int = 10
    noise_scale: float = 1.0
    n_samples: int = 5

    def __post_init__(self) -> None:
        require_ranges(self, SORTING_RANGES)
        if self.net not in ("paper", "relative"):
            raise ValueError(f"net must be paper or relative, got {self.net!r}")
        for lower, upper in (("low", "high"), ("test_low", "test_high")):
            if not getattr(self, lower) < getattr(self, upper):
                raise ValueError(
                    f"{lower} must be below {upper}, got {getattr(self, lower)} and "
                    f"{getattr(self, upper)}"
                )
        if self.test_lists * self.n_items > _LARGEST_TEST:
            raise ValueError(
                f"test_lists x n_items must be at most {_LARGEST_TEST}, got "
                f"{self.test_lists} x {self.n_items}"
            )


CONFIGS: dict[str, type[JigsawConfig] | type[SortingConfig]] = {
    "jigsaw": JigsawConfig,
    "sorting": SortingConfig,
}

# How the help groups the settings of a task and those of the training loop.
GROUPS = {
    "data": (
        *("data", "pieces", "image_size", "channels", "shift", "enlarge", "gamma"),
        *("n_items", "low", "high", "test_low", "test_high", "train_lists", "test_lists"),
    ),
    "network": (
        *("net", "hidden_channels", "kernel_size", "features", "layers", "heads"),
        "hidden_features",
    ),
    "permutations": ("tau", "n_iters", "noise_scale", "n_samples"),
    "training": ("epochs", "batch_size", "optimizer", "lr", "schedule", "warmup"),
    "machine": (
        *("seed", "device", "precision", "deterministic", "compile"),
        *("devices", "nodes", "strategy", "workers", "log_every"),
    ),
}
