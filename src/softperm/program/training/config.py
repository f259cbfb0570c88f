"""Settings of the training loop, whatever the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from softperm.program.schema import require_ranges

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda", "mps"]
LARGEST_SEED = 2**64 - 1  # that torch's generators take
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 1_000_000),
    "batch_size": (1, 1_000_000),
    "lr": (1e-12, 1e3),
    "warmup": (0.0, 1.0),
    "seed": (0, LARGEST_SEED),
}


def pick_device(device: Device) -> torch.device:
    """The device that is meant: with "auto" CUDA, then MPS, then the CPU.

    Raises:
        ValueError: the device is not there.
    """
    import torch  # here, so that settings are read without it

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[device]:
        there = ", ".join(name for name, found in available.items() if found)
        raise ValueError(f"device must be auto or one that is there ({there}), got {device}")
    return torch.device(device)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop; the defaults are those of the tutorial's run.

    Arguments:
        epochs: Passes over the training data.
        batch_size: Examples per step, of all processes together.
        optimizer: adam; or muon: matrices by PyTorch's Muon (2.9 or later) with weight decay 0.1,
            which moves all directions of a matrix by about the same amount; the rest by Adam.
        lr: Learning rate; with one_cycle its peak. Muon's is scaled so that its steps are as long
            as Adam's.
        schedule: constant, or one_cycle: up from lr / 25 and down to almost 0.
        warmup: Share of the steps in which one_cycle goes up.
        seed: Seed of the run, below 2 ** 64. Initial weights, order of the data, and scrambles with
            noise have streams of their own; test puzzles are the same for every seed.
        device: Where to train; auto takes CUDA, then MPS, then the CPU.
        precision: Numbers the network computes with; the mixed ones keep weights in float32,
            and 16-mixed needs a GPU.
        deterministic: Use deterministic algorithms only: the same seed gives the same weights.
        compile: Compile the network with torch.compile, which takes a minute or so at the start.
    """

    epochs: int = 5
    batch_size: int = 64
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = 1e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    warmup: float = 0.3
    seed: int = 0
    device: Device = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    deterministic: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        if self.optimizer == "muon" and self.precision == "16-mixed":
            # The gradient scaler would change the scale between the steps of the two.
            raise ValueError("optimizer muon needs precision 32-true or bf16-mixed, got 16-mixed")
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must be between 0 and 1, got {self.warmup}")
