"""The digits that come with scikit-learn: nothing to download."""

from __future__ import annotations

import torch

from softperm.data.imagedata import ImageData, with_statistics

_N_TRAIN = 1500


def load_digits() -> ImageData:
    """Load the 1,797 digits of 8 x 8 pixels embedded in scikit-learn.

    Their grey values 0..16 are scaled to 0..255. The first 1,500 are for training, the last 297
    for the test.

    Returns:
        The images, (1500, 1, 8, 8) and (297, 1, 8, 8).

    Example:
        >>> load_digits().test.shape
        torch.Size([297, 1, 8, 8])
    """
    from sklearn import datasets  # costs a second to import

    values = torch.from_numpy(datasets.load_digits().images)
    images = (values * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    return with_statistics(images[:_N_TRAIN], images[_N_TRAIN:])
