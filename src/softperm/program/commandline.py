"""From the arguments to a command. What takes long to load is loaded once they are right."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import softperm
from softperm.program.options import COMMANDS, SETTINGS, Options
from softperm.program.parser import unknown
from softperm.program.presets import preset_file
from softperm.program.schema import check
from softperm.program.training.signals import handling, leave

T = TypeVar("T")
Settings = tuple[Any, ...]  # of the classes of the task

_HELP = ("-h", "--help")
_SECONDS = {"train": "task", "reproduce": "table"}  # what the second word of a command is


def run(argv: Sequence[str]) -> int:
    """Do what the arguments say.

    Returns:
        The exit code.

    Raises:
        argparse.ArgumentError: there is no such command or option.
        ValueError, TypeError, OSError: a setting is out of range, or as the command.
    """
    if not argv or argv[0] in _HELP:
        print(_overview(), end="")
    elif argv[0] == "--version":
        print(f"softperm {softperm.__version__}")
    elif argv[0] == "--env":
        from softperm.program.environment import report

        print(report())
    elif (name := _find(argv)) not in COMMANDS:
        print(f"usage: softperm {name} WHAT [options]\n\n{_list(name)}")
    else:
        return _start(name, COMMANDS[name].parser().read(argv[len(name.split()) :]))
    return 0


def _find(argv: Sequence[str]) -> str:
    """The command that is meant; where help is asked for, the first of its two words may do.

    Raises:
        argparse.ArgumentError: there is none.
    """
    first, second = argv[0], argv[1] if len(argv) > 1 else ""
    if first in COMMANDS:
        return first
    if first.startswith("-"):
        raise unknown("option", first, ("--help", "--version", "--env"))
    firsts = list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    if first not in firsts:
        raise unknown("command", first, firsts)
    seconds = [name.split()[1] for name in COMMANDS if name.split()[0] == first]
    if second in seconds:
        return f"{first} {second}"
    if second in _HELP:
        return first
    if not second:
        what = f"{first} needs a {_SECONDS[first]}: {' or '.join(seconds)}"
        raise argparse.ArgumentError(None, what)
    raise unknown(f"{_SECONDS[first]} of {first}", second, seconds)


def _list(first: str = "") -> str:
    """The commands, or those that begin with a word, one line each."""
    lines = ["commands:"]
    for name, command in COMMANDS.items():
        if name.startswith(first):
            lines.append(f"  {name:<17}  {command.summary}")
    return "\n".join(lines)


def _overview() -> str:
    return f"""usage: softperm COMMAND [options]

Train, evaluate and use networks that find permutations.

{_list()}

options:
  COMMAND --help     what a command does, and its options
  --version          the version
  --env              what is installed here, for reports of bugs

examples:
  softperm train jigsaw --preset digits-2x2    # nothing to download
  softperm solve mnist-3x3 my-digit.png        # a network of the package
"""


def _start(name: str, options: Options) -> int:
    """Load what does the work, and let it."""
    first, *words = name.split()
    if first == "train":
        settings = _settings(words[0], options)
        if options["print_config"]:
            return _print_settings(settings)
        options = {
            "settings": settings,
            "out": Path(options["out"] or Path("runs", options["preset"] or words[0])),
            "resume": options["resume"],
        }
    module, function = COMMANDS[name].work.split(":")
    with handling(leave):
        work = getattr(import_module(f"softperm.program.{module}"), function)
    return int(work(*words, **options))


def _settings(task: str, options: Options) -> Settings:
    """The settings of a run: its own where it is to be resumed, else the defaults; and over them
    those of the preset, of the files, and those given.

    A preset that says something else than the run is so found out like any other setting.
    """
    values: Options = {}
    if options["resume"]:
        if not options["out"]:
            raise ValueError("--resume needs --out, the folder of the run to continue")
        values.update(_of_the_run(task, Path(options["out"])))
    files = [Path(name) for name in options["config"]]
    if options["preset"]:
        files.insert(0, preset_file(task, options["preset"]))
    for path in files:
        from softperm.program.readers import read_yaml

        values.update(check(read_yaml(path), path, *SETTINGS[task]))
    values.update(options)
    return tuple(_make(kind, values) for kind in SETTINGS[task])


def _make(kind: type[T], values: Options) -> T:
    """The settings of one class, its defaults where a value is not given."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: values[name] for name in names if name in values})


def _of_the_run(task: str, folder: Path) -> Options:
    """The settings that a run was begun with."""
    if task == "neurons":
        with handling(leave):
            from softperm.program.neurons.folder import read_config
        return asdict(read_config(folder))
    with handling(leave):
        from softperm.program.training.run import Run
    run = Run(folder)
    name = run.describe()[0]
    if name != task:
        raise ValueError(f"{folder} holds a {name} run, got train {task}")
    return {name: value for part in run.settings() for name, value in asdict(part).items()}


def _print_settings(settings: Settings) -> int:
    """Print what `--config` reads."""
    import yaml

    values = {name: value for part in settings for name, value in asdict(part).items()}
    print(yaml.safe_dump(values, sort_keys=False), end="")
    return 0
