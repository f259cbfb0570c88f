"""The tutorial's loop, as the baseline of `train_epoch.py`.

What makes it slow is kept on purpose: pictures are normalised, cut and shuffled one by one in
Python, the convolution is called once for every piece, autograd records every Sinkhorn step, and
at evaluation SciPy is called once for every matrix and once for every Kendall's tau.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

MEAN, STD = 0.1307, 0.3081


class Pictures(Dataset[Tensor]):
    """MNIST pictures one at a time, as torchvision's data set and transforms give them.

    torchvision makes a Pillow image of every picture, which the transform turns into a tensor.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self.images[index, 0].numpy())
        pixels = torch.from_numpy(np.array(picture, copy=True))[None]
        return pixels.float().div(255).sub_(MEAN).div_(STD)


def cut_one(image: Tensor, k: int = 2) -> Tensor:
    """The k x k pieces of one picture."""
    rows = torch.chunk(image, k, dim=1)
    return torch.stack([piece for row in rows for piece in torch.chunk(row, k, dim=2)])


def shuffle_batch(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces, shuffled pieces and the permutations that put them right, picture by picture."""
    pieces, shuffled, targets = [], [], []
    for image in images:
        parts = cut_one(image)
        target = torch.randperm(len(parts))
        pieces.append(parts)
        shuffled.append(parts[target])
        targets.append(target)
    return torch.stack(pieces), torch.stack(shuffled), torch.stack(targets)


class Net(nn.Module):
    """The same network as `SinkhornConvNet`, its convolution called for every piece by itself.

    `across` calls it once for every position of a piece instead, on the pieces of all pictures: the
    most favourable reading of such a loop.
    """

    def __init__(
        self, across: bool, n_pieces: int = 4, tau: float = 0.1, n_iters: int = 20
    ) -> None:
        super().__init__()
        self.across, self.tau, self.n_iters = across, tau, n_iters
        self.conv = nn.Conv2d(1, 32, 5, padding=2)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(32 * 7 * 7, n_pieces, bias=False)

    def logits(self, pieces: Tensor) -> Tensor:
        features = self.pool(torch.relu(self.conv(pieces))).flatten(1)
        row: Tensor = self.head(features)
        return row

    def log_alpha(self, pieces: Tensor) -> Tensor:
        if self.across:
            return torch.stack([self.logits(column) for column in pieces.unbind(1)], dim=1)
        return torch.stack(
            [torch.cat([self.logits(piece[None]) for piece in picture]) for picture in pieces]
        )

    def soft_permutation(self, log_alpha: Tensor) -> Tensor:
        uniform = torch.rand_like(log_alpha)
        noise = -torch.log(-torch.log(uniform + 1e-20) + 1e-20)
        log_p = (log_alpha + noise) / self.tau
        for _ in range(self.n_iters):
            log_p = log_p - torch.logsumexp(log_p, dim=-1, keepdim=True)
            log_p = log_p - torch.logsumexp(log_p, dim=-2, keepdim=True)
        return log_p.exp()


class Trainer:
    """Training steps of the tutorial's loop."""

    def __init__(self, images: Tensor, across: bool) -> None:
        self.net = Net(across)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4)
        self.loader = DataLoader(Pictures(images), batch_size=64, shuffle=True)
        self.batches = iter(self.loader)

    def step(self) -> None:
        images = next(self.batches, None)
        if images is None:
            self.batches = iter(self.loader)
            images = next(self.batches)
        self.net.train()
        pieces, shuffled, _ = shuffle_batch(images)
        P = self.net.soft_permutation(self.net.log_alpha(shuffled))
        ordered = torch.einsum("bij,bichw->bjchw", P, shuffled)
        loss = (ordered - pieces).square().sum() / len(images)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


@torch.no_grad()
def evaluate(net: Net, images: Tensor) -> float:
    """Mean Kendall's tau, one SciPy call for every matrix and every picture."""
    net.eval()
    taus = []
    for batch in DataLoader(Pictures(images), batch_size=64):
        _, shuffled, targets = shuffle_batch(batch)
        log_alpha = net.log_alpha(shuffled)
        for scores, target in zip(log_alpha, targets, strict=True):
            perm = linear_sum_assignment(scores.numpy(), maximize=True)[1]
            taus.append(float(kendalltau(perm, target.numpy()).statistic))
    return sum(taus) / len(taus)
