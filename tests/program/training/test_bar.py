"""What a training shows, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from softperm.nn import SinkhornNet
from softperm.program.counting import counting
from softperm.program.tasks.base import WHOLE, Part, Watch
from softperm.program.training import trainer
from softperm.program.training.launch import LaunchConfig
from softperm.program.training.loop import train
from softperm.program.training.run import Run
from tests.program.training.test_loop import CONFIG, ToyTask

EPOCH = re.compile(
    r"epoch (\d)/3  loss [\d.e-]+  kendall_tau 0\.2500  exact_reconstruction 0\.5000  \d+ s"
)


class MeasuredTask(ToyTask):
    """One with metrics as long as those of a puzzle."""

    def evaluate(
        self,
        net: SinkhornNet,
        device: torch.device,
        *,
        watch: Watch | None = None,
        part: Part = WHOLE,
    ) -> dict[str, float]:
        return {"kendall_tau": 0.25, "prop_any_wrong": 0.5, "exact_reconstruction": 0.5}


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Where everything is written to from now on."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert isinstance(sys.stdout, Terminal)
    return sys.stdout


def plain(text: str) -> list[str]:
    """The lines of a text, drawn over or not, without colours and movements of the cursor."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text))


def test_elsewhere_there_is_a_line_an_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(MeasuredTask(), CONFIG, Run(tmp_path / "run"))
    text = capsys.readouterr().out
    title, *epochs = text.splitlines()
    assert title == "training on cpu: three numbers, toy net of 23 parameters"
    found = [EPOCH.fullmatch(line) for line in epochs]
    assert [match and match[1] for match in found] == ["1", "2", "3"]
    assert text.replace("\n", "").isprintable()


STEP = re.compile(r"epoch (\d)/3  step (\d)/5  loss [\d.e-]+  [\d,]+/s")


def steps_told(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    found = [STEP.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    return [(match[1], match[2]) for match in found if match]


def test_log_every_gives_lines_within_an_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(MeasuredTask(), CONFIG, Run(tmp_path / "run"), launch=LaunchConfig(log_every=2))
    assert steps_told(capsys) == [(epoch, step) for epoch in "123" for step in "24"]


def test_without_log_every_there_is_a_line_every_few_minutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = iter(range(1000))  # the clock of the display goes a minute ahead at every look
    monkeypatch.setattr(time, "monotonic", lambda: 60.0 * next(minutes))
    monkeypatch.setattr(trainer, "_STEPS_A_REFRESH", 1)
    train(MeasuredTask(), CONFIG, Run(tmp_path / "run"))
    assert steps_told(capsys) == [("1", "4"), ("2", "4"), ("3", "4")]


def test_on_a_terminal_the_line_fits_and_tells_of_the_last_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = on_a_terminal(monkeypatch)
    train(MeasuredTask(), CONFIG, Run(tmp_path / "run"))
    lines = plain(terminal.getvalue())
    assert max(map(len, lines)) <= 80
    assert [match[1] for line in lines if (match := EPOCH.fullmatch(line.strip()))] == [
        "1",
        "2",
        "3",
    ]
    bars = [line for line in lines if "5/5" in line]
    assert any("kendall_tau 0.2500" in line for line in bars)


def test_counting_shows_how_much_is_done_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_a_terminal(monkeypatch)
    with counting("testing", 10) as advance:
        advance(4)
    assert "testing" in terminal.getvalue()
    assert "4/10" in terminal.getvalue()
    monkeypatch.setattr(sys, "stdout", other := io.StringIO())
    with counting("testing", 10) as advance:
        advance(4)
    assert other.getvalue() == ""
