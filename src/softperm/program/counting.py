"""A bar on the terminal while something is counted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_SECONDS_A_REFRESH = 0.1


class PlainConsole(Console):
    """A console that tells its caller when nobody reads it any more."""

    def on_broken_pipe(self) -> NoReturn:
        """Pass the error on; the default ends the process."""
        raise BrokenPipeError("nobody reads the output")


@contextmanager
def counting(label: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar on the terminal while something is counted; it is told how much more was done."""
    columns = (TextColumn(label), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or not sys.stdout.isatty()
    with Progress(
        *columns, console=PlainConsole(), auto_refresh=False, disable=hidden, transient=True
    ) as progress:
        line = progress.add_task("", total=total)
        drawn = -_SECONDS_A_REFRESH

        def advance(number: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            due = now - drawn >= _SECONDS_A_REFRESH
            progress.update(line, advance=number, refresh=due)
            drawn = now if due else drawn

        yield advance
