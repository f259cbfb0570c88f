"""Draw the picture of the README: puzzles scrambled and restored, and a matrix that sharpens.

python scripts/readme_picture.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from softperm import apply_permutation, sinkhorn
from softperm._files import replacing
from softperm.data import load_digits
from softperm.nn import load_pretrained
from softperm.puzzles import assemble, scramble

PICTURE = Path(__file__).parents[1] / "docs" / "softperm.png"
_NET = "mnist-3x3"
_DIGITS = (6, 17, 28, 20, 11, 3)  # of the test digits: six that look unlike one another
_TAUS = (100.0, 30.0, 15.0, 8.0, 4.0, 1.0)
_GREY = "#808890"  # read as well on white as on black
_LINE = "#f0883e"


def _draw(axes: Axes, image: Tensor, cmap: str, highest: float, k: int | None = None) -> None:
    """A grey image or a matrix, without ticks; its k x k pieces set apart by lines."""
    side = image.shape[-1]
    axes.imshow(
        image.numpy(),
        cmap=cmap,
        vmin=0,
        vmax=highest,
        interpolation="nearest",
        extent=(0, side, side, 0),
    )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i in range(1, k or 1):
        axes.axvline(i * side / (k or 1), color=_LINE, linewidth=1)
        axes.axhline(i * side / (k or 1), color=_LINE, linewidth=1)


@torch.no_grad()
def draw() -> Figure:
    """The figure: scrambled digits, restored digits, and matrices at falling temperature."""
    net = load_pretrained(_NET)
    k = net.puzzle.pieces
    pieces = net.puzzle.cut(load_digits(28).test[list(_DIGITS)])
    scrambled, _ = scramble(pieces, torch.Generator().manual_seed(1))
    perm = net(scrambled).indices
    restored = apply_permutation(perm, scrambled)
    scores = net.log_alpha(scrambled[:1])[0]
    figure = Figure(figsize=(8.4, 4.8), layout="constrained", facecolor="none")
    puzzles, matrices = figure.subfigures(2, 1, squeeze=False, height_ratios=(2, 1.25))[:, 0]
    top, bottom = puzzles.subplots(2, len(_TAUS)), matrices.subplots(1, len(_TAUS))
    matrices.suptitle("soft permutation of the first digit's pieces", color=_GREY, fontsize=11)
    for j, tau in enumerate(_TAUS):
        _draw(top[0, j], assemble(scrambled[j], k)[0], "gray", 255, k)
        _draw(top[1, j], assemble(restored[j], k)[0], "gray", 255)
        _draw(bottom[j], sinkhorn(scores, tau, n_iters=200), "viridis", 1)
        bottom[j].set_xlabel(f"tau = {tau:g}", color=_GREY, fontsize=11)
    for axes, label in zip(top[:, 0], ("scrambled", "restored"), strict=True):
        axes.set_ylabel(label, color=_GREY, fontsize=11)
    return figure


def main() -> None:
    """Write the picture."""
    with replacing(PICTURE) as temporary:
        draw().savefig(temporary, dpi=100)
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
