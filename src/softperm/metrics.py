"""How far a predicted permutation is from the true one, with one value per permutation.

With `labels`, items of the same label are interchangeable (two all-black puzzle pieces): of all
permutations that put the same labels in the same positions, the one nearest to the target counts.

Partial permutations (-1: an item without a position) have a share of wrong items: an item is right
where both give it the same position, or both none. They have no Kendall's tau, which compares the
order of all items, and take no labels: `ValueError` says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import require_partial_perm, require_perm, require_tensor, shape_of
from softperm._typing import Float, Integer
from softperm.permutations import invert_permutation

__all__ = ["kendall_tau", "prop_any_wrong", "prop_wrong"]


def kendall_tau(
    perm: Integer[Tensor, "*#batch n"],
    target: Integer[Tensor, "*#batch n"],
    labels: Integer[Tensor, "*#batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    r"""Compute Kendall's rank correlation between two permutations.

    .. math:: \tau = 1 - \frac{4\,\#\{i < i' : \text{ordered differently}\}}{n (n - 1)}

    1 when equal, -1 when reversed, 0 in expectation for a random one; 1 for a single item. Every
    item must have a position: to compare the order of the items that have one in both, select them.

    Arguments:
        perm: Predicted indices, shape (\*, n).
        target: True indices, shape (\*, n); batch dimensions broadcast.
        labels: Items of equal label are interchangeable, shape (\*, n).

    Returns:
        Kendall's tau, in the default dtype, shape (\*).

    Raises:
        TypeError: an argument is not an integer tensor.
        ValueError: a row is not a permutation, or the shapes do not fit.

    Example:
        >>> kendall_tau(torch.tensor([0, 2, 1]), torch.tensor([0, 1, 2]))
        tensor(0.3333)
        >>> kendall_tau(torch.tensor([0, 2, 1]), torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
        tensor(1.)
    """
    perm, target, labels = _broadcast(perm, target, labels)
    n = perm.shape[-1]
    if n < 2:
        return perm.new_ones(perm.shape[:-1], dtype=torch.get_default_dtype())
    if labels is not None:
        perm = _order_within_labels(perm, target, labels)
    places = perm.gather(-1, invert_permutation(target))  # predicted places, in the true order
    inversions = torch.zeros(places.shape[:-1], dtype=torch.int64, device=places.device)
    for i in range(n - 1):  # a loop over items keeps memory at O(n) per permutation
        inversions = inversions + (places[..., i + 1 :] < places[..., i : i + 1]).sum(-1)
    return 1 - 4 * inversions.to(torch.get_default_dtype()) / (n * (n - 1))


def prop_wrong(
    perm: Integer[Tensor, "*#batch n"],
    target: Integer[Tensor, "*#batch n"],
    labels: Integer[Tensor, "*#batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    r"""Compute the share of items at a wrong position.

    Arguments:
        perm: Predicted indices, shape (\*, n); -1 for an item without a position.
        target: True indices, shape (\*, n); batch dimensions broadcast.
        labels: Items of equal label are interchangeable, shape (\*, n); every item must then have a
            position.

    Returns:
        A share in [0, 1], in the default dtype, shape (\*).

    Raises:
        TypeError: an argument is not an integer tensor.
        ValueError: a row repeats a position (with labels: is not a permutation), or the shapes do
            not fit.

    Example:
        >>> prop_wrong(torch.tensor([0, 2, 1, 3]), torch.tensor([0, 1, 2, 3]))
        tensor(0.5000)
        >>> prop_wrong(torch.tensor([1, -1, 0, -1]), torch.tensor([1, -1, -1, 0]))
        tensor(0.5000)
    """
    wrong = _wrong(perm, target, labels)
    return wrong.sum(-1).to(torch.get_default_dtype()) / max(wrong.shape[-1], 1)


def prop_any_wrong(
    perm: Integer[Tensor, "*#batch n"],
    target: Integer[Tensor, "*#batch n"],
    labels: Integer[Tensor, "*#batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    r"""Mark permutations with any item at a wrong position: 1 for these, 0 for others.

    The mean is the share of such permutations.

    Arguments:
        perm: Predicted indices, shape (\*, n); -1 for an item without a position.
        target: True indices, shape (\*, n); batch dimensions broadcast.
        labels: Items of equal label are interchangeable, shape (\*, n); every item must then have a
            position.

    Returns:
        Zeros and ones, in the default dtype, shape (\*).

    Raises:
        TypeError: an argument is not an integer tensor.
        ValueError: a row repeats a position (with labels: is not a permutation), or the shapes do
            not fit.

    Example:
        >>> prop_any_wrong(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1]))
        tensor([0., 1.])
    """
    return _wrong(perm, target, labels).any(-1).to(torch.get_default_dtype())


def _broadcast(
    perm: Tensor, target: Tensor, labels: Tensor | None, partial: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check the arguments and bring them to one shape; if `partial`, -1 is allowed."""
    require = require_partial_perm if partial else require_perm
    require(perm, "perm")
    require(target, "target")
    given = {"perm": perm, "target": target}
    if labels is not None:
        require_tensor(labels, "labels")
        if labels.is_floating_point() or labels.is_complex():
            raise TypeError(f"labels must hold integers, got {labels.dtype}")
        given["labels"] = labels
    shapes = ", ".join(f"{name} {shape_of(x)}" for name, x in given.items())
    if len({x.shape[-1:] for x in given.values()}) > 1:
        raise ValueError(f"arguments must have the same number of items n, got {shapes}")
    try:
        perm, target, *rest = torch.broadcast_tensors(*(x.long() for x in given.values()))
    except RuntimeError:
        raise ValueError(f"batch dimensions must broadcast, got {shapes}") from None
    return perm, target, rest[0] if rest else None


def _wrong(perm: Tensor, target: Tensor, labels: Tensor | None) -> Tensor:
    """Whether each item (with labels: each position) holds something wrong."""
    perm, target, labels = _broadcast(perm, target, labels, partial=labels is None)
    if labels is None:
        return perm != target
    found = labels.gather(-1, invert_permutation(perm))
    wanted = labels.gather(-1, invert_permutation(target))
    return found != wanted


def _order_within_labels(perm: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """Give every label's positions to its items in their true order.

    Exchanging two items that are in the wrong order never adds a discordant pair, so this
    permutation has the largest Kendall's tau of all that place the same labels.
    """
    n = perm.shape[-1]
    classes = labels.unsqueeze(-1).eq(labels.unsqueeze(-2)).int().argmax(-1)  # in 0..n-1
    items = (classes * n + target).argsort(-1)
    positions = (classes * n + perm).sort(-1).values % n
    return torch.empty_like(positions).scatter(-1, items, positions)
