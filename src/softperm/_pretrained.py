"""The trained networks that come with the package, by name. Found without PyTorch."""

from __future__ import annotations

from pathlib import Path

from softperm._suggest import did_you_mean

_FOLDER = Path(__file__).parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the trained networks that come with the package.

    Returns:
        What `load_pretrained` takes, in alphabetical order.

    Example:
        >>> pretrained_names()
        ['mnist-2x2', 'mnist-3x3', 'mnist-4x4', 'mnist-5x5']
    """
    return sorted(path.parent.name for path in _FOLDER.glob("*/model.safetensors"))


def pretrained_folder(name: object) -> Path:
    """The folder of a trained network: its weights, settings and model card.

    Raises:
        ValueError: there is none of that name.
    """
    names = pretrained_names()
    if name not in names:
        got = "nothing" if name is None else f"{name!r}{did_you_mean(name, names)}"
        raise ValueError(f"name must be one of {', '.join(names)}, got {got}")
    return _FOLDER / str(name)
