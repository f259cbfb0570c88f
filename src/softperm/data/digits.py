"""The digits that come with scikit-learn: nothing to download."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softperm.data.imagedata import ImageData, with_statistics

_SIZES = (8, 28)
_N_TRAIN = 1500
_BOX, _MARGIN = 20, 4  # MNIST's digits fill a box of 20 x 20 pixels in an image of 28 x 28
_CONTRAST = 1.5  # enlarging makes edges grey, and MNIST's strokes are nearly white


def load_digits(size: int = 8) -> ImageData[Tensor]:
    """Load the 1,797 digits of 8 x 8 pixels embedded in scikit-learn.

    Their grey values 0..16 are scaled to 0..255. The first 1,500 are for training, the last 297
    for the test.

    Arguments:
        size: Side of an image in pixels: 8, or 28 for digits enlarged to look like those of MNIST,
            with a black margin.

    Returns:
        The images, (1500, 1, size, size) and (297, 1, size, size).

    Raises:
        ValueError: `size` is another one.

    Example:
        >>> load_digits().test.shape
        torch.Size([297, 1, 8, 8])
        >>> load_digits(28).test.shape
        torch.Size([297, 1, 28, 28])
    """
    from sklearn import datasets  # costs a second to import

    if size not in _SIZES:
        raise ValueError(f"size of digits is {_SIZES[0]} or {_SIZES[1]}, got {size}")
    values = torch.from_numpy(datasets.load_digits().images)
    images = (values * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    if size != _SIZES[0]:
        images = _enlarge(images)
    return with_statistics(images[:_N_TRAIN], images[_N_TRAIN:])


def _enlarge(images: Tensor) -> Tensor:
    """Images of 8 x 8 pixels as MNIST would show them, in 28 x 28."""
    large = F.interpolate(images.double(), size=(_BOX, _BOX), mode="bilinear")
    sharp = (_CONTRAST * (large - 127.5) + 127.5).clamp(0, 255)
    return F.pad(sharp, (_MARGIN,) * 4).round().to(torch.uint8)
