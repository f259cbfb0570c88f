"""The commands `softperm train neurons` and `softperm reproduce neurons`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softperm.program import report
from softperm.program.counting import PlainConsole
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.folder import read_result, run_in
from softperm.program.reproduce.neurons_command import reproduce_neurons


def train(task: str, settings: tuple[NeuronsConfig], out: Path, resume: bool = False) -> int:
    """Simulate worms, infer their names, and print the metrics.

    Arguments:
        task: "neurons".
        settings: Its settings.
        out: The folder of the run.
        resume: Finish the run that is there.

    Returns:
        The exit code.
    """
    run_in(out, *settings, resume=resume)
    result = read_result(out)
    if result is None:
        raise FileNotFoundError(f"{out} was removed or replaced while it was in use")
    source, metrics = result
    print(f"wiring: {source}")
    PlainConsole().print(report.metrics_table(metrics))
    for path in sorted(out.glob("*.png")):
        print(f"wrote {path}")
    print(report.metrics_line(metrics))
    return 0


def reproduce(table: str, **options: Any) -> int:
    """Run the cells of the tables of worms' neurons; see `reproduce_neurons`."""
    return reproduce_neurons(**options)
