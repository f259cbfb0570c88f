"""The options of `softperm reproduce`."""

from __future__ import annotations

import argparse

from softperm.program.neurons.config import METHODS
from softperm.program.options.shared import add_common, path
from softperm.program.parser import Parser

_SIZES = {"jigsaw": ("pieces", "pieces per side"), "sorting": ("n", "numbers in a list")}


def reproduce(table: str) -> Parser:
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
        group.add_argument(
            "--data", metavar="DATA", type=path, help="other images: digits, or a folder"
        )
    _add_results(parser, table, "table")
    add_common(parser, device=True)
    return parser


def _add_seeds(where: argparse._ActionsContainer, each: str, quick: str) -> None:
    help_text = f"{each} (default: 0)"
    where.add_argument("--seeds", metavar="N", type=int, nargs="+", default=[0], help=help_text)
    where.add_argument("--quick", action="store_true", help=quick)


def _add_results(parser: Parser, table: str, what: str) -> None:
    group = parser.add_argument_group("results")
    group.add_argument(
        "--out",
        metavar="DIR",
        type=path,
        help=f"folder of runs and {what} (default: runs/reproduce/{table})",
    )
    group.add_argument(
        "--docs", metavar="FILE", type=path, help=f"a document with markers for the {what}"
    )


def reproduce_neurons() -> Parser:
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
    group.add_argument("--data", metavar="DIR", type=path, help="folder of the wiring's two tables")
    _add_results(parser, "neurons", "tables")
    add_common(parser)
    return parser
