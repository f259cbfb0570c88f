"""The tables: our measurements beside the paper's figures, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table as RichTable

from softperm._files import replacing, write_text
from softperm.program.reproduce.cells import CAVEAT, Net, Table, paper_figure
from softperm.program.reproduce.runner import Result

_NETS: dict[Net, str] = {"paper": "the paper's net", "ours": "our net"}
_NOTHING = "-"
_JIGSAW_SUMMARY = ("kendall_tau", "kendall_tau_up_to_identical", "exact_reconstruction")
_OFFSETS = (
    "They are for U(0, 1); on intervals far from 0 the paper reports most lists wrong for n >= 80."
)


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Arguments:
        title: What it shows.
        header: Names of the columns.
        rows: The cells, row by row.
    """

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table in Markdown, its title above it."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"**{self.title}**\n\n{table}\n"

    def rich(self) -> RichTable:
        """The table for the terminal."""
        table = RichTable(*self.header, title=self.title, box=SIMPLE, collapse_padding=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def mean(values: Iterable[float]) -> float | None:
    """The mean; None of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else None


def _text(value: float | None, digits: int = 4) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"


def _of(results: Sequence[Result], net: Net, size: int) -> list[Result]:
    """The results of one cell, a seed each."""
    return [r for r in results if (r.cell.net, r.cell.size) == (net, size)]


def metric(results: Sequence[Result], test: str, name: str) -> float | None:
    """Mean of a metric over results; None where none was measured on that test set."""
    return mean(r.metrics[test][name] for r in results if test in r.metrics)


def sizes(results: Sequence[Result]) -> list[int]:
    """The sizes that there are results of, ascending."""
    return sorted({r.cell.size for r in results})


def tests(results: Sequence[Result]) -> list[str]:
    """The test sets that there are results on, in the order in which they were measured."""
    return list(dict.fromkeys(test for r in results for test in r.metrics))


def _jigsaw_summary(results: Sequence[Result]) -> Grid:
    """Kendall's tau, raw and up to identical pieces, and exact reconstruction."""
    rows = []
    for size in sizes(results):
        label = f"{size}x{size}"
        data = next(r.data for r in results if r.cell.size == size)
        figure = paper_figure("jigsaw", size, data)
        if figure is not None:
            rows.append([label, "the paper", _text(figure, 2), *[_NOTHING] * 3])
        for net, name in _NETS.items():
            if cell := _of(results, net, size):
                values = (_text(metric(cell, "test", column)) for column in _JIGSAW_SUMMARY)
                rows.append([label, name, *values, _text(mean(r.seconds for r in cell), 0)])
    names = ", ".join(dict.fromkeys(Path(r.data).name for r in results))
    header = ["pieces", "net", "kendall_tau", "up to identical pieces", "exact", "seconds"]
    return Grid(f"Jigsaw puzzles ({names}), mean over the test set", header, rows)


def _sorting_summary(results: Sequence[Result], net: Net) -> Grid:
    """The share of lists with any number misplaced: a row an interval, a column a length."""
    mine = [r for r in results if r.cell.net == net]
    lengths = sizes(mine)
    figures = [_text(paper_figure("sorting", n), 2) for n in lengths]
    rows = [["the paper", *figures]]
    for test in tests(mine):
        values = [metric(_of(mine, net, n), test, "prop_any_wrong") for n in lengths]
        rows.append([test, *(_text(value, 3) for value in values)])
    seconds = (mean(r.seconds for r in _of(mine, net, n)) for n in lengths)
    rows.append(["seconds", *(_text(value, 0) for value in seconds)])
    header = ["n", *map(str, lengths)]
    title = f"Sorting, {_NETS[net]} trained on U(0, 1): share of lists with any number misplaced"
    return Grid(title, header, rows)


def _everything(results: Sequence[Result]) -> Grid:
    """Every metric: a row for every size, net and test set."""
    names = list(dict.fromkeys(name for r in results for m in r.metrics.values() for name in m))
    rows = []
    for size in sizes(results):
        for net in _NETS:
            cell = _of(results, net, size)
            head = [str(size), _NETS[net], str(len(cell))]
            for test in tests(cell):
                cost = [
                    _text(mean(r.epochs for r in cell), 0),
                    _text(mean(r.seconds for r in cell), 0),
                ]
                values = [_text(metric(cell, test, name)) for name in names]
                rows.append([*head, *cost, test, *values])
    header = ["size", "net", "seeds", "epochs", "seconds", "tested on", *names]
    return Grid("Every metric, mean over the test set and over seeds", header, rows)


def summary(table: Table, results: Sequence[Result]) -> list[Grid]:
    """The paper's table and ours, in short.

    Arguments:
        table: Which table.
        results: Results of its cells; several seeds of a cell are averaged.

    Returns:
        A table for jigsaws, one for every network for sorting.
    """
    if table == "jigsaw":
        return [_jigsaw_summary(results)]
    nets = [net for net in _NETS if any(r.cell.net == net for r in results)]
    return [_sorting_summary(results, net) for net in nets]


def _seeds(results: Sequence[Result]) -> str:
    counts = sorted({len(_of(results, r.cell.net, r.cell.size)) for r in results})
    many = " or ".join(map(str, counts))
    return f"Mean over {many} seed{'' if counts == [1] else 's'} per cell."


def notes(table: Table, results: Sequence[Result]) -> str:
    """What has to be said beside the figures."""
    parts = [CAVEAT, *([_OFFSETS] if table == "sorting" else []), _seeds(results)]
    return " ".join(parts)


def write_tables(table: Table, results: Sequence[Result], path: Path) -> Path:
    """Write the summary and every metric as Markdown.

    Arguments:
        table: Which table.
        results: Results of its cells.
        path: The file.

    Returns:
        The file.
    """
    grids = [*summary(table, results), _everything(results)]
    parts = [notes(table, results) + "\n", *(grid.markdown() for grid in grids)]
    write_text(path, "\n".join(parts))
    return path


def _markers(table: str) -> tuple[str, str]:
    return f"<!-- reproduce {table} -->", f"<!-- end of reproduce {table} -->"


def require_markers(table: str, path: Path) -> None:
    """Refuse a file that the table cannot be put into.

    Raises:
        ValueError: the file has not one pair of markers.
        OSError: it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    start, end = _markers(table)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"{path} must hold the lines {start} and {end} once, in this order")


def update_docs(table: Table, results: Sequence[Result], path: Path) -> Path:
    """Put the summary between the table's markers in a document.

    Arguments:
        table: Which table.
        results: Results of its cells.
        path: The document, with the lines `<!-- reproduce TABLE -->` and
            `<!-- end of reproduce TABLE -->`.

    Returns:
        The document.

    Raises:
        ValueError: it has not one pair of markers.
        OSError: it cannot be read or written.
    """
    grids = [grid.markdown() for grid in summary(table, results)]
    return put_between_markers(table, "\n".join([notes(table, results) + "\n", *grids]), path)


def put_between_markers(table: str, content: str, path: Path) -> Path:
    """Put a text between the table's markers in a document, with the line ends that it has.

    Errors as `update_docs`.
    """
    require_markers(table, path)
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    start, end = _markers(table)
    before, rest = text.split(start)
    after = rest.split(end)[1]
    inside = f"{start}\n\n{content}\n{end}"
    if "\r\n" in text:
        inside = inside.replace("\n", "\r\n")
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{inside}{after}", encoding="utf-8", newline="")
    return path
