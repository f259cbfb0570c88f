"""The command `softperm completion`: scripts by which shells complete the words of a command."""

from __future__ import annotations

import argparse
from typing import Any, Literal, get_args, get_origin

import shtab

from softperm._pretrained import pretrained_names
from softperm.program.options import COMMANDS
from softperm.program.parser import Parser
from softperm.program.presets import preset_names
from softperm.program.reproduce.cells import SIZES
from softperm.program.reproduce.neurons_columns import names_of_cells
from softperm.program.settings import NAMED_DATA

_PATHS = {"FILE": shtab.FILE, "IMAGE": shtab.FILE, "DIR": shtab.DIRECTORY}  # by metavar
_FOLDERS = ("run", "data")  # what these name may be a folder as well as one of the known words


def write(shell: str) -> int:
    """Print the script of a shell."""
    print(shtab.complete(_program(), shell))
    return 0


def _program() -> argparse.ArgumentParser:
    """All commands in one parser, as the library of the scripts reads them."""
    program = argparse.ArgumentParser("softperm")
    for name, text in (("--version", "the version"), ("--env", "what is installed here")):
        program.add_argument(name, action="store_true", help=text)
    words = program.add_subparsers()
    groups: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        first, _, second = name.partition(" ")
        if second and first not in groups:
            seconds = [other.split()[1] for other in COMMANDS if other.startswith(f"{first} ")]
            text = f"{first} {' or '.join(seconds)}"
            groups[first] = words.add_parser(first, help=text).add_subparsers()
        where = groups[first] if second else words
        where.add_parser(
            second or first, help=command.summary, parents=[_described(name)], add_help=False
        )
    return program


def _described(name: str) -> Parser:
    """The parser of a command, its options with dashes and its arguments with their values."""
    parser = COMMANDS[name].parser()
    known = _known(name.split()[-1])
    for action in parser._actions:
        action.option_strings = [option.replace("_", "-") for option in action.option_strings]
        words = known.get(action.dest, _of_type(parser.settings.get(action.dest)))
        if action.dest in _FOLDERS:
            action.complete = _words_or_folders(action.dest, words)  # type: ignore[attr-defined]
        elif action.metavar in _PATHS:
            action.complete = _PATHS[action.metavar]  # type: ignore[attr-defined]
        else:
            action.choices = action.choices or words
    return parser


def _known(what: str) -> dict[str, list[str]]:
    """The words that arguments may be, by argument, for a task, a table or a command."""
    return {
        "preset": preset_names(what),
        "run": pretrained_names(),
        "data": list(NAMED_DATA) if what == "jigsaw" else [],
        "sizes": [str(size) for table, sizes in SIZES.items() if table == what for size in sizes],
        "cells": names_of_cells(),
    }


def _of_type(hint: object) -> list[str]:
    """The words that a setting may be, where its type has few values."""
    if hint is bool:
        return ["true", "false"]
    return list(get_args(hint)) if get_origin(hint) is Literal else []


def _words_or_folders(name: str, words: list[str]) -> dict[str, Any]:
    """What completes an argument that is one of some words or a folder."""
    if not words:
        return dict(shtab.DIRECTORY)
    function, listed = f"_softperm_dir_or_{name}", " ".join(words)
    bash = f'compgen -W "{listed}" -- "$1"; compgen -d -- "$1"'
    zsh = f"_alternative 'words:{name}:({listed})' 'folders:folder:_files -/'"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"{listed} {shtab.DIRECTORY['fish']}",
        "preamble": {
            "bash": f"{function}() {{ {bash}; }}",
            "zsh": f"{function}() {{ {zsh}; }}",
        },
    }
