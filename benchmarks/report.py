"""What the benchmarks found: tables on the console and in the documentation, a chart, and a list
of everything that was ever measured.
"""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure
from plain import THREADS
from rich.console import Console
from rich.table import Table

import softperm
from softperm.kernels.cpu import library

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"
CHART = DOCS / "performance.png"
ALL_RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("date", "version", "machine", "threads", "section", "size", "contender", "seconds")
OURS = "softperm"
QUICK = "a short trial: few repeats, nothing is written"
Size = tuple[int, int]  # batch, n
# Seconds of every contender at every size; a size may need more words than two numbers.
Results = Mapping[Size, Mapping[str, float]] | Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Cells:
    """A table, for the console and for Markdown."""

    header: list[str]
    rows: list[list[str]]

    def print(self, title: str) -> None:
        table = Table(*self.header, title=title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        Console(width=140).print(table)

    def markdown(self) -> str:
        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows))


def short(number: float) -> str:
    """Three digits, never in powers of ten."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def label(size: Size | str) -> str:
    """How a table names a size."""
    return size if isinstance(size, str) else " x ".join(map(str, size))


def ratio_table(
    results: Results, is_rival: Callable[[str], bool] = lambda _: True, sizes: str = "batch x n"
) -> Cells:
    """Our milliseconds at every size, and how many times as long the others take.

    With several others the third column is the least ratio of the rivals, and says whose it is.
    """
    others = [name for name in next(iter(results.values())) if name != OURS]
    several = len(others) > 1
    header, rows = [sizes, OURS, *(["best of the others"] * several), *others], []
    for size, times in results.items():
        ratios = {name: times[name] / times[OURS] for name in others}
        row = [label(size), f"{short(times[OURS] * 1e3)} ms"]
        if several:
            best = min(filter(is_rival, others), key=ratios.__getitem__)
            row.append(f"{short(ratios[best])}x ({best})")
        rows.append(row + [f"{short(ratios[name])}x" for name in others])
    return Cells(header, rows)


def cpu() -> str:
    """The processor's name, with family and model, which say more than some names do."""
    if sys.platform != "linux":
        return platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in facts:
        return platform.machine()
    vectors = "AVX-512" if "avx512f" in facts["flags"] else "AVX2" * ("avx2" in facts["flags"])
    family, model = facts["cpu family"], facts["model"]
    return f"{facts['model name']} (family {family}, model {model}, {vectors or 'no AVX2'})"


def require_kernels() -> None:
    """Refuse to measure what is not there."""
    if not library.is_available():
        sys.exit("The benchmarks need the compiled kernels: install again with a C++ compiler")


def instruction_set() -> str:
    """The one that the compiled kernels in use were built for."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return f"x86-64-v{library._load(0).softperm_level() + 2}" if is_x86 else platform.machine()


def machine(packages: Sequence[str]) -> str:
    """One paragraph on what the figures were measured on."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"{cpu()}, {os.cpu_count()} cores, {THREADS} threads used; kernels built for "
        f"{instruction_set()}; {platform.system()}, Python {platform.python_version()}, {versions}."
    )


def write_sections(sections: dict[str, str], page: Path = PAGE) -> None:
    """Replace what stands between the markers of every section; the prose around it stays."""
    text = page.read_text(encoding="utf-8")
    for name, content in sections.items():
        begin, end = f"<!-- {name}: written by benchmarks/ -->", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page.name} must hold one {begin!r} and one {end!r}")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"
    page.write_text(text, encoding="utf-8")


def record(results: Mapping[str, Results], kernels: str | None = None) -> None:
    """Append the seconds of every section to the list of everything that was ever measured.

    Arguments:
        results: The seconds.
        kernels: What the kernels were built for, where not for this processor.
    """
    when, where = date.today().isoformat(), f"{cpu()}, {kernels or instruction_set()}"
    is_new = not ALL_RESULTS.exists()
    with ALL_RESULTS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerows(
            (when, softperm.__version__, where, THREADS, section, label(size), name, f"{taken:.4g}")
            for section, sizes in results.items()
            for size, times in sizes.items()
            for name, taken in times.items()
        )


def publish(tables: Mapping[str, Cells], results: Mapping[str, Results]) -> None:
    """Put tables into the documentation, and what they were made of on the list."""
    write_sections({name: table.markdown() for name, table in tables.items()})
    record(results)
    print(f"written: docs/{PAGE.name}, benchmarks/{ALL_RESULTS.name}")


def draw(panels: dict[str, dict[Size, dict[str, float]]]) -> Figure:
    """Microseconds per matrix against n, both logarithmic, one line per contender."""
    figure = Figure(figsize=(6.2 * len(panels), 5.2), layout="constrained")
    for axes, (title, results) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        sizes = sorted(results, key=lambda size: size[1])
        for i, name in enumerate(next(iter(results.values()))):
            micros = [results[batch, n][name] / batch * 1e6 for batch, n in sizes]
            style = {"color": "black", "linewidth": 2.5} if name == OURS else {"color": f"C{i}"}
            axes.plot([n for _, n in sizes], micros, marker="o", markersize=4, label=name, **style)
        axes.set(title=title, xlabel="n", ylabel="microseconds per matrix", xscale="log")
        axes.set_yscale("log")
        axes.set_xticks([n for _, n in sizes], labels=[str(n) for _, n in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure
