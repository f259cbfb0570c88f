"""The command `softperm train`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from softperm._lock import Lock
from softperm.program.evaluate import evaluate
from softperm.program.settings import JigsawConfig, SortingConfig
from softperm.program.tasks import Task
from softperm.program.training.config import TrainConfig
from softperm.program.training.launch import LaunchConfig, make_fabric
from softperm.program.training.loop import Stopped
from softperm.program.training.loop import train as train_network
from softperm.program.training.run import TASKS, Run
from softperm.program.training.signals import second_signal_ends
from softperm.program.training.team import Left, Team

T = TypeVar("T")


def train(
    task_name: str,
    settings: tuple[JigsawConfig | SortingConfig, TrainConfig, LaunchConfig],
    out: Path,
    resume: bool = False,
) -> int:
    """Train, then write the pictures and print the metrics.

    Arguments:
        task_name: What to train on.
        settings: Settings of the task and of the training, and how to run it.
        out: The folder of the run.
        resume: Go on with the run that is there.

    Returns:
        The exit code: 128 + the signal when stopped.
    """
    task_config, config, launch = settings
    run = Run(out)
    if resume:
        run.require_settings({**asdict(task_config), **asdict(config)})
    else:
        run.require_new()
    several = launch.devices != 1 or launch.nodes > 1
    with second_signal_ends() if several else nullcontext():
        return _train(task_name, settings, run, resume)


def _train(
    task_name: str,
    settings: tuple[JigsawConfig | SortingConfig, TrainConfig, LaunchConfig],
    run: Run,
    resume: bool,
) -> int:
    """Train in all processes, and evaluate in the first."""
    task_config, config, launch = settings
    team = Team(make_fabric(launch, config))  # what is not there is told before the data are read

    def load() -> Task:
        return run.load_task() if resume else TASKS[task_name](task_config)  # type: ignore[arg-type]

    task = _in_all(team, load)

    def create() -> AbstractContextManager[Lock]:
        return run.create(task_name, task, task_config, config)

    try:
        train_network(
            task,
            config,
            run,
            resume=resume,
            create=None if resume else create,
            launch=launch,
            team=team,
        )
    except Left as error:
        error.told = not team.leads  # by the process that ended, and by the first
        raise
    except Stopped as stopped:
        if not team.leads:
            return 0
        folder = shlex.quote(str(run.folder))
        how = f"softperm train {task_name} --out {folder} --resume"
        print(f"stopped; continue with: {how}", flush=True)  # where nobody reads it, that is told
        return 128 + stopped.signum
    return evaluate(str(run.folder), config.device) if team.leads else 0


def _in_all(team: Team, load: Callable[[], T]) -> T:
    """Do in every process what any of them may fail at; the first tells an error that it shares."""
    try:
        found = load()
    except Exception as error:
        _, first = team.add([1.0, float(team.leads)])
        error.told = not team.leads and bool(first)  # type: ignore[attr-defined]
        raise
    failed, _ = team.add([0.0, 0.0])
    if failed:
        left = Left("another process of the training failed")
        left.told = not team.leads
        raise left
    return found
