"""Pictures: puzzles, permutation matrices and training curves.

Figures are made without pyplot, so nothing here changes the caller's matplotlib state.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from softperm._files import replacing
from softperm.ops import matching, sinkhorn
from softperm.permutations import permutation_matrix

__all__ = ["plot_curves", "plot_puzzles", "plot_temperatures", "save"]

DPI = 120  # of the figures that are written


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, in one step, and return its path."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path


def _pixels(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A uint8 image (C, H, W) as matplotlib wants it, always in three channels."""
    array = image.cpu().permute(1, 2, 0).numpy()
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array


def _draw_image(axes: Axes, image: Tensor, k: int | None) -> None:
    """One image without ticks; with `k` its k x k pieces are set apart by thin lines."""
    height, width = image.shape[-2:]
    axes.imshow(_pixels(image), extent=(0, width, height, 0), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for i in range(1, k or 1):
        axes.axvline(i * width / (k or 1), color="tab:orange", linewidth=0.8)
        axes.axhline(i * height / (k or 1), color="tab:orange", linewidth=0.8)


def plot_puzzles(
    columns: dict[str, Tensor],
    k: int,
    wrong: list[int] | None = None,
    captions: list[str] | None = None,
) -> Figure:
    r"""Draw images in columns, such as original, scrambled and restored: one row per puzzle.

    Arguments:
        columns: Title of every column and its images, uint8, shape (B, C, H, W) each. The column
            called "scrambled" gets lines between the pieces.
        k: Pieces per side.
        wrong: Wrong pieces in every row, written below it.
        captions: What to write below every row instead.

    Returns:
        The figure.

    Example:
        >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> len(plot_puzzles({"original": images, "restored": images}, k=2).axes)
        4
    """
    rows = len(next(iter(columns.values())))
    figure = Figure(figsize=(1.5 * len(columns) + 0.4, 1.5 * rows + 0.4), layout="compressed")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for j, (title, images) in enumerate(columns.items()):
        grid[0, j].set_title(title, fontsize=10)
        for i in range(rows):
            _draw_image(grid[i, j], images[i], k if title == "scrambled" else None)
    if captions is None:
        captions = [f"{count} wrong" if count else "exact" for count in wrong or []]
    for i, caption in enumerate(captions):
        grid[i, -1].set_xlabel(caption, fontsize=8)
    return figure


def plot_temperatures(
    log_alpha: Tensor, taus: tuple[float, ...] = (10.0, 1.0, 0.3, 0.1), n_iters: int = 50
) -> Figure:
    r"""Draw S(log_alpha / tau) at falling temperatures, and the matching beside it.

    Arguments:
        log_alpha: One score matrix, floating, shape (n, n).
        taus: Temperatures, from left to right.
        n_iters: Sinkhorn iterations.

    Returns:
        The figure.

    Example:
        >>> len(plot_temperatures(torch.eye(3), taus=(1.0, 0.1)).axes)  # with the colour bar
        4
    """
    log_alpha = log_alpha.detach().float().cpu()
    panels = {f"tau = {tau:g}": sinkhorn(log_alpha, tau, n_iters) for tau in taus}
    panels["matching"] = permutation_matrix(matching(log_alpha))
    figure = Figure(figsize=(1.7 * len(panels) + 0.8, 2.3), layout="compressed")
    for axes, (title, matrix) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        image = axes.imshow(matrix.numpy(), vmin=0, vmax=1, cmap="viridis")
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("position", fontsize=8)
    figure.axes[0].set_ylabel("item", fontsize=8)
    figure.colorbar(image, ax=figure.axes, shrink=0.7, label="probability")
    return figure


def plot_curves(rows: list[dict[str, float]]) -> Figure:
    """Draw training loss and test errors against epochs.

    Arguments:
        rows: One row per epoch, with the columns "epoch", "loss", "kendall_tau", "prop_wrong" and
            "prop_any_wrong".

    Returns:
        The figure.

    Example:
        >>> row = {"epoch": 1, "loss": 2.0, "kendall_tau": 0.9, "prop_wrong": 0.1}
        >>> row["prop_any_wrong"] = 0.2
        >>> len(plot_curves([row]).axes)
        2
    """
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    losses = [row["loss"] for row in rows]
    left.plot(epochs, losses, marker=".", color="tab:gray")
    left.set(title="training loss", xlabel="epoch")
    if any(loss > 0 for loss in losses):  # a logarithmic axis has no room for 0 alone
        left.set_yscale("log")
    errors = {
        "prop_any_wrong": [row["prop_any_wrong"] for row in rows],
        "prop_wrong": [row["prop_wrong"] for row in rows],
        "1 - kendall_tau": [1 - row["kendall_tau"] for row in rows],
    }
    for name, values in errors.items():
        right.plot(epochs, values, marker=".", label=name)
    right.set(title="errors on the test set", xlabel="epoch")
    right.set_yscale("symlog", linthresh=1e-4)  # logarithmic, but with room for 0
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
