"""The training loop. It knows a task by the `Task` protocol alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from softperm._files import remove_leftovers
from softperm._lock import Lock, locked
from softperm.program.tasks import Task
from softperm.program.training.bar import display
from softperm.program.training.config import TrainConfig
from softperm.program.training.launch import LaunchConfig, make_fabric
from softperm.program.training.run import Run
from softperm.program.training.signals import Stopped, stop_on_signal
from softperm.program.training.team import Team
from softperm.program.training.trainer import Trainer

__all__ = ["Stopped", "train"]

_ALONE = LaunchConfig()
# What a row of metrics.csv holds beside the metrics of the test set.
_NO_METRICS = (
    *("epoch", "step", "loss", "lr", "seconds", "examples_per_second"),
    *("data_share", "forward_share", "backward_share", "sinkhorn_share"),
)


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms inside, the caller's setting afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted)
    settings.fill_uninitialized_memory = False  # nothing here reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fills


def train(
    task: Task,
    config: TrainConfig,
    run: Run,
    *,
    resume: bool = False,
    create: Callable[[], AbstractContextManager[Lock]] | None = None,
    launch: LaunchConfig = _ALONE,
    team: Team | None = None,
) -> dict[str, float]:
    """Train a new network on `task` and leave everything in the run's folder.

    A run is a function of the task, `config` and nothing else: stopped at any moment and resumed,
    it ends with the same weights, in one process on the CPU bit for bit. Several processes share
    every step, and come to the same but for rounding; each of them calls this.

    Arguments:
        task: What to train on.
        config: Settings of the loop.
        run: Where to keep the run.
        resume: Continue from the run's checkpoint; without one start from the beginning.
        create: Makes the folder and locks it; called after the first step, before anything is
            written, in the first process alone.
        launch: How to run it.
        team: The processes, where they are launched already.

    Returns:
        The metrics after the last epoch.

    Raises:
        Stopped: Ctrl-C or another request to stop came; the run is saved.
        ValueError: the device or the optimizer is not there, or the checkpoint does not fit.
        Busy: another process is writing to the folder.
        Left: another process of the training ended.
        OSError: something cannot be written, or the folder was removed.
    """
    with _determinism(config.deterministic):
        team = Team(make_fabric(launch, config)) if team is None else team
        trainer = Trainer(task, config, run, team, launch.workers)
        leads = team.leads
        if create is not None:
            trainer.first_step()
        elif leads:
            run.folder.mkdir(parents=True, exist_ok=True)
        with _holding(run, create) if leads else nullcontext() as lock, stop_on_signal() as stop:
            team.require_same(log_every=launch.log_every or 0)
            if resume:
                trainer.load()
            with display(stop, trainer.title, launch.log_every, hidden=not leads) as shown:
                trainer.all_epochs(stop, shown, lock, resume)
    rows = trainer.progress.rows
    return {name: value for name, value in rows[-1].items() if name not in _NO_METRICS}


@contextmanager
def _holding(run: Run, create: Callable[[], AbstractContextManager[Lock]] | None) -> Iterator[Lock]:
    """The right to write to the folder of the run, new or not, without what killed runs left."""
    with locked(run.folder) if create is None else create() as lock:
        remove_leftovers(run.folder)
        yield lock
