"""What the package can do, on the digits that come with scikit-learn: ``make demo``.

Trained networks restore digits in 3x3 and 4x4 pieces; then a network for 2x2 pieces is trained,
from nothing, without labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from softperm.data import load_digits
from softperm.metrics import kendall_tau
from softperm.nn import PuzzleSolver, load_pretrained
from softperm.plotting import plot_puzzles, save
from softperm.program.cli import main as softperm
from softperm.puzzles import assemble, identical_pieces, scramble

_BOX, _MARGIN = 20, 4  # MNIST's digits fill a box of 20 x 20 pixels in an image of 28 x 28
_CONTRAST = 1.5  # enlarging makes edges grey, and MNIST's strokes are nearly white
_EXAMPLES = 6
_TRAINED = ("mnist-3x3", "mnist-4x4")


def like_mnist(digits: Tensor) -> Tensor:
    r"""Digits of 8 x 8 pixels, enlarged to how MNIST's digits look.

    Arguments:
        digits: uint8, shape (B, 1, 8, 8).

    Returns:
        uint8, shape (B, 1, 28, 28).

    Example:
        >>> like_mnist(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 1, 28, 28])
    """
    large = F.interpolate(digits.float(), size=(_BOX, _BOX), mode="bilinear")
    sharp = (_CONTRAST * (large - 127.5) + 127.5).clamp(0, 255)
    return F.pad(sharp, (_MARGIN,) * 4).round().to(torch.uint8)


@torch.no_grad()
def restore(net: PuzzleSolver, images: Tensor, path: Path) -> str:
    """Restore scrambled images, draw the first of them, and say how many are right.

    Arguments:
        net: The trained network.
        images: uint8, shape (B, 1, 28, 28).
        path: Where the picture goes.

    Returns:
        The line of metrics, means over all images.
    """
    k, size = net.puzzle.pieces, (net.puzzle.height, net.puzzle.width)
    pieces = net.puzzle.cut(images)
    scrambled, target = scramble(pieces, torch.Generator().manual_seed(0))
    restored, perm = net(scrambled)
    parts = {"original": pieces, "scrambled": scrambled, "restored": restored}
    columns = {
        title: assemble(part[:_EXAMPLES], k, None if title == "scrambled" else size)
        for title, part in parts.items()
    }
    unlike = (restored != pieces).flatten(2).any(-1).sum(-1)
    save(plot_puzzles(columns, k, unlike[:_EXAMPLES].tolist()), path)
    tau = kendall_tau(perm, target, identical_pieces(scrambled)).mean().item()
    exact = (unlike == 0).float().mean().item()
    return f"kendall_tau_up_to_identical {tau:.4f}  exact_reconstruction {exact:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, train and evaluate; name the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs", "demo"), help="A new folder.")
    out: Path = parser.parse_args(arguments).out
    if out.exists() and any(out.iterdir()):
        parser.error(f"--out must be a new or empty folder, got {out}")
    start = time.monotonic()
    digits = load_digits().test
    for name in _TRAINED:
        path = out / f"{name}.png"
        line = restore(load_pretrained(name), like_mnist(digits), path)
        print(f"{name} on {len(digits)} digits it was not trained on:\n{line}\nwrote {path}\n")
    print("now a network for 2x2 pieces, trained from nothing:")
    code = softperm(["train", "jigsaw", "--preset", "digits-2x2", "--out", str(out / "digits-2x2")])
    if code == 0:
        print(f"\ndone in {time.monotonic() - start:.0f} seconds; the pictures are in {out}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
