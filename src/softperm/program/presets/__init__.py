"""Named settings, shipped as YAML files."""

from __future__ import annotations

from pathlib import Path

_PRESETS = Path(__file__).parent


def preset_names(task: str) -> list[str]:
    """Names of the presets of a task."""
    return sorted(path.stem for path in (_PRESETS / task).glob("*.yaml"))


def preset_file(task: str, name: str) -> Path:
    """The file of a preset.

    Raises:
        ValueError: there is none of that name.
    """
    names = preset_names(task)
    if name not in names:
        raise ValueError(f"preset must be one of {', '.join(names)} for {task}, got {name}")
    return _PRESETS / task / f"{name}.yaml"
