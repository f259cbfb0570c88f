"""Data: MNIST, the embedded digits, folders of images, lists of numbers."""

from softperm.data.augment import draw_shifts, enlarge_images, shift_images
from softperm.data.digits import load_digits
from softperm.data.folder import load_folder
from softperm.data.imagedata import ImageData, channel_statistics
from softperm.data.imagelist import Images
from softperm.data.images import load_images, load_test_images
from softperm.data.mnist import load_mnist, load_mnist_test, read_idx
from softperm.data.numbers import uniform_lists
from softperm.data.picture import read_image, read_picture

__all__ = [
    "ImageData",
    "Images",
    "channel_statistics",
    "draw_shifts",
    "enlarge_images",
    "load_digits",
    "load_folder",
    "load_images",
    "load_mnist",
    "load_mnist_test",
    "load_test_images",
    "read_idx",
    "read_image",
    "read_picture",
    "shift_images",
    "uniform_lists",
]
