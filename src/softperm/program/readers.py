"""Files of settings, read with a bound on their size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from softperm.program.schema import shorten

_LARGEST = 100_000  # bytes of a file of settings


class _Loader(yaml.SafeLoader):
    """YAML without references, which can make a file mean more than it holds.

    A name may be given once.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references (*name) are not allowed")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key in names:
                raise yaml.YAMLError(f"{key} is given twice")
            names.add(key)
        return node


# 1e-3 is a number, which YAML 1.1 takes for a text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """An int as the command line reads it: 010 is ten, which YAML 1.1 takes for eight."""
    return int(str(loader.construct_scalar(node)))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def read_text(path: Path, most: int = _LARGEST) -> str:
    """The text of a file.

    Raises:
        ValueError: it is longer than `most` bytes, or not UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} must be no longer than {most} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8: {error.reason}") from error


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        ValueError: it holds no JSON.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {shorten(str(error))}") from error


def read_yaml(path: Path) -> object:
    """What a YAML file holds.

    Raises:
        ValueError: it holds no YAML, or references, or a name twice.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML of settings: {shorten(str(error))}") from error
