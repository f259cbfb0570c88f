"""Every error becomes a line and an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from softperm._lock import Busy
from softperm.program.errors import guarded
from softperm.program.training.signals import Interrupted
from tests.program.support import error_line


def outcome(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def work() -> int:
        raise error

    code = guarded(work)
    text = error_line(capsys)
    assert len(text) < 700
    return code, text


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("tau must be positive"), 1, "tau must be positive"),
        (ValueError("x" * 10_000), 1, "x ... x"),
        (ValueError("two\nlines"), 1, "two lines"),
        (TypeError("n must be an int"), 1, "n must be an int"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.png"), 1, "x.png"),
        (PermissionError(errno.EACCES, "Permission denied", "run"), 1, "run"),
        (ModuleNotFoundError("no", name="safetensors"), 1, "pip install '.[train]'"),
        (argparse.ArgumentError(None, "unrecognized arguments"), 2, "unrecognized"),
        (OSError(errno.ENOSPC, "No space left", "run/x"), 3, "no room on the disk"),
        (OSError(errno.EFBIG, "File too large", "run/x"), 3, "no room on the disk"),
        (MemoryError(), 3, "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate"), 3, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 TB"), 3, "enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 3, "not enough memory"),
        (RuntimeError("CUDA error: unspecified launch failure"), 3, "the device failed"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), 3, "worker was killed"),
        (Busy("run is in use by process 7"), 4, "in use by process 7"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(signal.SIGTERM), 143, "interrupted"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, "nobody reads"),
        (OSError(errno.EIO, "Input/output error"), 141, "nobody reads"),
    ],
)
def test_expected_errors(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, text = outcome(error, capsys)
    assert (found, words in text) == (code, True), text


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("two\nlines"), ZeroDivisionError()])
def test_what_nobody_expected_asks_for_a_report(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, text = outcome(error, capsys)
    assert code == 70
    path = next(tmp_path.iterdir())
    assert text.endswith(f"; please report it, with {path}\n")
    assert f"unexpected {type(error).__name__}" in text
    assert "raise error" in path.read_text()


def test_where_no_traceback_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    code, text = outcome(KeyError("x"), capsys)
    assert (code, text.endswith("; please report it\n")) == (70, True)


def test_nobody_reads_the_line_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> int:
        raise ValueError("x")

    with open(os.devnull) as closed:
        monkeypatch.setattr(sys, "stderr", closed)  # open for reading alone
    assert guarded(work) == 1


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_in_a_line_and_handlers_are_restored(
    sig: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]

    def work() -> int:
        os.kill(os.getpid(), sig)
        raise AssertionError("the signal was lost")

    assert guarded(work) == 128 + sig
    assert capsys.readouterr().err == "softperm: error: interrupted\n"
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_help_ends_as_it_likes() -> None:
    def work() -> int:
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        guarded(work)
