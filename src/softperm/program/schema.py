"""What is read from files, checked where it is read.

The schema is the settings classes themselves: the names and types of their fields, and the ranges
that they check when they are made.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_LONGEST = 200  # of what a message repeats
_LARGEST = 1e308  # of a number, in magnitude: just below infinity
_ARTICLES = {int: "an int", float: "a number", str: "a text", bool: "true or false"}


def shorten(text: str, most: int = _LONGEST) -> str:
    """A text in one line, its middle left out where it is long."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    tail = most // 3
    return f"{line[: most - tail - 5]} ... {line[-tail:]}"


def require_within(value: object, name: str, low: float, high: float) -> None:
    """Refuse everything but a number from low to high; with ints as ends, an int.

    Raises:
        TypeError, ValueError: it is none, or out of range.
    """
    kind = int if isinstance(low, int) and isinstance(high, int) else float
    number = fit(value, kind, name)
    if not low <= number <= high:
        raise ValueError(
            f"{name} must be between {low:g} and {high:g}, got {shorten(str(number), 40)}"
        )


def require_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse settings with a field outside its range, as `require_within` does.

    Raises:
        TypeError, ValueError: a field is no number, or out of range.
    """
    for name, (low, high) in ranges.items():
        require_within(getattr(settings, name), name, low, high)


def require_same(stored: dict[str, Any], given: dict[str, Any], folder: Path) -> None:
    """Refuse other settings than the run in a folder began with.

    Raises:
        ValueError: one of those given differs.
    """
    for name, value in given.items():
        if stored[name] != value:
            raise ValueError(
                f"a resumed run keeps its settings: {name} was {stored[name]} in {folder}, got "
                f"{shorten(str(value), 60)}"
            )


def _kind(hint: object) -> str:
    """A type, in words."""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of numbers"
    return _ARTICLES[hint]  # type: ignore[index]


def fit(value: Any, hint: Any, name: str, wanted: str | None = None) -> Any:
    """The value as its type asks: a float for an int where one is meant, a tuple for a list.

    Arguments:
        value: The value.
        hint: Its type.
        name: What to call it in a message.
        wanted: What to call the type; by itself when omitted.

    Raises:
        TypeError, ValueError: it is of another type, or no finite number.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [part for part in args if part is not type(None)]
        if any(get_origin(part) is Literal and value in get_args(part) for part in kinds):
            return value
        return fit(value, kinds[0], name, " or ".join(map(_kind, kinds)))
    if origin is Literal:
        fits = isinstance(value, str) and value in args
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(fit(part, args[0], name) for part in value)
        fits = False
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if fits and not abs(value) <= _LARGEST:
            raise ValueError(f"{name} must be a finite number, got {shorten(str(value), 60)}")
        value = float(value) if fits else value
    else:
        fits = type(value) is hint
    if not fits:
        got = shorten(repr(value), 60)
        raise TypeError(f"{name} must be {wanted or _kind(hint)}, got {got}")
    return value


def from_text(text: str, hint: Any, name: str) -> Any:
    """The value of a type that a text on the command line means.

    Raises:
        TypeError, ValueError: it means none.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    value: Any = text
    if type(None) in kinds and text in ("null", "none"):
        value = None
    elif bool in kinds:
        value = {"true": True, "false": False}.get(text.lower(), text)
    else:
        for kind in {int, float}.intersection(kinds):
            with suppress(ValueError):
                value = kind(text)
    return fit(value, hint, name)


def check(values: object, source: object, *kinds: type) -> dict[str, Any]:
    """Settings by name, each a field of one of the classes and of its type.

    Arguments:
        values: What was read.
        source: Where from, for messages.
        kinds: The settings classes.

    Raises:
        ValueError: there are other names, or a value is of another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{source} must hold settings by name, got {type(values).__name__}")
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    for name in values:
        if name not in hints:
            what = kinds[0].__name__.removesuffix("Config").lower()
            got = shorten(str(name), 60)
            raise ValueError(f"{source} must hold settings of {what}, got {got}")
    try:
        return {name: fit(value, hints[name], name) for name, value in values.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error


def build(kind: type[T], values: object, source: object) -> T:
    """A settings object of what was read; what is not there has its default.

    Raises:
        ValueError: a name is unknown or missing, or a value is of another type or out of range.
    """
    given = check(values, source, kind)
    for field in fields(kind):  # type: ignore[arg-type]
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and field.name not in given:
            raise ValueError(f"{source} must hold {field.name}")
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error
