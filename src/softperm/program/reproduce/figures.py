"""The figures that go with the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from softperm.program.reproduce.cells import Net, Table, paper_figure
from softperm.program.reproduce.runner import Result
from softperm.program.reproduce.tables import metric, sizes, tests

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NETS: tuple[tuple[Net, str, str], ...] = (
    ("paper", "the paper's net", "tab:blue"),
    ("ours", "our net", "tab:red"),
)


def _curve(results: Sequence[Result], test: str, name: str) -> tuple[list[int], list[float]]:
    """A metric against the size, where it was measured."""
    points = [
        (size, metric([r for r in results if r.cell.size == size], test, name))
        for size in sizes(results)
    ]
    there = [(size, value) for size, value in points if value is not None]
    return [size for size, _ in there], [value for _, value in there]


def _draw_paper(axes: Axes, table: Table, results: Sequence[Result]) -> None:
    """The paper's figures as a dashed line."""
    data = {r.cell.size: r.data for r in results}
    points = [(size, paper_figure(table, size, data[size])) for size in sizes(results)]
    there = [(size, value) for size, value in points if value is not None]
    if there:
        x, y = zip(*there, strict=True)
        axes.plot(x, y, "k--", marker="x", label="the paper (approximate)")


def _plot_jigsaw(results: Sequence[Result]) -> Figure:
    """Three metrics against pieces per side, one line per network."""
    names = ("kendall_tau", "kendall_tau_up_to_identical", "exact_reconstruction")
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), names, strict=True):
        for net, label, colour in _NETS:
            mine = [r for r in results if r.cell.net == net]
            axes.plot(*_curve(mine, "test", name), marker="o", color=colour, label=label)
        if name == "kendall_tau":
            _draw_paper(axes, "jigsaw", results)
        axes.set(title=name.replace("_", " "), xlabel="pieces per side", ylim=(-0.05, 1.05))
        axes.set_xticks(sizes(results))
    return figure


def _plot_sorting(results: Sequence[Result]) -> Figure:
    """The share of lists not sorted against their length, one panel per network."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (net, label, _) in zip(figure.subplots(1, 2), _NETS, strict=True):
        mine = [r for r in results if r.cell.net == net]
        for test in tests(mine):
            axes.plot(*_curve(mine, test, "prop_any_wrong"), marker="o", alpha=0.7, label=test)
        _draw_paper(axes, "sorting", mine)
        axes.set(title=label, xlabel="numbers in a list", xscale="log", ylim=(-0.05, 1.05))
        axes.set_ylabel("share of lists with any misplaced")
        axes.set_xticks(sizes(mine), [str(n) for n in sizes(mine)], rotation=60)
        axes.minorticks_off()
    return figure


def plot_table(table: Table, results: Sequence[Result]) -> Figure:
    """The table as curves against the size, the paper's figures among them.

    Arguments:
        table: Which table.
        results: Results of its cells, at least one.

    Returns:
        The figure.
    """
    figure = _plot_jigsaw(results) if table == "jigsaw" else _plot_sorting(results)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    return figure
