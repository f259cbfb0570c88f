"""Whether a run goes on with the data that it began with."""

from __future__ import annotations

import math
from pathlib import Path

from softperm.nn import Puzzle
from softperm.program.settings import SortingConfig
from softperm.program.tasks import Task

STATISTICS = ("mean", "std")  # of the training images, in `Puzzle`
_ROUNDING = 1e-6  # their last digits depend on the machine


def require_same_data(
    folder: Path, task: Task, model: Puzzle | SortingConfig, n_train: int | None
) -> None:
    """Refuse other training data than a run began with.

    Arguments:
        folder: The folder of the run, for messages.
        task: The task, with the data that are there now.
        model: The model that the run is to train.
        n_train: Training examples that there were; None for a run that does not tell.

    Raises:
        ValueError: their number differs, or the statistics of the images do.
    """
    if n_train not in (None, task.n_train):
        raise ValueError(
            f"{folder} began with other data: there were {n_train} training examples, there are "
            f"{task.n_train}"
        )
    if not isinstance(model, Puzzle):
        return
    now = task.describe()
    for name in STATISTICS:
        before = getattr(model, name)
        pairs = zip(before, now[name], strict=True)
        if any(not math.isclose(a, b, rel_tol=0, abs_tol=_ROUNDING) for a, b in pairs):
            raise ValueError(
                f"{folder} began with other data: {name} of the training images was {before}, "
                f"is {now[name]}"
            )
