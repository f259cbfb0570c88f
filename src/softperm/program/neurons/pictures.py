"""Pictures: soft names getting sharper, and the body with its names."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from softperm.data.worm import Wiring
from softperm.program.neurons.infer import Outcome

_PANELS = 5
_CROWDED = 40  # neurons whose names can be read in one picture


def plot_sharpening(wiring: Wiring, outcome: Outcome) -> Figure:
    """Soft names of the first worm from the first step to the last.

    Rows are the cells in the order of their true names, columns the names, both from head to tail:
    when all are right, the matrix is the identity.

    Arguments:
        wiring: The wiring.
        outcome: A run of vi or start.
    """
    history, worm = outcome.found.history, outcome.worms[0]
    columns = wiring.position.argsort(stable=True)
    place = columns.argsort()
    keys = torch.where(worm.names >= 0, place[worm.names], len(columns))
    rows = keys.argsort(stable=True)
    steps = _moments(len(history))
    figure = Figure(figsize=(2.4 * len(steps), 2.9), layout="compressed")
    for axes, step in zip(figure.subplots(1, len(steps), squeeze=False)[0], steps, strict=True):
        kind, soft = history[step]
        image = soft[rows][:, columns].clamp_min(1e-3).log10()
        axes.imshow(image.numpy(), cmap="magma", vmin=-3, vmax=0, interpolation="nearest")
        label = "bound" if kind == "vi" else "annealing"
        axes.set_title(f"{label}, step {step}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.supxlabel("name, from head to tail", fontsize=9)
    figure.supylabel("cell", fontsize=9)
    return figure


def _moments(steps: int) -> list[int]:
    """The steps to draw: the first, the last, and some of the time in which names are found."""
    chosen = [0, round(0.15 * steps), round(0.3 * steps), round(0.5 * steps), steps - 1]
    return sorted({min(step, steps - 1) for step in chosen[:_PANELS]})


def plot_body(wiring: Wiring, outcome: Outcome) -> Figure:
    """The cells of the first worm along the body, coloured by how sure their names are.

    Wrong names are crossed out and written out.

    Arguments:
        wiring: The wiring.
        outcome: A run of vi or start.
    """
    worm, names = outcome.worms[0], outcome.found.names[0]
    sure = next(iter(outcome.found.confidence.values()))[0]
    cells = (worm.names >= 0).nonzero().flatten()
    x = wiring.position[worm.names[cells]]
    y = _heights(x)
    wrong = names[cells] != worm.names[cells]
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    axes = figure.subplots()
    right = axes.scatter(
        x[~wrong], y[~wrong], c=sure[cells][~wrong], cmap="viridis", vmin=0, vmax=1, s=16
    )
    axes.scatter(
        x[wrong], y[wrong], c=sure[cells][wrong], cmap="viridis", vmin=0, vmax=1, s=30, marker="X",
        edgecolors="red", linewidths=0.6,
    )  # fmt: skip
    for k in wrong.nonzero().flatten()[:_CROWDED].tolist():
        text = wiring.names[int(names[cells][k])] if names[cells][k] >= 0 else "none"
        axes.annotate(text, (float(x[k]), float(y[k])), fontsize=6, xytext=(2, 2),
                      textcoords="offset points")  # fmt: skip
    figure.colorbar(right, ax=axes, label="confidence", pad=0.01)
    axes.set_xlabel("position along the body, from head to tail")
    axes.set_yticks([])
    axes.set_title(
        f"{int((~wrong).sum())} of {len(cells)} neurons named rightly; crosses are wrong names",
        fontsize=10,
    )
    return figure


def _heights(x: Tensor) -> Tensor:
    """Heights that stack cells of one position, upwards and downwards in turn."""
    seen: dict[float, int] = {}
    heights = []
    for value in x.tolist():
        k = seen.get(value, 0)
        seen[value] = k + 1
        heights.append((k + 1) // 2 * (1.0 if k % 2 else -1.0))
    return torch.tensor(heights)
