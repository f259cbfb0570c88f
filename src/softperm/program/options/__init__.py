"""The commands of the program and their options, known without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from softperm.program.neurons.config import NeuronsConfig
from softperm.program.options.pictures import scramble, solve
from softperm.program.options.reproduce import reproduce, reproduce_neurons
from softperm.program.options.shared import add_common, add_help, add_run, path
from softperm.program.parser import Parser, unknown
from softperm.program.presets import preset_names
from softperm.program.settings import CONFIGS, GROUPS
from softperm.program.training.config import TrainConfig
from softperm.program.training.launch import LaunchConfig

Options = dict[str, Any]
SHELLS = ("bash", "zsh", "fish")

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
        "--config",
        metavar="FILE",
        type=path,
        action="append",
        default=[],
        help="a YAML file of settings",
    )
    default = "runs/PRESET or runs/TASK" if presets else f"runs/{task}"
    run.add_argument(
        "--out", metavar="DIR", type=path, help=f"folder of the run (default: {default})"
    )
    run.add_argument("--resume", action="store_true", help="go on with the run in the folder --out")
    run.add_argument("--print_config", action="store_true", help="print all settings and end")
    add_help(run)


def _preset(task: str) -> Callable[[str], str]:
    """Reads the name of a preset."""

    def read(name: str) -> str:
        names = preset_names(task)
        if name not in names:
            raise unknown(f"preset of {task}", name, names, ": softperm presets lists them")
        return name

    return read


def _evaluate() -> Parser:
    parser = Parser(
        "evaluate",
        "RUN [options]",
        "Print all metrics of a trained network over its whole test set, and draw\nwhat it does.",
        "softperm evaluate mnist-3x3",
    )
    add_run(parser, "run")
    add_common(parser, device=True, json=True)
    return parser


def _presets() -> Parser:
    parser = Parser(
        "presets",
        "[options]",
        "List the named settings of softperm train, and what they reach.",
        "softperm presets",
    )
    add_common(parser, json=True)
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
    add_common(parser)
    return parser


def _completion() -> Parser:
    parser = Parser(
        "completion",
        "SHELL",
        "Print a script by which a shell completes commands, options and their values\n"
        "at the Tab key. New shells know it from its place:\n"
        "  bash  ~/.local/share/bash-completion/completions/softperm\n"
        "        (needs bash-completion; or source the file in ~/.bashrc)\n"
        "  zsh   _softperm, in a folder of $fpath\n"
        "  fish  ~/.config/fish/completions/softperm.fish",
        "softperm completion fish > ~/.config/fish/completions/softperm.fish",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    add_common(parser)
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
    "solve": Command("scramble and restore pictures", "solve:solve", solve),
    "scramble": Command(
        "cut pictures and shuffle their pieces", "solve:scramble_pictures", scramble
    ),
    "presets": Command("named settings, and what they reach", "presets:show", _presets),
    "reproduce jigsaw": Command(
        "the paper's table of puzzles", "reproduce.command:reproduce", lambda: reproduce("jigsaw")
    ),
    "reproduce sorting": Command(
        "the paper's table of sorted lists",
        "reproduce.command:reproduce",
        lambda: reproduce("sorting"),
    ),
    "reproduce neurons": Command(
        "the tables of worms' neurons", "worms:reproduce", reproduce_neurons
    ),
    "app": Command("serve a page to play with, in the browser", "app:serve", _app),
    "completion": Command("let the shell complete words", "completion:write", _completion),
}
