"""The command `softperm reproduce`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from softperm.plotting import save
from softperm.program.counting import PlainConsole
from softperm.program.reproduce.cells import Cell, Table, select_cells
from softperm.program.reproduce.figures import plot_table
from softperm.program.reproduce.runner import Result, read_results, run_cells
from softperm.program.reproduce.tables import (
    notes,
    require_markers,
    summary,
    update_docs,
    write_tables,
)
from softperm.program.training.config import Device, pick_device
from softperm.program.training.loop import Stopped


def _report(cell: Cell, result: Result | None) -> None:
    """One line per cell."""
    print(f"{cell.name}: " + (f"trained in {result.seconds:.0f} s" if result else "kept"))


def reproduce(
    table: Table,
    sizes: Sequence[int] | None = None,
    net: Literal["paper", "ours", "both"] = "both",
    seeds: Sequence[int] = (0,),
    quick: bool = False,
    data: str | None = None,
    out: str | None = None,
    docs: str | None = None,
    device: Device = "auto",
) -> int:
    """Train the cells that are not finished, then print and write the table.

    Arguments:
        table: Which table.
        sizes: Pieces per side, or numbers in a list; the whole table when omitted.
        net: Which networks.
        seeds: Seeds of the runs.
        quick: One epoch each, and only the smallest two sizes when `sizes` is omitted.
        data: Images for the jigsaws; those of the presets when omitted.
        out: Folder of the run folders and the table.
        docs: A document to put the table into.
        device: Where to train.

    Returns:
        The exit code: 128 + the signal when stopped.
    """
    changes: dict[str, Any] = {"device": device}
    if data is not None:
        changes["data"] = data
    cells = select_cells(table, sizes, net, seeds, quick=quick)
    folder = Path(out or Path("runs", "reproduce-quick" if quick else "reproduce", table))
    pick_device(device)  # a missing device is told before anything is trained,
    if docs is not None:
        require_markers(table, Path(docs))  # and so is a document without room for the table
    try:
        run_cells(cells, folder, changes, quick=quick, finished=_report)
    except Stopped as stopped:
        print("stopped; the same command goes on", flush=True)
        return 128 + stopped.signum
    _show(table, folder, docs)
    return 0


def _show(table: Table, folder: Path, docs: str | None) -> None:
    """Print the table, and write it with its figure."""
    results = [result for result in read_results(folder) if result.cell.table == table]
    console = PlainConsole()
    for grid in summary(table, results):
        console.print(grid.rich())
    print(notes(table, results))
    written = [
        write_tables(table, results, folder / "table.md"),
        save(plot_table(table, results), folder / "table.png"),
    ]
    if docs is not None:
        written.append(update_docs(table, results, Path(docs)))
    for path in written:
        print(f"wrote {path}")
