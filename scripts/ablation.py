"""What makes the puzzle network work: short trainings that differ in one setting each.

All have the preset transformer-KxK but for that setting and the number of epochs; the last is the
paper's net, with its own preset.

python scripts/ablation.py [--pieces 3] [--epochs 3] [--data mnist] [--out runs/ablation]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softperm._files import write_text
from softperm.program.reproduce.cells import Cell, Net
from softperm.program.reproduce.runner import Result, run_cell, settings
from softperm.program.reproduce.tables import Grid

_METRICS = {
    "exact": "exact_reconstruction",
    "kendall_tau up to identical": "kendall_tau_up_to_identical",
}
_NO_CONTEXT = "no context: the paper's net"
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tau 0.1": {"tau": 0.1},
    "tau 10": {"tau": 10.0},
    "no noise": {"noise_scale": 0.0},
    "noise 1": {"noise_scale": 1.0},
    "4 samples per step": {"n_samples": 4},
    "3 Sinkhorn iterations": {"n_iters": 3},
    "60 Sinkhorn iterations": {"n_iters": 60},
    "1 layer": {"layers": 1},
    "1 head": {"heads": 1},
    "gamma 1": {"gamma": 1.0},
    "no shifts": {"shift": 0},
    "Adam, learning rate 0.001": {"optimizer": "adam", "lr": 0.001},
}


def variants(pieces: int, epochs: int, data: str) -> list[tuple[str, Cell, dict[str, Any]]]:
    """What is changed, the cell it is a change of, and the settings."""

    def variant(title: str, net: Net, change: dict[str, Any]) -> tuple[str, Cell, dict[str, Any]]:
        return title, Cell("jigsaw", net, pieces, 0), {"epochs": epochs, "data": data, **change}

    ours = [variant(title, "ours", change) for title, change in CHANGES.items()]
    return [*ours, variant(_NO_CONTEXT, "paper", {})]


def table(results: dict[str, Result]) -> Grid:
    """A row a training."""
    rows = [
        [title, *(f"{result.metrics['test'][name]:.4f}" for name in _METRICS.values())]
        for title, result in results.items()
    ]
    return Grid("Settings that were changed, one at a time", ["changed", *_METRICS], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, then print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--out", type=Path, default=Path("runs", "ablation"))
    given = parser.parse_args(arguments)
    results = {}
    for title, cell, changes in variants(given.pieces, given.epochs, given.data):
        folder = given.out / title.replace(" ", "-").replace(":", "").replace(",", "")
        run_cell(cell, folder, settings(cell, changes))
        results[title] = Result.read(folder)
        print(f"{title}: done", flush=True)
    text = table(results).markdown()
    write_text(given.out / "table.md", text)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
