"""The command `softperm reproduce neurons`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from softperm._files import write_text
from softperm.data.worm import load_wiring
from softperm.plotting import save
from softperm.program.counting import PlainConsole
from softperm.program.neurons.config import Method
from softperm.program.reproduce.neurons import (
    NeuronsCell,
    read_neurons,
    run_neurons,
    select_neurons,
)
from softperm.program.reproduce.neurons_figures import plot_candidates, plot_reliability
from softperm.program.reproduce.neurons_tables import (
    Finished,
    calibrated_folders,
    detail_grid,
    neurons_grids,
    neurons_notes,
)
from softperm.program.reproduce.tables import put_between_markers, require_markers


def _report(cell: NeuronsCell, ran: bool) -> None:
    """One line per cell."""
    print(f"{cell.name}: {'finished' if ran else 'kept'}", flush=True)


def reproduce_neurons(
    cells: Sequence[str] | None = None,
    methods: Sequence[Method] | None = None,
    seeds: Sequence[int] = (0,),
    quick: bool = False,
    data: str | None = None,
    out: str | None = None,
    docs: str | None = None,
) -> int:
    """Run the cells that are not finished, then print and write the tables.

    Arguments:
        cells: Names of cells or tables; all when omitted.
        methods: Which methods; all that a table compares when omitted.
        seeds: Seeds; each is a simulated data set.
        quick: Two cells with short recordings.
        data: Folder of the wiring's tables.
        out: Folder of the run folders and the tables.
        docs: A document to put the tables into.

    Returns:
        The exit code.
    """
    chosen = select_neurons(cells, methods, seeds, quick=quick)
    folder = Path(out or Path("runs", "reproduce-quick" if quick else "reproduce", "neurons"))
    if docs is not None:
        require_markers("neurons", Path(docs))
    print(f"wiring: {load_wiring(data).source}")
    run_neurons(chosen, folder, data, finished=_report)
    _show(folder, read_neurons(folder), docs)
    return 0


def _show(folder: Path, results: Finished, docs: str | None) -> None:
    """Print the tables, and write them with their figures."""
    grids, console = neurons_grids(folder, results), PlainConsole()
    for grid in grids:
        console.print(grid.rich())
    print(neurons_notes(results))
    text = "\n".join([neurons_notes(results) + "\n", *(grid.markdown() for grid in grids)])
    write_text(folder / "table.md", f"{text}\n{detail_grid(results).markdown()}")
    written = [folder / "table.md", save(plot_candidates(results), folder / "candidates.png")]
    if calibrated_folders(folder, results):
        written.append(save(plot_reliability(folder, results), folder / "reliability.png"))
    if docs is not None:
        written.append(put_between_markers("neurons", text, Path(docs)))
    for path in written:
        print(f"wrote {path}")
