"""Options that several commands have."""

from __future__ import annotations

import argparse
from typing import get_args

from softperm._pretrained import pretrained_names
from softperm.program.parser import Parser
from softperm.program.training.config import Device


def path(text: str) -> str:
    """Read a path, which a variable of the shell that is not set leaves empty.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got an empty one")
    return text


def add_help(where: argparse._ActionsContainer) -> None:
    where.add_argument("-h", "--help", action="help", help="show this and end")


def add_seed(where: argparse._ActionsContainer) -> None:
    where.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of the scrambles (default: 0)"
    )


def add_common(parser: Parser, *, device: bool = False, json: bool = False) -> None:
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
    add_help(group)


def add_run(parser: Parser, kind: str) -> None:
    names = ", ".join(pretrained_names())
    parser.add_argument(
        "run",
        metavar="RUN",
        type=path,
        help=f"folder of a {kind}, or a pretrained network: {names}",
    )
