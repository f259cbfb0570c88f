"""Arguments of one command: dashes or underscores, names in full, near misses named."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from softperm._suggest import did_you_mean
from softperm.program.schema import from_text

_WIDEST = 100
_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)
_METAVARS = {int: "N", float: "X", str: "TEXT"}


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal, up to a width that is still easy to read."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, _WIDEST) - 2
        super().__init__(prog, max_help_position=24, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


def unknown(kind: str, name: str, known: Sequence[str], more: str = "") -> argparse.ArgumentError:
    """The error of a name that there is not."""
    hint = did_you_mean(name, known) or more or f": choose from {', '.join(known)}"
    return argparse.ArgumentError(None, f"unknown {kind} {name}{hint}")


class Parser(argparse.ArgumentParser):
    """A parser of one command that raises its errors.

    Arguments:
        command: The words that the command begins with, without the program's name.
        usage: What follows them.
        description: What the command does.
        example: A command line to copy.
    """

    def __init__(self, command: str, usage: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"softperm {command}",
            usage=f"softperm {command} {usage}".rstrip(),
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._positionals.title = "arguments"
        self._negative_number_matcher = _NEGATIVE  # that of argparse knows no exponents
        self.settings: dict[str, Any] = {}  # name: its type

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        raise argparse.ArgumentError(None, message)

    def add_settings(self, title: str, kinds: Sequence[type], names: Sequence[str]) -> None:
        """Options for fields of settings classes; those that are not given are left out."""
        group = self.add_argument_group(title)
        for kind in kinds:
            hints, texts = get_type_hints(kind), _documented(kind)
            for field in fields(kind):
                if field.name in names:
                    self.settings[field.name] = hint = hints[field.name]
                    group.add_argument(
                        f"--{field.name}",
                        metavar=_metavar(hint),
                        default=argparse.SUPPRESS,
                        help=f"{texts.get(field.name, '')} ({_default(field.default)})",
                    )

    def read(self, argv: Sequence[str]) -> dict[str, Any]:
        """The arguments by name.

        Raises:
            argparse.ArgumentError: there is no such argument, or one is missing.
            ValueError, TypeError: a setting is of another type.
        """
        end = argv.index("--") if "--" in argv else len(argv)  # of the options
        spelt = [self._spelt(part) for part in argv[:end]]
        given = vars(self.parse_args([*spelt, *argv[end:]]))
        for name, hint in self.settings.items():
            if name in given:
                given[name] = from_text(given[name], hint, name)
        return given

    def _spelt(self, part: str) -> str:
        """An argument with its option spelt as it was added."""
        if not part.startswith("--"):
            return part
        name, equals, value = part.partition("=")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        same = {option.replace("-", "_"): option for option in options}
        if name.replace("-", "_") not in same:
            raise unknown("option", name, options, f": {self.prog} --help lists them")
        return same[name.replace("-", "_")] + equals + value


def _metavar(hint: Any) -> str:
    """What stands for a value of a type."""
    if hint is bool:
        return "{true,false}"
    if get_origin(hint) is Literal:
        return f"{{{','.join(get_args(hint))}}}"
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return _METAVARS[kinds[0] if kinds else hint]


def _default(value: object) -> str:
    if value is None:
        return "default: none"
    return f"default: {str(value).lower() if isinstance(value, bool) else value}"


def _documented(kind: type) -> dict[str, str]:
    """What the docstring of a settings class says of each of its fields."""
    text = inspect.cleandoc(kind.__doc__ or "")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).rstrip(".").replace("%", "%%") for name, words in found}
