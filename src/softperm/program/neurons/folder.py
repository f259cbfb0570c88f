"""The folder of a run: its settings, what it found, and its pictures."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

import yaml

from softperm._files import remove_leftovers, write_text
from softperm._lock import locked
from softperm.data.worm import Wiring, load_wiring
from softperm.plotting import save
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.infer import Outcome, run
from softperm.program.neurons.pictures import plot_body, plot_sharpening
from softperm.program.neurons.simulation import simulate
from softperm.program.readers import read_json, read_yaml
from softperm.program.schema import build, fit, require_same
from softperm.program.training.folder import CONFIG, begin_run, require_new

_RESULT, _NAMES = "result.json", "names.csv"

Result = dict[str, float]


def read_config(folder: Path) -> NeuronsConfig:
    """The settings of the run in a folder.

    Raises:
        ValueError: the folder holds no run of this task, or a damaged one.
    """
    path = folder / CONFIG
    try:
        return build(NeuronsConfig, read_yaml(path), path)
    except OSError as error:
        raise ValueError(f"{folder} holds no run: cannot read {CONFIG}") from error


def read_result(folder: Path) -> tuple[str, Result] | None:
    """Where the wiring came from and the metrics of a finished run; None before it is finished.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / _RESULT
    if not path.exists():
        return None
    values = read_json(path)
    try:
        if not isinstance(values, dict) or values.keys() != {"wiring", "metrics"}:
            raise TypeError("it must hold wiring and metrics")
        metrics = {name: fit(value, float, name) for name, value in values["metrics"].items()}
        for name in ("accuracy", "seconds", "loss", "loss_of_the_truth"):
            if name not in metrics:
                raise TypeError(f"it must hold {name}")
        return str(values["wiring"]), metrics
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the result of a run: {error}") from error


def _names_table(wiring: Wiring, outcome: Outcome) -> str:
    """A row per cell: its name, the one found, how sure, and whether it is right."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    beliefs = outcome.found.confidence
    head = ["worm", "cell", "name", "found", "known", "right"]
    writer.writerow([*head, *(f"confidence_{kind}" for kind in beliefs)])
    for k, worm in enumerate(outcome.worms):
        found = outcome.found.names[k]
        for cell, (true, name) in enumerate(zip(worm.names.tolist(), found.tolist(), strict=True)):
            words = [wiring.names[i] if i >= 0 else "" for i in (true, name)]
            row = [k, cell, *words, int(worm.known[cell]), int(true == name)]
            writer.writerow([*row, *(f"{belief[k][cell]:.3f}" for belief in beliefs.values())])
    return text.getvalue()


def _write(folder: Path, wiring: Wiring, outcome: Outcome, *, draw: bool) -> None:
    """Write all that a run leaves; the result last, which says that it is finished."""
    write_text(folder / _NAMES, _names_table(wiring, outcome))
    if draw and outcome.found.history:
        save(plot_sharpening(wiring, outcome), folder / "posterior.png")
        save(plot_body(wiring, outcome), folder / "body.png")
    result = {"wiring": wiring.source, "metrics": outcome.metrics}
    write_text(folder / _RESULT, json.dumps(result, indent=2) + "\n")


def run_in(folder: Path, config: NeuronsConfig, *, resume: bool, draw: bool = True) -> bool:
    """Run in a folder, or begin again where an interrupted call left off.

    A run takes seconds to minutes and is a function of its settings, so an interrupted one is done
    from its beginning; a finished one is kept, unless its names are missing.

    Arguments:
        folder: The folder; new or empty without `resume`.
        config: The settings; a folder that holds a run must have the same.
        resume: Whether the folder may hold a run.
        draw: Whether to draw pictures.

    Returns:
        Whether anything was left to do.

    Raises:
        ValueError: the folder holds a run with other settings, or something else, or the settings
            do not fit the wiring.
        Busy: another process is writing to it.
        OSError: something cannot be read or written.
    """
    begun = resume and (folder / CONFIG).exists()
    if begun:
        require_same(asdict(read_config(folder)), asdict(config), folder)
        if read_result(folder) is not None and (folder / _NAMES).exists():
            return False
    else:
        require_new(folder)
    wiring = load_wiring(config.data)
    worms = simulate(wiring, config).worms  # settings that do not fit the wiring are told here
    files = {CONFIG: yaml.safe_dump(asdict(config), sort_keys=False)}
    with locked(folder) if begun else begin_run(folder, files) as lock:
        remove_leftovers(folder)
        outcome = run(worms, wiring, config)
        lock.require_current()
        _write(folder, wiring, outcome, draw=draw)
    return True
