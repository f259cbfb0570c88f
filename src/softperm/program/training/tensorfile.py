"""Tensors and a text in one safetensors file, with a checksum: no pickle is written or read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from softperm._files import replacing

_TEXT, _CHECKSUM = "state", "sha256"


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """A hash of all that the file means: names, types, shapes, values and the text."""
    digest = hashlib.sha256(text.encode("utf-8"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        values: Any = tensor.reshape(-1).view(torch.uint8).numpy()  # no stub calls it a buffer
        digest.update(values)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: str = "") -> None:
    """Write a file in one step.

    Raises:
        OSError: it cannot be written.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(kept, {_TEXT: text, _CHECKSUM: _checksum(kept, text)})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(path: Path, *, checked: bool) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, and its text.

    Arguments:
        path: The file.
        checked: Whether it must have a checksum; where there is one it is always compared.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    text = metadata.get(_TEXT, "")
    if (checked or _CHECKSUM in metadata) and metadata.get(_CHECKSUM) != _checksum(tensors, text):
        raise ValueError("it is damaged, or of an older version: its checksum does not fit")
    return tensors, text
