"""A page to play with the operators: `python -m softperm.program.app`, or `make app`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
import torch

from softperm.ops import sample_gumbel, sinkhorn
from softperm.plotting import plot_temperatures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INTRODUCTION = """# softperm
Random scores, Gumbel noise on top, and what the Sinkhorn operator makes of them: at high
temperature nearly the uniform matrix, at low temperature the matching, a permutation. Without
noise the result is the same every time; more noise makes other permutations likely.
"""


def draw(n: int, tau: float, n_iters: int, noise_scale: float, seed: int) -> tuple[Figure, str]:
    """The matrices from four times `tau` down to a tenth of it, and how far the rows are from 1.

    Arguments:
        n: Number of items.
        tau: Temperature.
        n_iters: Sinkhorn iterations.
        noise_scale: Scale of the Gumbel noise.
        seed: Seed of scores and noise.

    Returns:
        The figure, and a sentence on convergence.

    Example:
        >>> figure, text = draw(5, 0.5, 20, 1.0, 0)
        >>> text.startswith("At tau 0.5 after 20 iterations")
        True
    """
    generator = torch.Generator().manual_seed(int(seed))
    scores = torch.randn(int(n), int(n), generator=generator)
    scores = scores + noise_scale * sample_gumbel((int(n), int(n)), generator=generator)
    taus = tuple(round(tau * factor, 4) for factor in (4, 1, 0.3, 0.1))
    _, info = sinkhorn(scores, tau, int(n_iters), return_info=True)
    text = (
        f"At tau {tau:g} after {n_iters} iterations columns sum to 1, and rows to within "
        f"{float(info.row_error):.1g}."
    )
    return plot_temperatures(scores, taus, int(n_iters)), text


def build() -> gr.Blocks:
    """The page."""
    page: gr.Blocks
    with gr.Blocks(title="softperm") as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            controls = [
                gr.Slider(2, 32, 8, step=1, label="items n"),
                gr.Slider(0.05, 5, 0.5, step=0.05, label="temperature tau"),
                gr.Slider(1, 100, 20, step=1, label="iterations"),
                gr.Slider(0, 3, 1, step=0.1, label="noise scale"),
                gr.Slider(0, 99, 0, step=1, label="seed"),
            ]
        outputs = [gr.Plot(show_label=False), gr.Markdown()]
        for control in controls:
            control.change(draw, controls, outputs)
        page.load(draw, controls, outputs)
    return page


if __name__ == "__main__":
    build().launch()
