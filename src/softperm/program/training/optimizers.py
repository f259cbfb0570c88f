"""Optimizers and schedules of the learning rate."""

from __future__ import annotations

import torch
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from softperm.program.training.config import TrainConfig


def make_optimizers(net: torch.nn.Module, config: TrainConfig) -> list[Optimizer]:
    """The optimizers of a network's weights, each weight in one of them.

    Raises:
        ValueError: this PyTorch has no Muon.
    """
    parameters = list(net.parameters())
    if config.optimizer == "adam":
        return [Adam(parameters, config.lr, fused=True)]
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer muon needs PyTorch 2.9 or later, got {torch.__version__}")
    matrices = [p for p in parameters if p.dim() == 2]
    others = [p for p in parameters if p.dim() != 2]
    optimizers: list[Optimizer] = []
    if matrices:
        scaled = "match_rms_adamw"
        optimizers.append(torch.optim.Muon(matrices, config.lr, 0.1, adjust_lr_fn=scaled))
    if others:
        optimizers.append(Adam(others, config.lr, fused=True))
    return optimizers


def make_schedule(optimizer: Optimizer, config: TrainConfig, total_steps: int) -> LRScheduler:
    """The schedule of an optimizer's learning rate, a step of it per training step."""
    if config.schedule == "one_cycle":
        length = total_steps + 1  # the schedule steps once more after the last training step
        # OneCycleLR divides by zero where the way up takes no more than one step.
        pct = max(config.warmup, 1.5 / length)
        cycle = isinstance(optimizer, Adam)  # Muon's momentum would be cycled too
        return OneCycleLR(
            optimizer, config.lr, total_steps=length, pct_start=pct, cycle_momentum=cycle
        )
    return ConstantLR(optimizer, factor=1.0, total_iters=0)
