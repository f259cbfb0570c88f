"""The program: softperm train | evaluate | solve | reproduce."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softperm.program.presets import preset_file, preset_names

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_TABLES = (("jigsaw", "pieces", "Pieces a side"), ("sorting", "n", "Numbers in a list"))


def _given(argv: Sequence[str]) -> argparse.Namespace:
    """The options that decide which files the defaults of the others come from."""
    scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scout.add_argument("--preset")
    scout.add_argument("--out")
    scout.add_argument("--resume", action="store_true")
    return scout.parse_known_args(argv)[0]


def _default_files(task: str, given: argparse.Namespace) -> list[str | os.PathLike[str]]:
    """Sources of default settings, weakest first: the preset, then the run to resume."""
    from softperm.program.training.run import Run

    paths: list[Path] = []
    if given.preset in preset_names(task):
        paths.append(preset_file(task, given.preset))
    if given.resume and given.out:
        run = Run(Path(given.out))
        if run.holds(task):
            paths.append(run.config_file)
    return [*paths]


def _train_parser(task: str, given: argparse.Namespace) -> ArgumentParser:
    from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

    from softperm.program.training.config import TrainConfig
    from softperm.program.training.run import TASKS

    parser = ArgumentParser(
        exit_on_error=False,
        description=f"Train on the {task} task.",
        default_config_files=_default_files(task, given),
    )
    names = preset_names(task)
    parser.add_argument("--preset", choices=names, help=f"Named settings: {', '.join(names)}.")
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file of settings.")
    parser.add_argument(
        "--out", type=str, help="Folder of the run; runs/PRESET or runs/TASK when omitted."
    )
    parser.add_argument(
        "--resume", action="store_true", help="Continue the run in the folder given by --out."
    )
    parser.add_class_arguments(TASKS[task][0])
    parser.add_class_arguments(TrainConfig)
    return parser


def _reproduce_parser(table: str, size: str, help_size: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    from softperm.program.training.config import Device

    parser = ArgumentParser(
        exit_on_error=False,
        description=f"Train and measure the cells of the {table} table; finished ones are kept.",
    )
    parser.add_argument(f"--{size}", type=int, nargs="+", help=f"{help_size}; all when omitted.")
    parser.add_argument(
        "--net", choices=["paper", "ours", "both"], default="both", help="Which networks."
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="Seeds of the runs.")
    parser.add_argument(
        "--quick", action="store_true", help="A check: one epoch each, the smallest two sizes."
    )
    if table == "jigsaw":
        parser.add_argument("--data", type=str, help="Other images: digits, or a folder.")
    parser.add_argument(
        "--out", type=str, help=f"Folder of runs and table; runs/reproduce/{table} when omitted."
    )
    parser.add_argument("--docs", type=str, help="A document with markers for the table.")
    parser.add_argument("--device", type=Device, default="auto", help="Where to train.")
    return parser


def _parser(given: argparse.Namespace) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    import softperm
    from softperm.nn.pretrained import pretrained_names
    from softperm.program.training.config import Device
    from softperm.program.training.run import TASKS

    either = f"or a pretrained network: {', '.join(pretrained_names())}."
    parser = ArgumentParser(
        prog="softperm",
        description="Train, evaluate and use networks that find permutations.",
        version=softperm.__version__,
        exit_on_error=False,
    )
    commands = parser.add_subcommands(dest="command")

    train = ArgumentParser(exit_on_error=False, description="Train a network on a task.")
    commands.add_subcommand("train", train, help="Train a network.")
    tasks = train.add_subcommands(dest="task")
    for name in TASKS:
        tasks.add_subcommand(name, _train_parser(name, given), help=f"Train on {name}.")

    evaluate = ArgumentParser(
        exit_on_error=False, description="Print all metrics of a run over its whole test set."
    )
    evaluate.add_argument("run", type=str, help=f"Folder of the run, {either}")
    commands.add_subcommand("evaluate", evaluate, help="Evaluate a trained network.")

    solve = ArgumentParser(
        exit_on_error=False, description="Scramble and restore pictures with a trained network."
    )
    solve.add_argument("run", type=str, help=f"Folder of a jigsaw run, {either}")
    solve.add_argument("images", type=str, nargs="+", help="Pictures, PNG or JPEG.")
    solve.add_argument(
        "--scrambled", action="store_true", help="The pictures are scrambled already."
    )
    solve.add_argument(
        "--out",
        type=str,
        help="Folder for the results; when omitted RUN/solved, or runs/pretrained/NAME/solved.",
    )
    solve.add_argument("--seed", type=int, default=0, help="Seed of the scrambles.")
    commands.add_subcommand("solve", solve, help="Restore scrambled pictures.")

    reproduce = ArgumentParser(
        exit_on_error=False, description="Train and measure a table of the paper again."
    )
    commands.add_subcommand("reproduce", reproduce, help="Reproduce a table of the paper.")
    tables = reproduce.add_subcommands(dest="table")
    for name, size, text in _TABLES:
        tables.add_subcommand(
            name, _reproduce_parser(name, size, text), help=f"Reproduce the {name} table."
        )
    for sub in (evaluate, solve):
        sub.add_argument("--device", type=Device, default="auto", help="Where to compute.")
    return parser


def _run(settings: Namespace) -> int:
    """Hand the settings of the chosen command to its function."""
    from softperm.program import commands

    command: str = settings.command
    options: dict[str, Any] = settings[command].as_dict()
    if command == "train":
        task: str = options["task"]
        return commands.train(task, options[task])
    if command == "reproduce":
        return commands.reproduce(options["table"], options[options["table"]])
    if command == "evaluate":
        return commands.evaluate(**options)
    return commands.solve(**options)


def _fail(message: str, code: int) -> int:
    print(f"softperm: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit code is 0 when all went well, 2 for wrong arguments, else 1.

    Arguments:
        argv: The arguments; those of the process when omitted.

    Returns:
        The exit code.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        import jsonargparse  # noqa: F401
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install 'softperm[train]'", 1)
    try:
        settings = _parser(_given(argv)).parse_args(argv)
    except argparse.ArgumentError as error:
        return _fail(str(error), 2)
    try:
        return _run(settings)
    except (ValueError, TypeError, OSError) as error:
        return _fail(str(error), 1)


if __name__ == "__main__":
    sys.exit(main())
