"""A trained network by the name that a user gives it."""

from __future__ import annotations

from pathlib import Path

from softperm._pretrained import pretrained_folder, pretrained_names
from softperm._suggest import did_you_mean
from softperm.program.training.run import Run


def find_run(run: str) -> tuple[Run, Path]:
    """A run by its folder or a pretrained network by its name, and where its pictures go.

    Raises:
        ValueError: there is neither.
    """
    folder, names = Run(Path(run)), pretrained_names()
    if folder.model_file.exists():
        return folder, folder.folder
    if run in names:
        return Run(pretrained_folder(run)), Path("runs", "pretrained", run)
    raise ValueError(
        f"run must be {' or '.join(['the folder of a run', *names])}, got {run}"
        f"{did_you_mean(run, names)}"
    )
