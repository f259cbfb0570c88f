"""The commands of the program and their options, known without PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from softperm._pretrained import pretrained_names
from softperm.program.neurons.config import METHODS, NeuronsConfig
from softperm.program.parser import Parser, unknown
from softperm.program.presets import preset_names
from softperm.program.settings import CONFIGS, GROUPS
from softperm.program.training.config import Device, TrainConfig
from softperm.program.training.launch import LaunchConfig

Options = dict[str, Any]

_PICTURES = "pictures: PNG, JPEG, BMP or WebP"
# The classes that make up the settings of a task.
SETTINGS: dict[str, tuple[type, ...]] = {
    **{task: (config, TrainConfig, LaunchConfig) for task, config in CONFIGS.items()},
    "neurons": (NeuronsConfig,),
}
_NEURONS_GROUPS = {
    "worms": ("data", "worms", "candidates", "eta", "known", "observed", "extra"),
    "recordings": ("steps", "noise"),
    "inference": ("method", "seed"),
}
_EXAMPLES = {"jigsaw": "digits-2x2", "sorting": "sorting-5"}
_SIZES = {"jigsaw": ("pieces", "pieces per side"), "sorting": ("n", "numbers in a list")}


@dataclass(frozen=True)
class Command:
    """A command.

    Arguments:
        summary: What it does, in a few words.
        work: The module and the function that do it; they get the second word of the command, where
            there is one, and the options.
        parser: Makes its parser.
    """

    summary: str
    work: str
    parser: Callable[[], Parser]


def _train(task: str) -> Parser:
    parser = Parser(
        f"train {task}",
        "[--preset NAME] [--out DIR] [--resume] [options]",
        f"Train a network on the {task} task, then evaluate it and draw what it does.\n"
        "Settings are the defaults, over them the preset, the file, the options.\n"
        "Names may have dashes as well: --n-iters is --n_iters.",
        f"softperm train {task} --preset {_EXAMPLES[task]} --epochs 2",
    )
    _add_run_options(parser, task)
    for title, names in GROUPS.items():
        parser.add_settings(title, SETTINGS[task], names)
    return parser


def _train_neurons() -> Parser:
    parser = Parser(
        "train neurons",
        "[--out DIR] [--resume] [options]",
        "Simulate recordings of worms, and infer which neuron is which.\n"
        "Settings are the defaults, over them the file, the options.",
        "softperm train neurons --candidates 60 --worms 4",
    )
    _add_run_options(parser, "neurons")
    for title, names in _NEURONS_GROUPS.items():
        parser.add_settings(title, SETTINGS["neurons"], names)
    return parser


def _add_run_options(parser: Parser, task: str) -> None:
    run = parser.add_argument_group("run")
    if presets := preset_names(task):
        help_text = ", ".join(presets)
        run.add_argument("--preset", metavar="NAME", type=_preset(task), help=help_text)
    else:
        parser.set_defaults(preset=None)
    run.add_argument(
        "--config", metavar="FILE", action="append", default=[], help="a YAML file of settings"
    )
    default = "runs/PRESET or runs/TASK" if presets else f"runs/{task}"
    run.add_argument("--out", metavar="DIR", help=f"folder of the run (default: {default})")
    run.add_argument("--resume", action="store_true", help="go on with the run in the folder --out")
    run.add_argument("--print_config", action="store_true", help="print all settings and end")
    _add_help(run)


def _preset(task: str) -> Callable[[str], str]:
    """Reads the name of a preset."""

    def read(name: str) -> str:
        names = preset_names(task)
        if name not in names:
            raise unknown(f"preset of {task}", name, names, ": softperm presets lists them")
        return name

    return read


def _add_help(where: argparse._ActionsContainer) -> None:
    where.add_argument("-h", "--help", action="help", help="show this and end")


def _add_seed(where: argparse._ActionsContainer) -> None:
    where.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of the scrambles (default: 0)"
    )


def _add_common(parser: Parser, *, device: bool = False, json: bool = False) -> None:
    """The options that several commands have, at the end."""
    group = parser.add_argument_group("options")
    if device:
        group.add_argument(
            "--device",
            choices=get_args(Device),
            default="auto",
            help="where to compute; auto: CUDA, then MPS, then the CPU",
        )
    if json:
        group.add_argument("--json", action="store_true", help="print one JSON object alone")
    _add_help(group)


def _add_run(parser: Parser, kind: str) -> None:
    names = ", ".join(pretrained_names())
    parser.add_argument(
        "run", metavar="RUN", help=f"folder of a {kind}, or a pretrained network: {names}"
    )


def _evaluate() -> Parser:
    parser = Parser(
        "evaluate",
        "RUN [options]",
        "Print all metrics of a trained network over its whole test set, and draw\nwhat it does.",
        "softperm evaluate mnist-3x3",
    )
    _add_run(parser, "run")
    _add_common(parser, device=True, json=True)
    return parser


def _solve() -> Parser:
    parser = Parser(
        "solve",
        "RUN IMAGE... [options]",
        "Scramble pictures and restore them with a trained network, or restore\nscrambled ones.",
        "softperm solve mnist-3x3 my-digit.png",
    )
    _add_run(parser, "jigsaw run")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=_PICTURES)
    group = parser.add_argument_group("pictures")
    group.add_argument("--scrambled", action="store_true", help="they are scrambled already")
    group.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="show the network the negative (default: of pictures with a light background)",
    )
    group.add_argument(
        "--out", metavar="DIR", help="folder for the results (default: solved, in that of the run)"
    )
    _add_seed(group)
    _add_common(parser, device=True, json=True)
    return parser


def _scramble() -> Parser:
    parser = Parser(
        "scramble",
        "IMAGE... [options]",
        "Cut pictures and shuffle their pieces, to try softperm solve --scrambled on.",
        "softperm scramble my-digit.png --pieces 3",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=_PICTURES)
    group = parser.add_argument_group("puzzle")
    group.add_argument(
        "--pieces", metavar="N", type=int, default=3, help="pieces per side (default: 3)"
    )
    _add_seed(group)
    group.add_argument(
        "--out",
        metavar="DIR",
        default="scrambled",
        help="folder for the results (default: scrambled)",
    )
    _add_common(parser)
    return parser


def _presets() -> Parser:
    parser = Parser(
        "presets",
        "[options]",
        "List the named settings of softperm train, and what they reach.",
        "softperm presets",
    )
    _add_common(parser, json=True)
    return parser


def _reproduce(table: str) -> Parser:
    size, what = _SIZES[table]
    parser = Parser(
        f"reproduce {table}",
        "[options]",
        f"Train and measure the cells of the paper's {table} table. Finished ones are\n"
        "kept: the same command goes on where it was stopped.",
        f"softperm reproduce {table} --quick",
    )
    group = parser.add_argument_group("cells")
    group.add_argument(
        f"--{size}",
        dest="sizes",
        metavar="N",
        type=int,
        nargs="+",
        help=f"{what} (default: all of the table)",
    )
    group.add_argument(
        "--net", choices=["paper", "ours", "both"], default="both", help="which networks"
    )
    _add_seeds(group, "a run for each", "a check: one epoch each, the smallest two sizes")
    if table == "jigsaw":
        group.add_argument("--data", metavar="DATA", help="other images: digits, or a folder")
    _add_results(parser, table, "table")
    _add_common(parser, device=True)
    return parser


def _add_seeds(where: argparse._ActionsContainer, each: str, quick: str) -> None:
    help_text = f"{each} (default: 0)"
    where.add_argument("--seeds", metavar="N", type=int, nargs="+", default=[0], help=help_text)
    where.add_argument("--quick", action="store_true", help=quick)


def _add_results(parser: Parser, table: str, what: str) -> None:
    group = parser.add_argument_group("results")
    group.add_argument(
        "--out", metavar="DIR", help=f"folder of runs and {what} (default: runs/reproduce/{table})"
    )
    group.add_argument("--docs", metavar="FILE", help=f"a document with markers for the {what}")


def _reproduce_neurons() -> Parser:
    parser = Parser(
        "reproduce neurons",
        "[options]",
        "Simulate and infer the cells of the tables of worms' neurons. Finished ones\n"
        "are kept: the same command goes on where it was stopped.",
        "softperm reproduce neurons --quick",
    )
    group = parser.add_argument_group("cells")
    group.add_argument("--cells", metavar="NAME", nargs="+", help="cells or tables (default: all)")
    group.add_argument(
        "--methods", choices=list(METHODS), nargs="+", help="which methods (default: all)"
    )
    _add_seeds(group, "a simulated data set for each", "a check: two cells, short recordings")
    group.add_argument("--data", metavar="DIR", help="folder of the wiring's two tables")
    _add_results(parser, "neurons", "tables")
    _add_common(parser)
    return parser


def _app() -> Parser:
    parser = Parser("app", "", "Serve a page to play with, in the browser.", "softperm app")
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host",
        metavar="NAME",
        default="127.0.0.1",
        help="name or address to listen on (default: 127.0.0.1, this machine alone)",
    )
    group.add_argument(
        "--port", metavar="N", type=int, default=7860, help="0 for any that is free (default: 7860)"
    )
    group.add_argument(
        "--no-browser", dest="open_browser", action="store_false", help="do not open the browser"
    )
    _add_common(parser)
    return parser


COMMANDS = {
    "train jigsaw": Command(
        "train a network to put pieces of images in place",
        "train:train",
        lambda: _train("jigsaw"),
    ),
    "train sorting": Command(
        "train a network to sort numbers", "train:train", lambda: _train("sorting")
    ),
    "train neurons": Command(
        "infer which neuron of a worm is which", "worms:train", _train_neurons
    ),
    "evaluate": Command("all metrics of a trained network", "evaluate:evaluate", _evaluate),
    "solve": Command("scramble and restore pictures", "solve:solve", _solve),
    "scramble": Command(
        "cut pictures and shuffle their pieces", "solve:scramble_pictures", _scramble
    ),
    "presets": Command("named settings, and what they reach", "presets:show", _presets),
    "reproduce jigsaw": Command(
        "the paper's table of puzzles", "reproduce.command:reproduce", lambda: _reproduce("jigsaw")
    ),
    "reproduce sorting": Command(
        "the paper's table of sorted lists",
        "reproduce.command:reproduce",
        lambda: _reproduce("sorting"),
    ),
    "reproduce neurons": Command(
        "the tables of worms' neurons", "worms:reproduce", _reproduce_neurons
    ),
    "app": Command("serve a page to play with, in the browser", "app:serve", _app),
}
