"""The state of a run at a step, in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import Precision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from softperm.program.schema import build, shorten
from softperm.program.training.sharding import cut_averages, cut_weights, gather
from softperm.program.training.tensorfile import read_tensors, write_tensors

Row = dict[str, float]


@dataclass
class Progress:
    """Where a run stands, and what it has to report of its present epoch."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the present epoch
    loss_sum: float = 0.0  # over those steps
    seconds: float = 0.0  # spent on them
    rows: list[Row] = field(default_factory=list)  # metrics, a row an epoch


@dataclass(frozen=True)
class Parts:
    """All that changes while a run is trained, but for the progress."""

    net: nn.Module
    optimizers: Sequence[Optimizer]
    schedules: Sequence[LRScheduler]
    precision: Precision  # holds the scale of the gradients with 16-mixed
    generator: torch.Generator

    def state(self, *, kept: bool) -> dict[str, Any]:
        """All of it, put together from all processes; each of them calls this at the same moment.

        Arguments:
            kept: Whether this process keeps what others have of the weights.
        """
        state = {
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "precision": self.precision.state_dict(),
            "generator": self.generator.get_state(),
            "global_generator": torch.get_rng_state(),
        }
        gathered: dict[str, Any] = gather(state, kept=kept)
        return gathered


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


def save_checkpoint(path: Path, state: dict[str, Any], progress: Progress) -> None:
    """Write all that continues the run bit for bit, replacing the old file in one step.

    Arguments:
        path: The file.
        state: The state of the run's parts.
        progress: Where the run stands.
    """
    tensors: dict[str, Tensor] = {}
    index = json.dumps(_split_tensors({**state, "progress": vars(progress)}, "state", tensors))
    write_tensors(path, tensors, index)


def load_checkpoint(path: Path, parts: Parts, *, epochs: int, steps: int) -> Progress:
    """Bring a run back to where `save_checkpoint` left it.

    Arguments:
        path: The file.
        parts: What to bring back.
        epochs: Epochs of the whole run.
        steps: Steps of an epoch.

    Raises:
        ValueError: the file is damaged or belongs to another run.
        OSError: it cannot be read.
    """
    try:
        tensors, index = read_tensors(path, checked=True)
        state = _join_tensors(json.loads(index), tensors)
        progress = _require_progress(state["progress"], epochs, steps)
        _restore(parts, state)
    except (
        AttributeError,
        IndexError,
        KeyError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = shorten(str(error).split("\n")[0] or type(error).__name__)
        raise ValueError(f"{path} is not a checkpoint of this run: {reason}") from error
    return progress


def _restore(parts: Parts, state: dict[str, Any]) -> None:
    """Give the parts their states."""
    lists = (("optimizers", parts.optimizers), ("schedules", parts.schedules))
    for name, wanted in lists:
        if len(state[name]) != len(wanted):
            raise ValueError(f"it has {len(state[name])} {name}, the run {len(wanted)}")
    parts.net.load_state_dict(cut_weights(state["net"], parts.net))
    for optimizer, saved in zip(parts.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(cut_averages(saved, optimizer))
    for schedule, saved in zip(parts.schedules, state["schedules"], strict=True):
        schedule.load_state_dict(saved)
    parts.precision.load_state_dict(state["precision"])
    parts.generator.set_state(state["generator"])
    torch.set_rng_state(state["global_generator"])


def _require_progress(values: dict[str, Any], epochs: int, steps: int) -> Progress:
    """Refuse a progress that no run of this length can have made."""
    rows = values.pop("rows")
    progress = build(Progress, values, "its progress")
    done, step = progress.epoch, progress.step
    if not 0 <= done <= epochs or not 0 <= step <= (steps if done < epochs else 0):
        raise ValueError(f"step {step} after {done} epochs is not in {epochs} epochs of {steps}")
    if len(rows) != done or any(not row or row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"it has {len(rows)} rows of metrics after {done} epochs")
    if not all(isinstance(value, float) for row in rows for value in row.values()):
        raise ValueError("its metrics are no numbers")
    progress.rows = rows
    return progress
