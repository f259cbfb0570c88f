"""Train and measure the cells of a table; what is finished is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from softperm._files import write_text
from softperm._lock import Lock
from softperm.nn import SinkhornNet
from softperm.program import report
from softperm.program.presets import preset_file
from softperm.program.readers import read_json, read_yaml
from softperm.program.reproduce.cells import METRICS, Cell, Table
from softperm.program.schema import build, check
from softperm.program.settings import CONFIGS, JigsawConfig, SortingConfig
from softperm.program.tasks import Jigsaw, Sorting, Task
from softperm.program.training.config import TrainConfig, pick_device
from softperm.program.training.loop import train
from softperm.program.training.run import TASKS, Run

_RESULT = "result.json"
_QUICK_LISTS = {"train_lists": 1000, "test_lists": 100}

Settings = tuple[JigsawConfig | SortingConfig, TrainConfig]


@dataclass(frozen=True)
class Result:
    """What a finished cell measured.

    Arguments:
        cell: The cell.
        data: A jigsaw's data set; empty for sorting.
        epochs: Epochs of training.
        seconds: Seconds spent on training steps.
        metrics: Every metric over the whole test set, by test set: "test" for jigsaws, the
            interval for sorting, such as "U(10, 11)".
    """

    cell: Cell
    data: str
    epochs: int
    seconds: float
    metrics: dict[str, dict[str, float]]

    def write(self, folder: Path) -> None:
        """Write it to the cell's run folder."""
        write_text(folder / _RESULT, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def read(folder: Path) -> Result:
        """Read what `write` wrote to the folder.

        Raises:
            ValueError: the file is damaged.
        """
        path = folder / _RESULT
        try:
            values = read_json(path)
            if not isinstance(values, dict):
                raise TypeError(f"it holds a {type(values).__name__}")
            cell = build(Cell, values.pop("cell"), "its cell")
            metrics = values.pop("metrics")
            for test in metrics.values():
                _require_metrics(cell.table, test)
            return Result(cell=cell, metrics=metrics, **check(values, "it", Result))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not the result of a cell: {error}") from error


def _require_metrics(table: Table, metrics: dict[str, float]) -> None:
    """Refuse a measurement without the metrics of its table."""
    for name in METRICS[table]:
        if not isinstance(metrics[name], float):
            raise TypeError(f"{name} is {metrics[name]!r}")


def settings(cell: Cell, changes: dict[str, Any], *, quick: bool = False) -> Settings:
    """The cell's preset with some settings changed.

    Arguments:
        cell: The cell.
        changes: Settings that win over the preset.
        quick: Train for one epoch, and on fewer lists.

    Raises:
        ValueError: the preset does not exist or has an unknown setting.
    """
    config_class = CONFIGS[cell.table]
    path = preset_file(cell.table, cell.preset)
    values = check(read_yaml(path), path, config_class, TrainConfig)
    values.update(changes, seed=cell.seed)
    names = {field.name for field in fields(config_class)}
    task_config = config_class(**{k: v for k, v in values.items() if k in names})
    config = TrainConfig(**{k: v for k, v in values.items() if k not in names})
    return _quick(task_config, config) if quick else (task_config, config)


def _quick(task_config: JigsawConfig | SortingConfig, config: TrainConfig) -> Settings:
    """The same network and learning rate, over in seconds."""
    short = TrainConfig(**{**asdict(config), "epochs": 1})
    if isinstance(task_config, JigsawConfig):
        return task_config, short
    given = asdict(task_config)
    fewer = {name: min(given[name], most) for name, most in _QUICK_LISTS.items()}
    return SortingConfig(**{**given, **fewer}), short


def _measure(
    cell: Cell, task: Task, net: SinkhornNet, device: torch.device
) -> dict[str, dict[str, float]]:
    """Every metric on every test set of the cell."""
    if isinstance(task, Sorting):
        return {
            f"U({low:g}, {high:g})": task.evaluate(net, device, (low, high))
            for low, high in cell.intervals
        }
    return {"test": task.evaluate(net, device)}


def _finish(cell: Cell, task: Task, run: Run, config: TrainConfig) -> Result:
    """Measure a trained cell, draw its pictures, and keep the result."""
    net = run.load_net(task.make_net)
    device = pick_device(config.device)
    net.to(device)
    result = Result(
        cell,
        task.config.data if isinstance(task, Jigsaw) else "",
        config.epochs,
        sum(row["seconds"] for row in run.read_metrics("seconds")),
        _measure(cell, task, net, device),
    )
    report.draw(task, net, device, run)
    result.write(run.folder)
    return result


def run_cell(cell: Cell, folder: Path, chosen: Settings) -> Result | None:
    """Train and measure a cell, or go on with what an interrupted call left of it.

    Arguments:
        cell: The cell.
        folder: Its run folder.
        chosen: Its settings.

    Returns:
        What it measured; None where an earlier call had finished it.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C or a termination request came; the run is saved.
    """
    run = Run(folder)
    task_config, config = chosen
    begun = run.config_file.exists()
    if begun:
        run.require_settings({**asdict(task_config), **asdict(config)})
        if (folder / _RESULT).exists():
            return None
    else:
        run.require_new()
    task: Task = run.load_task() if begun else TASKS[cell.table](task_config)  # type: ignore[arg-type]

    def create() -> AbstractContextManager[Lock]:
        return run.create(cell.table, task, task_config, config)

    train(task, config, run, resume=begun, create=None if begun else create)
    return _finish(cell, task, run, config)


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    changes: dict[str, Any],
    *,
    quick: bool = False,
    finished: Callable[[Cell, Result | None], None],
) -> None:
    """Run cells one after the other.

    Arguments:
        cells: The cells; all of their settings are checked before the first is trained.
        out: The folder of their run folders.
        changes: Settings that win over those of the presets.
        quick: One epoch each.
        finished: Called after every cell, as `run_cell` returned.

    Raises:
        ValueError, Stopped: as `run_cell`.
    """
    chosen = {cell: settings(cell, changes, quick=quick) for cell in cells}
    for cell in cells:
        finished(cell, run_cell(cell, out / cell.name, chosen[cell]))


def read_results(out: Path) -> list[Result]:
    """The results of all finished cells in a folder, whichever call finished them."""
    results = [Result.read(path.parent) for path in sorted(out.glob(f"*/{_RESULT}"))]
    return sorted(results, key=lambda r: (r.cell.size, r.cell.net != "paper", r.cell.seed))
