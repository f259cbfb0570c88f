"""The state of a run at a step, as one safetensors file: no pickle is written or read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from softperm._files import replacing


@dataclass
class Progress:
    """Where a run stands, and what it has to report of its present epoch."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the present epoch
    loss_sum: float = 0.0  # over those steps
    seconds: float = 0.0  # spent on them
    rows: list[dict[str, float]] = field(default_factory=list)  # metrics, a row an epoch


def _split_tensors(value: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """`value` with its tensors moved to `tensors` and replaced by a reference to their name."""
    if isinstance(value, Tensor):
        tensors[prefix] = value.detach().cpu().contiguous()
        return {"__tensor__": prefix}
    if isinstance(value, dict):
        # Lists of pairs, because JSON would turn integer keys into strings.
        pairs = [[k, _split_tensors(v, f"{prefix}.{k}", tensors)] for k, v in value.items()]
        return {"__dict__": pairs}
    if isinstance(value, list | tuple):
        return [_split_tensors(v, f"{prefix}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _join_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_split_tensors`."""
    if isinstance(value, dict):
        if "__tensor__" in value:
            return tensors[value["__tensor__"]]
        return {k: _join_tensors(v, tensors) for k, v in value["__dict__"]}
    if isinstance(value, list):
        return [_join_tensors(v, tensors) for v in value]
    return value


def save_checkpoint(
    path: Path,
    net: nn.Module,
    optimizers: Sequence[Optimizer],
    schedules: Sequence[LRScheduler],
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Write all that continues the run bit for bit, replacing the old file in one step."""
    tensors: dict[str, Tensor] = {}
    state = {
        "net": net.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "schedules": [schedule.state_dict() for schedule in schedules],
        "generator": generator.get_state(),
        "global_generator": torch.get_rng_state(),
        "progress": vars(progress),
    }
    index = json.dumps(_split_tensors(state, "state", tensors))
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"state": index})


def load_checkpoint(
    path: Path,
    net: nn.Module,
    optimizers: Sequence[Optimizer],
    schedules: Sequence[LRScheduler],
    generator: torch.Generator,
) -> Progress:
    """Bring a run back to where `save_checkpoint` left it.

    Raises:
        ValueError: the file is damaged or belongs to another network.
    """
    try:
        with safe_open(path, "pt") as file:
            index = json.loads(file.metadata()["state"])
        state = _join_tensors(index, load_file(path))
        for name, parts in (("optimizers", optimizers), ("schedules", schedules)):
            if len(state[name]) != len(parts):
                raise ValueError(f"it has {len(state[name])} {name}, the run {len(parts)}")
        net.load_state_dict(state["net"])
        for part, saved in zip(optimizers, state["optimizers"], strict=True):
            part.load_state_dict(saved)
        for schedule, saved in zip(schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a checkpoint of this run: {reason}") from error
    generator.set_state(state["generator"])
    torch.set_rng_state(state["global_generator"])
    return Progress(**state["progress"])
