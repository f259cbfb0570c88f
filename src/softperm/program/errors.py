"""The one place where errors become a line and an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from io import TextIOWrapper
from pathlib import Path

from softperm._lock import Busy
from softperm.program.schema import shorten
from softperm.program.training.signals import (
    TERMINAL_GONE,
    Interrupted,
    handling,
    ignore_all,
    interrupt,
)

_LONGEST = 600
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_NO_READER = (errno.EPIPE, errno.EIO, errno.ESHUTDOWN)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_OF_A_DEVICE = ("CUDA", "cuDNN", "CUBLAS", "MPS", "HIP")


class Code(IntEnum):
    """Exit codes; one above 128 is 128 + the signal that asked to stop."""

    DONE = 0
    BAD_INPUT = 1
    BAD_ARGUMENTS = 2
    NO_ROOM = 3
    BUSY = 4
    UNEXPECTED = 70


def guarded(work: Callable[[], int]) -> int:
    """Do the work of a command; an error is told in one line.

    Arguments:
        work: The work, which returns the exit code.

    Returns:
        Its exit code, or that of the error.
    """
    try:
        with handling(interrupt):
            try:
                return work()
            except BaseException as error:
                ignore_all()  # until the line is written
                if isinstance(error, SystemExit | GeneratorExit):
                    raise
                return _tell(error)
    except KeyboardInterrupt as error:  # between the two lines above
        return _tell(error)


def _tell(error: BaseException) -> int:
    """Write the line, where anybody reads it, and give the exit code."""
    message, code = _explain(error)
    if getattr(error, "told", False):
        return code
    with suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(f"softperm: error: {shorten(message, _LONGEST)}", file=sys.stderr, flush=True)
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    """What an error means to the user."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        signum = error.signum if isinstance(error, Interrupted) else 2
        return "interrupted", 128 + signum
    if isinstance(error, argparse.ArgumentError):
        return text, Code.BAD_ARGUMENTS
    if isinstance(error, Busy):
        return text, Code.BUSY
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed: {_how_to_install(error.name)}", Code.BAD_INPUT
    if isinstance(error, OSError):
        return _explain_system(error, text)
    if isinstance(error, MemoryError | RuntimeError):
        first = text.splitlines()[0]
        if isinstance(error, MemoryError) or any(w in text.lower() for w in _OUT_OF_MEMORY):
            return f"there is not enough memory: {first}", Code.NO_ROOM
        if "DataLoader worker" in text:
            return f"a worker was killed, perhaps for want of memory: {first}", Code.NO_ROOM
        if any(name in text for name in _OF_A_DEVICE):
            return f"the device failed: {first}", Code.NO_ROOM
    if isinstance(error, ValueError | TypeError):
        return text, Code.BAD_INPUT
    return _report(error), Code.UNEXPECTED


def _how_to_install(module: str) -> str:
    extra = "app" if module == "gradio" else "train"
    return f"pip install '.[{extra}]', in the clone of softperm, brings what is needed"


def _explain_system(error: OSError, text: str) -> tuple[str, int]:
    """What an error of the system means."""
    if error.errno in _NO_ROOM:
        return f"there is no room on the disk: {text}", Code.NO_ROOM
    if error.errno in _NO_READER or isinstance(error, BrokenPipeError):
        return "nobody reads the output", 128 + TERMINAL_GONE
    if error.errno == errno.ENOMEM:
        return f"there is not enough memory: {text}", Code.NO_ROOM
    return text, Code.BAD_INPUT


def _report(error: BaseException) -> str:
    """A line that asks for a report, with the traceback in a file."""
    what = f"unexpected {type(error).__name__}: {shorten(str(error))}"
    try:
        handle, name = tempfile.mkstemp(prefix="softperm-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return f"{what}; please report it"
    return f"{what}; please report it, with {Path(name)}"


def show_every_name() -> None:
    """Let names of files be written that hold what a terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Let the interpreter end in peace: nothing breaks it off, and what nobody reads is dropped."""
    ignore_all()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
