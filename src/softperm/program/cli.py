"""The program: softperm train | evaluate | solve | scramble | reproduce."""

from __future__ import annotations

import argparse
import sys
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softperm.program.errors import give_up_output, guarded
from softperm.program.presets import preset_file, preset_names

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_TABLES = (("jigsaw", "pieces", "Pieces a side"), ("sorting", "n", "Numbers in a list"))


def _given(argv: Sequence[str]) -> argparse.Namespace:
    """The options that decide what the defaults of the others are."""
    scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scout.add_argument("--preset")
    scout.add_argument("--config", action="append", default=[])
    scout.add_argument("--out")
    scout.add_argument("--resume", action="store_true")
    given = scout.parse_known_args(argv)[0]
    given.task = argv[1] if list(argv[:1]) == ["train"] and len(argv) > 1 else None
    return given


def _defaults(task: str, given: argparse.Namespace) -> dict[str, Any]:
    """Default settings: those of the run to resume, and over them those of the preset.

    A preset that says something else than the run is so found out like any other setting.
    """
    from softperm.program.readers import read_yaml
    from softperm.program.schema import check
    from softperm.program.training.config import TrainConfig
    from softperm.program.training.run import TASKS, Run

    kinds = (TASKS[task][0], TrainConfig)
    for name in given.config:  # they are read by the parser; here they are only checked
        check(read_yaml(Path(name)), name, *kinds)
    values: dict[str, Any] = {}
    if given.resume and given.out:
        run = Run(Path(given.out))
        if run.describe()[0] == task:
            for settings in run.settings():
                values.update(asdict(settings))
    if given.preset in preset_names(task):
        path = preset_file(task, given.preset)
        values.update(check(read_yaml(path), path, *kinds))
    return values


def _new_parser(**options: Any) -> ArgumentParser:
    """A parser that raises its errors and takes no shortened names."""
    from jsonargparse import ArgumentParser

    return ArgumentParser(exit_on_error=False, allow_abbrev=False, **options)


def _train_parser(task: str, given: argparse.Namespace) -> ArgumentParser:
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

    from softperm.program.training.config import TrainConfig
    from softperm.program.training.run import TASKS

    parser = _new_parser(description=f"Train on the {task} task.")
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
    if given.task == task:
        parser.set_defaults(_defaults(task, given))
    return parser


def _train_neurons_parser(given: argparse.Namespace) -> ArgumentParser:
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

    from softperm.program.neurons.config import NeuronsConfig
    from softperm.program.readers import read_yaml
    from softperm.program.schema import check

    parser = _new_parser(description="Simulate worms and infer which neuron is which.")
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file of settings.")
    parser.add_argument("--out", type=str, help="Folder of the run; runs/neurons when omitted.")
    parser.add_argument(
        "--resume", action="store_true", help="Finish the run in the folder given by --out."
    )
    parser.add_class_arguments(NeuronsConfig)
    if given.task != "neurons":
        return parser
    for name in given.config:  # they are read by the parser; here they are only checked
        check(read_yaml(Path(name)), name, NeuronsConfig)
    if given.resume and given.out:
        from softperm.program.neurons.folder import read_config

        parser.set_defaults(asdict(read_config(Path(given.out))))
    return parser


def _reproduce_neurons_parser() -> ArgumentParser:
    from softperm.program.neurons.config import Method

    parser = _new_parser(
        description="Run the cells of the neurons tables; finished ones are kept.",
    )
    parser.add_argument(
        "--cells", type=str, nargs="+", help="Names of cells or tables; all when omitted."
    )
    parser.add_argument(
        "--methods", type=Method, nargs="+", help="Which methods; all when omitted."
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="Simulated data sets.")
    parser.add_argument(
        "--quick", action="store_true", help="A check: short recordings, two cells."
    )
    parser.add_argument("--data", type=str, help="Folder of the wiring's two tables.")
    parser.add_argument(
        "--out", type=str, help="Folder of runs and tables; runs/reproduce/neurons when omitted."
    )
    parser.add_argument("--docs", type=str, help="A document with markers for the tables.")
    return parser


def _reproduce_parser(table: str, size: str, help_size: str) -> ArgumentParser:
    from softperm.program.training.config import Device

    parser = _new_parser(
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
    import softperm
    from softperm.nn.pretrained import pretrained_names
    from softperm.program.training.config import Device
    from softperm.program.training.run import TASKS

    either = f"or a pretrained network: {', '.join(pretrained_names())}."
    parser = _new_parser(
        prog="softperm",
        description="Train, evaluate and use networks that find permutations.",
        version=softperm.__version__,
    )
    commands = parser.add_subcommands(dest="command")

    train = _new_parser(description="Train a network on a task.")
    commands.add_subcommand("train", train, help="Train a network.")
    tasks = train.add_subcommands(dest="task")
    for name in TASKS:
        tasks.add_subcommand(name, _train_parser(name, given), help=f"Train on {name}.")
    tasks.add_subcommand(
        "neurons", _train_neurons_parser(given), help="Infer which neuron of a worm is which."
    )

    evaluate = _new_parser(description="Print all metrics of a run over its whole test set.")
    evaluate.add_argument("run", type=str, help=f"Folder of the run, {either}")
    commands.add_subcommand("evaluate", evaluate, help="Evaluate a trained network.")

    solve = _new_parser(description="Scramble and restore pictures with a trained network.")
    solve.add_argument("run", type=str, help=f"Folder of a jigsaw run, {either}")
    solve.add_argument("images", type=str, nargs="+", help="Pictures: PNG, JPEG, BMP or WebP.")
    solve.add_argument(
        "--scrambled", action="store_true", help="The pictures are scrambled already."
    )
    solve.add_argument(
        "--invert",
        action=BooleanOptionalAction,
        help="Show the network the negative; when omitted, that of pictures on a light background.",
    )
    solve.add_argument(
        "--out",
        type=str,
        help="Folder for the results; when omitted RUN/solved, or runs/pretrained/NAME/solved.",
    )
    solve.add_argument("--seed", type=int, default=0, help="Seed of the scrambles.")
    commands.add_subcommand("solve", solve, help="Restore scrambled pictures.")

    scramble = _new_parser(description="Cut pictures and shuffle their pieces, to try solve on.")
    scramble.add_argument("images", type=str, nargs="+", help="Pictures: PNG, JPEG, BMP or WebP.")
    scramble.add_argument("--pieces", type=int, default=3, help="Pieces per side.")
    scramble.add_argument("--out", type=str, default="scrambled", help="Folder for the results.")
    scramble.add_argument("--seed", type=int, default=0, help="Seed of the scrambles.")
    commands.add_subcommand("scramble", scramble, help="Scramble pictures.")

    reproduce = _new_parser(description="Train and measure a table of the paper again.")
    commands.add_subcommand("reproduce", reproduce, help="Reproduce a table of the paper.")
    tables = reproduce.add_subcommands(dest="table")
    for name, size, text in _TABLES:
        tables.add_subcommand(
            name, _reproduce_parser(name, size, text), help=f"Reproduce the {name} table."
        )
    tables.add_subcommand(
        "neurons", _reproduce_neurons_parser(), help="Reproduce the tables of worms' neurons."
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
        if task == "neurons":
            return commands.train_neurons(options[task])
        return commands.train(task, options[task])
    if command == "reproduce":
        return commands.reproduce(options["table"], options[options["table"]])
    if command == "evaluate":
        return commands.evaluate(**options)
    from softperm.program import solve

    if command == "scramble":
        return solve.scramble_pictures(**options)
    return solve.solve(**options)


def _work(argv: Sequence[str]) -> int:
    """Read the arguments and do as they say."""
    return _run(_parser(_given(argv)).parse_args(list(argv)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Arguments:
        argv: The arguments; those of the process when omitted.

    Returns:
        The exit code: 0 when all went well, else one of `softperm.program.errors.Code`, or 128 +
        the signal that asked to stop.
    """
    if argv is not None:
        return guarded(lambda: _work(argv))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    code = guarded(lambda: _work(sys.argv[1:]))
    give_up_output()
    return code


if __name__ == "__main__":
    sys.exit(main())
