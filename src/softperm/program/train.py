"""The command `softperm train`."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from softperm.program.evaluate import evaluate
from softperm.program.settings import JigsawConfig, SortingConfig
from softperm.program.training.config import TrainConfig
from softperm.program.training.launch import LaunchConfig, make_fabric
from softperm.program.training.lock import Lock
from softperm.program.training.loop import Stopped
from softperm.program.training.loop import train as train_network
from softperm.program.training.run import TASKS, Run
from softperm.program.training.team import Left


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
    fabric = make_fabric(launch, config)  # what is not there is told before the data are read
    task = run.load_task() if resume else TASKS[task_name](task_config)  # type: ignore[arg-type]

    def create() -> AbstractContextManager[Lock]:
        return run.create(task_name, task, task_config, config)

    leads = fabric.global_rank == 0
    try:
        train_network(
            task,
            config,
            run,
            resume=resume,
            create=None if resume else create,
            launch=launch,
            fabric=fabric,
        )
    except Left as error:
        error.told = not leads  # by the process that ended, and by the first
        raise
    except Stopped as stopped:
        if not leads:
            return 0
        folder = shlex.quote(str(out))
        how = f"softperm train {task_name} --out {folder} --resume"
        print(f"stopped; continue with: {how}", flush=True)  # where nobody reads it, that is told
        return 128 + stopped.signum
    return evaluate(str(out), config.device) if leads else 0
