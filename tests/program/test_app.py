"""The page to play with."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from softperm.program.app import build, draw

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the page's own libraries


@pytest.mark.parametrize(("n", "tau"), [(2, 0.05), (8, 0.5), (32, 5.0)])
def test_the_ends_of_the_sliders(n: int, tau: float) -> None:
    figure, text = draw(n, tau, 1, 3.0, 99)
    assert figure.axes[1].get_title() == f"tau = {tau:g}"
    assert text.startswith(f"At tau {tau:g} after 1 iterations")


def test_no_noise_gives_the_same_every_time() -> None:
    figures = [draw(5, 1.0, 20, 0.0, 3)[0] for _ in range(2)]
    pictures = [np.asarray(figure.axes[0].images[0].get_array()) for figure in figures]
    assert np.array_equal(pictures[0], pictures[1])


async def labels() -> set[str]:
    """What the components of the page are called; in an event loop, or the page opens its own."""
    return {component.label for component in build().blocks.values() if hasattr(component, "label")}


def test_the_page_can_be_built() -> None:
    assert {"items n", "temperature tau", "iterations", "noise scale", "seed"} <= asyncio.run(
        labels()
    )
