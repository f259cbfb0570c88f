"""Named settings, shipped as YAML files. Found without PyTorch.

The first line of a file is the command that runs it, the second tells what that reaches.
"""

from __future__ import annotations

import json as json_format
from pathlib import Path

from softperm._suggest import did_you_mean

_TASKS = ("jigsaw", "sorting")
_PRESETS = Path(__file__).parent


def preset_names(task: str) -> list[str]:
    """Names of the presets of a task, small ones first."""
    names = (path.stem for path in (_PRESETS / task).glob("*.yaml"))
    return sorted(names, key=lambda name: (name.split("-")[0], len(name), name))


def preset_file(task: str, name: str) -> Path:
    """The file of a preset.

    Raises:
        ValueError: there is none of that name.
    """
    names = preset_names(task)
    if name not in names:
        raise ValueError(
            f"preset must be one of {', '.join(names)} for {task}, got {name}"
            f"{did_you_mean(name, names)}"
        )
    return _PRESETS / task / f"{name}.yaml"


def describe(task: str, name: str) -> str:
    """What it trains on, how long that takes on two cores, and what it reaches on the test set."""
    lines = preset_file(task, name).read_text(encoding="utf-8").splitlines()
    return lines[1].removeprefix("# ")


def show(json: bool = False) -> int:
    """Print all presets, one line each.

    Arguments:
        json: Print one JSON object and nothing else.

    Returns:
        The exit code.
    """
    found = {task: {name: describe(task, name) for name in preset_names(task)} for task in _TASKS}
    if json:
        print(json_format.dumps(found))
        return 0
    for task, presets in found.items():
        print(f"softperm train {task} --preset NAME")
        for name, text in presets.items():
            print(f"  {name:<15} {text}")
    print("Times on two cores, shares over the test set: of one run, or the mean of two.")
    return 0
