"""Figures of the third experiment: accuracy against candidates, and a reliability curve."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from softperm.program.neurons.config import METHODS
from softperm.program.reproduce.neurons import columns
from softperm.program.reproduce.neurons_tables import (
    Finished,
    calibrated_folders,
    mean_and_error,
    read_beliefs,
    reliability,
)

_BELIEFS = {"vi": "scores of the bound", "start": "scores of its start"}


def plot_candidates(results: Finished) -> Figure:
    """Accuracy against candidates, one worm and four: ours in full lines, the paper's dashed."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for panel, worms in zip(axes, (1, 4), strict=True):
        mine = [c for c in columns() if c.table == "candidates" and c.settings["worms"] == worms]
        for k, (method, name) in enumerate(METHODS.items()):
            points = [
                (c.settings["candidates"], *mean_and_error(values))
                for c in mine
                if (values := [r["accuracy"] for cell, _, r in results
                               if (cell.column.name, cell.method) == (c.name, method)])
            ]  # fmt: skip
            if points:
                x, y, error = zip(*points, strict=True)
                panel.errorbar(x, y, error, color=f"C{k}", marker="o", ms=3, label=name)
            published = [
                (c.settings["candidates"], c.published[method])
                for c in mine if method in c.published
            ]  # fmt: skip
            if published:
                panel.plot(*zip(*published, strict=True), "--", color=f"C{k}", alpha=0.6)
        panel.set_title(f"{worms} worm{'s' if worms > 1 else ''}; dashed: published", fontsize=10)
        panel.set_xlabel("mean number of candidates")
    axes[0].set_ylabel("share named rightly")
    axes[0].set_ylim(0, 1.05)
    axes[1].legend(fontsize=7, loc="center right")
    return figure


def plot_reliability(out: Path, results: Finished) -> Figure:
    """How often names are right against how sure they are, short recordings."""
    figure = Figure(figsize=(4.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    for kind, name in _BELIEFS.items():
        bins = reliability(read_beliefs(calibrated_folders(out, results), kind))
        axes.plot([b.believed for b in bins], [b.right for b in bins], "o-", ms=3, label=name)
    axes.set_xlabel("confidence of a name")
    axes.set_ylabel("share of such names that are right")
    axes.legend(fontsize=8)
    return figure
