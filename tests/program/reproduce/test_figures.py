"""The curves are the figures of the table."""

from __future__ import annotations

from matplotlib.axes import Axes

from softperm.program.reproduce.figures import plot_table
from tests.program.reproduce.test_tables import JIGSAW, SORTING, jigsaw


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))  # type: ignore[arg-type]
        for line in axes.get_lines()
    }


def test_jigsaw() -> None:
    figure = plot_table("jigsaw", [*JIGSAW, jigsaw("ours", 4, 0, 0.3)])
    first, second, third = map(lines, figure.axes)
    assert first["the paper's net"] == ([3], [0.6])
    assert first["our net"] == ([3, 4], [0.8, 0.3])
    assert first["the paper (approximate)"] == ([3, 4], [0.83, 0.43])
    assert second["our net"] == ([3, 4], [0.9, 0.4])
    assert third["the paper's net"] == ([3], [0.5])
    assert "the paper (approximate)" not in second


def test_jigsaw_of_other_images_has_no_figures_of_the_paper() -> None:
    figure = plot_table("jigsaw", [jigsaw("ours", 3, 0, 0.5, "digits")])
    assert "the paper (approximate)" not in lines(figure.axes[0])


def test_sorting() -> None:
    left, right = map(lines, plot_table("sorting", SORTING).axes)
    assert left == {
        "U(0, 1)": ([80, 120], [0.0, 0.005]),
        "U(1, 2)": ([80, 120], [0.75, 1.0]),
        "the paper (approximate)": ([80, 120], [0.0, 0.01]),
    }
    assert right["U(0, 1)"] == ([120, 500], [0.0, 0.25])
    assert right["U(1, 2)"] == ([120], [0.0])


def test_sorting_with_one_net() -> None:
    left, right = map(lines, plot_table("sorting", SORTING[:2]).axes)
    assert left
    assert not right
