"""Figures of the third experiment: accuracy against candidates, and a reliability curve."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softperm.program.neurons.config import METHODS, Method
from softperm.program.reproduce.neurons_columns import Column, columns
from softperm.program.reproduce.neurons_tables import (
    BELIEFS,
    Finished,
    accuracies,
    calibrated_folders,
    mean_and_error,
    read_beliefs,
    reliability,
)


def _draw_method(axes: Axes, results: Finished, mine: list[Column], method: Method) -> None:
    """Our figures of a method with their errors, and the published ones."""
    order = list(METHODS).index(method)
    colour, size = f"C{order}", 3 if order else 7  # what lies on top of the first does not hide it
    points = []
    for column in mine:
        values = accuracies(results, column, method)
        if values:
            points.append((column.settings["candidates"], *mean_and_error(values)))
    if points:
        x, y, error = zip(*points, strict=True)
        axes.errorbar(x, y, error, color=colour, marker="o", ms=size, label=METHODS[method])
    published = [
        (c.settings["candidates"], c.published[method]) for c in mine if method in c.published
    ]
    if published:
        axes.plot(*zip(*published, strict=True), "--", color=colour, alpha=0.6)


def plot_candidates(results: Finished) -> Figure:
    """Accuracy against candidates, one worm and four: ours in full lines, the paper's dashed."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for panel, worms in zip(axes, (1, 4), strict=True):
        mine = [c for c in columns() if c.table == "candidates" and c.settings["worms"] == worms]
        for method in METHODS:
            _draw_method(panel, results, mine, method)
        panel.set_title(f"{worms} worm{'s' if worms > 1 else ''}; dashed: published", fontsize=10)
        panel.set_xlabel("mean number of candidates")
    axes[0].set_ylabel("share named rightly")
    axes[0].set_ylim(0, 1.05)
    drawn = {
        name: line
        for panel in axes
        for line, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(drawn.values(), drawn.keys(), loc="outside right upper", fontsize=8)
    return figure


def plot_reliability(out: Path, results: Finished) -> Figure:
    """How often names are right against how sure they are, short recordings."""
    figure = Figure(figsize=(4.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    for kind, name in BELIEFS.items():
        bins = reliability(read_beliefs(calibrated_folders(out, results), kind))
        axes.plot([b.believed for b in bins], [b.right for b in bins], "o-", ms=3, label=name)
    axes.set_xlabel("confidence of a name")
    axes.set_ylabel("share of such names that are right")
    axes.legend(fontsize=8)
    return figure
