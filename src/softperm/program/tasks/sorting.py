"""Sorting numbers: put a list in ascending order, learnt from the sorted list alone."""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from softperm.data import uniform_lists
from softperm.metrics import kendall_tau, prop_any_wrong, prop_wrong
from softperm.nn import RelativeSortNet, SinkhornNet, SinkhornSortNet
from softperm.permutations import invert_permutation
from softperm.program.settings import SortingConfig
from softperm.program.tasks.base import (
    WHOLE,
    Examples,
    Part,
    Watch,
    draw_noise,
    squared_error,
)

_EVALUATION_SEED = 0
_EVALUATION_ENTRIES = 4_000_000  # of score matrices held at a time

Interval = tuple[float, float]


class Sorting:
    r"""The sorting task.

    .. math:: \text{loss} = \frac1{BK} \sum_{b,k}
        \lVert \operatorname{sort}(x_b) - P_{bk}^\top x_b \rVert_2^2

    with K = `n_samples` Gumbel-Sinkhorn samples P_bk of list b.

    Arguments:
        config: The settings.

    Source: Mena et al., ICLR 2018, section 5.1.
    """

    def __init__(self, config: SortingConfig) -> None:
        self.config = config

    @property
    def n_items(self) -> int:
        """Numbers in a list."""
        return self.config.n_items

    @property
    def n_train(self) -> int:
        """Lists in an epoch."""
        return self.config.train_lists

    @property
    def n_test(self) -> int:
        """Lists in the test set."""
        return self.config.test_lists

    @property
    def summary(self) -> str:
        """The data and the network, in a few words."""
        c = self.config
        return f"lists of {c.n_items} numbers from U({c.low:g}, {c.high:g}), {c.net} net"

    def make_net(self) -> SinkhornNet:
        """A new network, initialised from torch's global generator."""
        c = self.config
        if c.net == "relative":
            return RelativeSortNet(c.hidden_features, c.tau, c.n_iters, noise_scale=c.noise_scale)
        return SinkhornSortNet(
            c.n_items, c.hidden_features, c.tau, c.n_iters, noise_scale=c.noise_scale
        )

    def describe(self) -> dict[str, Any]:
        """The settings."""
        return asdict(self.config)

    def read(self, indices: Tensor) -> Tensor:
        """Nothing is stored: only how many lists are asked for counts."""
        return indices

    def examples(
        self,
        stored: Tensor,
        generator: torch.Generator,
        part: Part = WHOLE,
        total: int | None = None,
    ) -> Examples:
        """New lists, as many as are asked for."""
        c = self.config
        total = len(stored) if total is None else total
        drawn = uniform_lists(total, c.n_items, low=c.low, high=c.high, generator=generator)
        noise = draw_noise((c.n_samples, total, c.n_items), c.noise_scale, part, generator)
        lists = part.of(drawn)
        return Examples(lists, lists.sort(-1).values, noise, c.n_samples, total)

    def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
        """Squared error of the softly sorted lists: summed over a list, mean over the rest."""
        return squared_error(net, examples)

    def test_lists(self, interval: Interval | None = None) -> Tensor:
        """The test set, the same every time, float64, (test_lists, n_items).

        Far from 0 float32 has too few digits for the numbers of a list to differ.

        Arguments:
            interval: Where to draw from; (test_low, test_high) when omitted.
        """
        c = self.config
        low, high = interval or (c.test_low, c.test_high)
        generator = torch.Generator().manual_seed(_EVALUATION_SEED)
        return uniform_lists(
            c.test_lists,
            c.n_items,
            low=low,
            high=high,
            generator=generator,
            dtype=torch.float64,
        )

    @torch.no_grad()
    def evaluate(
        self,
        net: SinkhornNet,
        device: torch.device,
        interval: Interval | None = None,
        *,
        watch: Watch | None = None,
        part: Part = WHOLE,
    ) -> dict[str, float]:
        """Mean over all test lists of every metric; l1 and l2 are norms of the difference.

        Equal numbers are interchangeable. Computed in float64, and so on the CPU: two numbers of a
        long list are closer than float32 logits can tell.

        Arguments:
            net: The network; left as it is.
            device: Where the network is.
            interval: Where to draw the test lists from; (test_low, test_high) when omitted.
            watch: Is told the number of lists done, again and again.
            part: Which part of the lists is tested; what it adds to the means is returned.
        """
        exact = deepcopy(net).to("cpu", torch.float64).eval()
        sums: defaultdict[str, float] = defaultdict(float)
        for lists in part.of(self.test_lists(interval)).split(_lists_at_a_time(self.n_items)):
            for name, value in _list_metrics(lists, *exact(lists)).items():
                sums[name] += value.sum(dtype=torch.float64).item()
            if watch is not None:
                watch(len(lists))
        return {name: total / self.config.test_lists for name, total in sums.items()}


def _lists_at_a_time(n: int) -> int:
    return max(1, _EVALUATION_ENTRIES // n**2)


def _list_metrics(lists: Tensor, ordered: Tensor, perm: Tensor) -> dict[str, Tensor]:
    """Every metric of every list."""
    ranked = lists.sort(-1)
    target = invert_permutation(ranked.indices)
    steps = ranked.values.diff(dim=-1, prepend=ranked.values[..., :1]) > 0
    labels = steps.long().cumsum(-1).gather(-1, target)  # equal numbers, equal labels
    difference = ordered - ranked.values
    return {
        "kendall_tau": kendall_tau(perm, target, labels),
        "prop_wrong": prop_wrong(perm, target, labels),
        "prop_any_wrong": prop_any_wrong(perm, target, labels),
        "l1": difference.abs().sum(-1),
        "l2": difference.square().sum(-1).sqrt(),
    }
