"""Pictures: what is drawn, and that it reaches the disk."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softperm import matching, permutation_matrix, sinkhorn
from softperm.plotting import plot_curves, plot_puzzles, plot_temperatures, save


def test_puzzles_are_drawn_pixel_for_pixel() -> None:
    images = torch.randint(256, (2, 1, 8, 6), dtype=torch.uint8)
    figure = plot_puzzles({"original": images, "scrambled": images.flip(0)}, k=2, wrong=[0, 3])
    drawn = [axes.images[0].get_array() for axes in figure.axes]
    for axes, image in zip(drawn, (images[0], images[1], images[1], images[0]), strict=True):
        assert np.array_equal(np.asarray(axes)[..., 0], image[0].numpy())
    assert [axes.get_title() for axes in figure.axes[:2]] == ["original", "scrambled"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "exact", "", "3 wrong"]


def test_only_scrambled_puzzles_have_lines_between_the_pieces() -> None:
    images = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    figure = plot_puzzles({"original": images, "scrambled": images}, k=3)
    assert [len(axes.lines) for axes in figure.axes] == [0, 4]


def test_temperatures_end_with_the_matching() -> None:
    x = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    figure = plot_temperatures(x, taus=(1.0, 0.1), n_iters=30)
    panels = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3]]
    np.testing.assert_allclose(panels[0], sinkhorn(x, 1.0, 30).detach().numpy())
    np.testing.assert_array_equal(panels[2], permutation_matrix(matching(x)).numpy())


def test_curves_show_every_epoch() -> None:
    rows = [
        {"epoch": e, "loss": 2.0 / e, "kendall_tau": 1.0, "prop_wrong": 0.0, "prop_any_wrong": 0.5}
        for e in (1.0, 2.0, 3.0)
    ]
    axes: Any = plot_curves(rows).axes
    loss, errors = axes
    assert list(loss.lines[0].get_ydata()) == [2.0, 1.0, 2.0 / 3]
    drawn = {line.get_label(): list(line.get_ydata()) for line in errors.lines}
    assert drawn["1 - kendall_tau"] == [0.0] * 3
    assert drawn["prop_any_wrong"] == [0.5] * 3


@pytest.mark.parametrize("losses", [[0.0], [0.0, 0.0], [2.0, 0.0]])
def test_losses_of_zero_are_drawn_without_a_warning(losses: list[float], tmp_path: Path) -> None:
    others = {"kendall_tau": 1.0, "prop_wrong": 0.0, "prop_any_wrong": 0.0}
    rows = [{"epoch": float(e), "loss": loss, **others} for e, loss in enumerate(losses, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(plot_curves(rows), tmp_path / "curves.png")


def test_saved_pictures_open_and_leave_no_other_file(tmp_path: Path) -> None:
    path = save(plot_temperatures(torch.eye(3)), tmp_path / "new" / "picture.png")
    with Image.open(path) as picture:
        assert min(picture.size) > 100
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]


def test_a_failed_save_keeps_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    figure = plot_temperatures(torch.eye(3))
    figure.axes[0].set_title("$\\nonsense$")  # matplotlib refuses it when it draws
    with pytest.raises(ValueError, match="nonsense"):
        save(figure, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
