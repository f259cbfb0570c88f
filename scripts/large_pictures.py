"""How many test digits are restored as they are, and as parts of larger pictures?

python scripts/large_pictures.py mnist-3x3 mnist-5x5

Prints, for every network, the share without a wrong piece and the share pixel for pixel. MNIST has
to be there. Larger pictures are made by Pillow, with one resampling filter after the other.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from softperm.data import load_mnist_test
from softperm.nn import PuzzleSolver, load_pretrained
from softperm.program.pieces import judge
from softperm.puzzles import scramble

_AS_THEY_ARE, _LARGER = 2000, 500  # digits
_SIDE = 280
_FILTERS = ("BICUBIC", "BILINEAR", "LANCZOS")


def enlarge(images: Tensor, name: str) -> Tensor:
    """Digits of `_SIDE` x `_SIDE` pixels."""
    how = Image.Resampling[name]
    pictures = (Image.fromarray(image[0].numpy()) for image in images)
    larger = [np.asarray(picture.resize((_SIDE, _SIDE), how)) for picture in pictures]
    return torch.from_numpy(np.stack(larger)).unsqueeze(1)


@torch.no_grad()
def shares(net: PuzzleSolver, images: Tensor) -> str:
    """Share without a wrong piece, and share that is exact."""
    pieces = net.puzzle.cut(images)
    scrambled, _ = scramble(pieces, torch.Generator().manual_seed(0))
    restored = torch.cat([net(part)[0] for part in scrambled.split(50)])
    verdicts = [judge(*pair) for pair in zip(restored, pieces, strict=True)]
    right = sum(verdict.wrong == 0 for verdict in verdicts) / len(verdicts)
    exact = sum(verdict.difference == 0 for verdict in verdicts) / len(verdicts)
    return f"{right:.3f}, {exact:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", metavar="NAME", help="Pretrained network.")
    networks = parser.parse_args().networks
    digits = load_mnist_test()
    sets = {f"as they are ({_AS_THEY_ARE:,})": digits[:_AS_THEY_ARE]}
    for name in _FILTERS:
        title = f"{_SIDE}x{_SIDE}, {name.lower()} ({_LARGER})"
        sets[title] = enlarge(digits[:_LARGER], name)
    print(f"| network | {' | '.join(sets)} |")
    print("|---" * (len(sets) + 1) + "|")
    for name in networks:
        net = load_pretrained(name)
        print(f"| `{name}` | {' | '.join(shares(net, images) for images in sets.values())} |")


if __name__ == "__main__":
    main()
