"""The options of the commands that read pictures."""

from __future__ import annotations

import argparse

from softperm.program.options.shared import add_common, add_run, add_seed, path
from softperm.program.parser import Parser

_PICTURES = "pictures: PNG, JPEG, BMP or WebP"


def solve() -> Parser:
    parser = Parser(
        "solve",
        "RUN IMAGE... [options]",
        "Scramble pictures and restore them with a trained network, or restore\nscrambled ones.",
        "softperm solve mnist-3x3 my-digit.png",
    )
    add_run(parser, "jigsaw run")
    parser.add_argument("images", metavar="IMAGE", type=path, nargs="+", help=_PICTURES)
    group = parser.add_argument_group("pictures")
    group.add_argument("--scrambled", action="store_true", help="they are scrambled already")
    group.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="show the network the negative (default: of pictures with a light background)",
    )
    group.add_argument(
        "--out",
        metavar="DIR",
        type=path,
        help="folder for the results (default: solved, in that of the run)",
    )
    add_seed(group)
    add_common(parser, device=True, json=True)
    return parser


def scramble() -> Parser:
    parser = Parser(
        "scramble",
        "IMAGE... [options]",
        "Cut pictures and shuffle their pieces, to try softperm solve --scrambled on.",
        "softperm scramble my-digit.png --pieces 3",
    )
    parser.add_argument("images", metavar="IMAGE", type=path, nargs="+", help=_PICTURES)
    group = parser.add_argument_group("puzzle")
    group.add_argument(
        "--pieces", metavar="N", type=int, default=3, help="pieces per side (default: 3)"
    )
    add_seed(group)
    group.add_argument(
        "--out",
        metavar="DIR",
        type=path,
        default="scrambled",
        help="folder for the results (default: scrambled)",
    )
    add_common(parser)
    return parser
