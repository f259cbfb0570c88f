"""What training and evaluation show: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from softperm.program.counting import PlainConsole
from softperm.program.training.signals import TERMINAL_GONE, Stop

_SECONDS_A_REFRESH = 0.1
_SECONDS_A_LINE = 180.0
_SHOWN = ("kendall_tau", "exact_reconstruction", "prop_any_wrong")  # the first two that a task has


class Display:
    """What a training shows; where nobody can see it any more, a request to stop.

    On a terminal epoch, steps, loss, the last test and speed in a line; after every epoch, there
    and elsewhere, a line of plain text; elsewhere some within an epoch, too. It is drawn by the
    training loop and no thread, so that all errors come up there.

    Arguments:
        stop: Is asked to stop where nobody reads what is shown.
        log_every: Steps between the lines within an epoch; omitted, one every three minutes.
        hidden: Show nothing at all.
    """

    def __init__(self, stop: Stop, log_every: int | None = None, hidden: bool = False) -> None:
        self._stop, self._log_every, self._hidden = stop, log_every, hidden
        self._drawn = 0.0
        self._told = time.monotonic()
        self._label, self._steps = "", 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn(
                "loss {task.fields[loss]:.4g}{task.fields[test]}  {task.fields[rate]:,.0f}/s"
            ),
            TimeRemainingColumn(),
            console=PlainConsole(),
            auto_refresh=False,
            disable=hidden or not sys.stdout.isatty(),
            expand=True,
        )
        self._line = self._progress.add_task("", total=None, loss=float("nan"), rate=0.0, test="")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._stop.request(TERMINAL_GONE)

    def _say(self, line: str) -> None:
        """Write a line of plain text."""
        if not self._hidden:
            with self._writing():
                print(line, flush=True)

    def start(self, title: str) -> None:
        """Say what is trained, and show the line."""
        self._say(title)
        with self._writing():
            self._progress.start()

    def close(self) -> None:
        """Leave the line as it is."""
        with self._writing():
            self._progress.stop()

    def begin_epoch(self, label: str, steps: int, done: int) -> None:
        """Begin anew with an epoch of which some steps are done."""
        self._label, self._steps = label, steps
        with self._writing():
            self._progress.reset(self._line, description=label, total=steps, completed=done)

    def wants(self, done: int) -> bool:
        """Whether it must be told of the state after so many steps of an epoch."""
        return self._log_every is not None and done % self._log_every == 0

    def update(self, done: int, loss: float, rate: float) -> None:
        """Show the steps done, the mean loss and the examples per second."""
        if self._progress.disable:
            self._tell(done, loss, rate)
            return
        self._progress.update(self._line, completed=done, loss=loss, rate=rate)
        if time.monotonic() - self._drawn > _SECONDS_A_REFRESH:
            self._drawn = time.monotonic()
            with self._writing():
                self._progress.refresh()

    def _tell(self, done: int, loss: float, rate: float) -> None:
        """A line of plain text within an epoch, where it is time for one."""
        if self._log_every is None:
            due = time.monotonic() - self._told > _SECONDS_A_LINE
        else:
            due = self.wants(done)
        if due and done < self._steps:  # its end has a line of its own
            self._told = time.monotonic()
            self._say(f"{self._label}  step {done}/{self._steps}  loss {loss:.4g}  {rate:,.0f}/s")

    def end_epoch(self, label: str, row: Mapping[str, float]) -> None:
        """Write what an epoch came to."""
        shown = [f"{name} {row[name]:.4f}" for name in _SHOWN if name in row][:2]
        self._progress.update(self._line, test=f"  {shown[0]}" if shown else "")
        line = "  ".join([label, f"loss {row['loss']:.4g}", *shown, f"{row['seconds']:.0f} s"])
        self._told = time.monotonic()
        if self._progress.disable:
            self._say(line)
            return
        with self._writing():
            self._progress.console.print(line, highlight=False)


@contextmanager
def display(
    stop: Stop, title: str, log_every: int | None = None, *, hidden: bool = False
) -> Iterator[Display]:
    """What a training shows, until it ends; arguments as in `Display`."""
    shown = Display(stop, log_every, hidden)
    shown.start(title)
    try:
        yield shown
    finally:
        shown.close()
