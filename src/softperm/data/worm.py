"""The wiring of the worm C. elegans: which of its 279 neurons is connected with which."""

from __future__ import annotations

import csv
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from softperm.data._download import fetch

_log = logging.getLogger("softperm")
_TYPES, _CONNECTIONS = "NeuronType.csv", "NeuronConnect.csv"
# The tables as an author of the paper keeps them, beside the code of an earlier paper.
_BASE_URLS = (
    "https://raw.githubusercontent.com/slinderman/birkhoff/"
    "39c92b74a6dc63215da18eeb1e98c4039be0de1d/data/",
)
_SHA256 = {
    _TYPES: "4dda526e11fea2e455390e9750c640d203c3912bf8f98ca2483b3caafa4f5084",
    _CONNECTIONS: "e966a6b99d7fee34417353ffbf22789181ca52e9fb3f53df43843f0645b4de78",
}
_CHEMICAL, _GAP_JUNCTION = ("S", "Sp"), "EJ"
_N_NEURONS, _N_ENTRIES = 279, 2993  # of the worm, and so of a synthetic wiring
_SPREAD = 0.75  # of the logarithms of degrees; gives hubs such as the worm has


@dataclass(frozen=True)
class Wiring:
    """Neurons, where they lie, and how they are connected.

    Arguments:
        names: Names of the n neurons.
        position: Where along the body each is, 0 at the head and 1 at the tail, float64, (n,).
        adjacency: Whether neuron j acts on neuron i, bool, (n, n).
        source: Where it comes from, in words.
    """

    names: tuple[str, ...]
    position: Tensor
    adjacency: Tensor
    source: str

    @property
    def density(self) -> float:
        """Share of the pairs that are connected."""
        return self.adjacency.double().mean().item()


def load_wiring(folder: str | Path | None = None) -> Wiring:
    """The wiring of C. elegans from its two tables, or a synthetic one where they are not there.

    Neuron j acts on i through a chemical synapse (types S and Sp, from the first neuron to the
    second) or a gap junction (EJ, both ways). The tables are those of WormAtlas.

    Arguments:
        folder: Where NeuronType.csv and NeuronConnect.csv are. When omitted they are read from
            $SOFTPERM_DATA/celegans. Where that is not there, they are downloaded once, with
            checksums, into the user's cache; where that fails, the logger "softperm" warns, and the
            wiring is `synthetic_wiring`.

    Raises:
        ValueError: a table is damaged.
        OSError: a table is missing from a folder that was given.

    Source: Varshney et al., "Structural properties of the C. elegans neuronal network", 2011.

    Example:
        >>> load_wiring("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder must hold NeuronType.csv and NeuronConnect.csv
    """
    if folder is None:
        folder = _folder_of_the_user() or _downloaded()
        if folder is None:
            return synthetic_wiring()
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (_TYPES, _CONNECTIONS)):
        raise FileNotFoundError(f"{folder} must hold {_TYPES} and {_CONNECTIONS}")
    position = _read_positions(folder / _TYPES)
    adjacency = _read_connections(folder / _CONNECTIONS, list(position))
    values = torch.tensor(list(position.values()), dtype=torch.float64)
    return Wiring(tuple(position), values, adjacency, "C. elegans")


def _folder_of_the_user() -> Path | None:
    """$SOFTPERM_DATA/celegans, if it is there."""
    named = os.environ.get("SOFTPERM_DATA")
    folder = Path(named or "", "celegans")
    return folder if named and folder.is_dir() else None


@cache  # so that all runs of a program have the same wiring
def _downloaded() -> Path | None:
    """The folder of the tables in the user's cache; a warning and None where there is no getting
    them.
    """
    try:
        paths = [fetch(name, _BASE_URLS, known, "celegans") for name, known in _SHA256.items()]
    except (OSError, ModuleNotFoundError) as error:
        _log.warning(
            "%s; a synthetic wiring takes the place of the worm's. Set SOFTPERM_DATA to a folder "
            "with %s and %s in celegans, or install softperm[train]",
            *(error, _TYPES, _CONNECTIONS),
        )
        return None
    return paths[0].parent


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """Number and fields of every line of a table below its header, which must begin as given."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no table: {error}") from error
    header = tuple(field.strip() for field in lines[0][: len(columns)]) if lines else ()
    if header != columns:
        raise ValueError(f"{path} must begin with the columns {', '.join(columns)}")
    rows = [(i, [field.strip() for field in line]) for i, line in enumerate(lines[1:], 2) if line]
    for i, row in rows:
        if len(row) < len(columns):
            raise ValueError(f"{path}, line {i} must hold {', '.join(columns)}")
    return rows


def _read_positions(path: Path) -> dict[str, float]:
    """Position of every neuron, in the order of the table."""
    positions: dict[str, float] = {}
    for i, (name, text, *_) in _rows(path, ("Neuron", "Soma Position")):
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise ValueError(f"{path}, line {i}: position must be from 0 to 1, got {text[:40]!r}")
        if not name or name in positions:
            raise ValueError(f"{path}, line {i}: every neuron must be there once, got {name!r}")
        positions[name] = value
    if len(positions) < 2:
        raise ValueError(f"{path} must hold at least 2 neurons, got {len(positions)}")
    return positions


def _read_connections(path: Path, names: list[str]) -> Tensor:
    """The adjacency matrix; connections with what is no neuron of the list are left out."""
    index = {name: i for i, name in enumerate(names)}
    adjacency = torch.zeros(len(names), len(names), dtype=torch.bool)
    for _, (first, second, kind, *_) in _rows(path, ("Neuron 1", "Neuron 2", "Type")):
        if first not in index or second not in index:
            continue
        a, b = index[first], index[second]
        if kind in (*_CHEMICAL, _GAP_JUNCTION):
            adjacency[b, a] = True
        if kind == _GAP_JUNCTION:
            adjacency[a, b] = True
    if not adjacency.any():
        raise ValueError(f"{path} must hold connections between the neurons of {_TYPES}")
    return adjacency


def synthetic_wiring(
    n_neurons: int = _N_NEURONS, n_entries: int = _N_ENTRIES, seed: int = 0
) -> Wiring:
    """A random wiring with hubs, of the worm's size and density when no numbers are given.

    Every neuron lies on one random cycle, so that none is without connections. The other entries
    are drawn without replacement, in proportion to in-strength times out-strength, both log-normal.

    Arguments:
        n_neurons: Number n of neurons, at least 2.
        n_entries: Entries of the adjacency matrix, from n to n (n - 1); none is on the diagonal.
        seed: Seed of all of it.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> wiring = synthetic_wiring()
        >>> len(wiring.names), int(wiring.adjacency.sum())
        (279, 2993)
    """
    n = n_neurons
    if n < 2 or not n <= n_entries <= n * (n - 1):
        raise ValueError(
            f"n_neurons must be at least 2 and n_entries from n to n (n - 1), got {n} and "
            f"{n_entries}"
        )
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(n, generator=generator, dtype=torch.float64).sort().values
    strength = _SPREAD * torch.randn(2, n, generator=generator)
    noise = -torch.empty(n, n).exponential_(generator=generator).log()
    score = strength[0][:, None] + strength[1] + noise  # the largest ones are such a draw
    cycle = torch.randperm(n, generator=generator)
    score[cycle, cycle.roll(1)] = torch.inf
    score.fill_diagonal_(-torch.inf)
    adjacency = torch.zeros(n * n, dtype=torch.bool)
    adjacency[score.flatten().topk(n_entries).indices] = True
    names = tuple(f"N{i:03d}" for i in range(n))
    hundredths = (100 * position).round() / 100  # as the worm's are known
    return Wiring(names, hundredths, adjacency.view(n, n), "a synthetic wiring, not C. elegans")
