"""Images that need not be in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


class Images:
    """Images of one size, mapped from a file or held in memory.

    It is used as a tensor of shape (N, C, H, W) is: a slice is a view, a tensor of indices reads.

    Arguments:
        pixels: The images, uint8, (M, C, H, W).
        index: Which of them, and in which order, int64, (N,); all when omitted.
        reopen: Maps `pixels` anew, in another process that this object is sent to; when omitted
            they are sent along.

    Example:
        >>> images = Images(np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2))
        >>> images[1:].shape
        torch.Size([2, 1, 2, 2])
        >>> images[torch.tensor([2, 0])].flatten(1)
        tensor([[ 8,  9, 10, 11],
                [ 0,  1,  2,  3]], dtype=torch.uint8)
    """

    def __init__(
        self,
        pixels: Pixels,
        index: Tensor | None = None,
        reopen: Callable[[], Pixels] | None = None,
    ) -> None:
        self._pixels, self._reopen = pixels, reopen
        self._index = torch.arange(len(pixels)) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self), *self._pixels.shape[1:]))

    @overload
    def __getitem__(self, key: slice) -> Images: ...

    @overload
    def __getitem__(self, key: int | Tensor) -> Tensor: ...

    def __getitem__(self, key: int | slice | Tensor) -> Images | Tensor:
        index = self._index[key]
        if isinstance(key, slice):
            return Images(self._pixels, index, self._reopen)
        return torch.from_numpy(self._pixels.take(index.numpy(), axis=0))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def split(self, size: int) -> Iterator[Tensor]:
        """Read all images, `size` at a time."""
        return (self[part] for part in torch.arange(len(self)).split(size))

    def take(self, order: Tensor) -> Images:
        """The images at some indices, not read yet."""
        return Images(self._pixels, self._index[order], self._reopen)

    def in_order(self) -> Images:
        """The same images in the order in which they are stored, as disks read ahead."""
        return Images(self._pixels, self._index.sort().values, self._reopen)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            return Images, (self._pixels, self._index)
        return _reopened, (self._reopen, self._index)


def _reopened(reopen: Callable[[], Pixels], index: Tensor) -> Images:
    return Images(reopen(), index, reopen)
