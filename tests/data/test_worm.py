"""Reading the wiring of the worm, and the synthetic one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest
import torch

from softperm.data import worm
from softperm.data.worm import load_wiring, synthetic_wiring
from tests.data.site import Site

WORM = Path(os.environ.get("SOFTPERM_DATA", ""), "celegans")
real = pytest.mark.skipif(not WORM.is_dir(), reason="SOFTPERM_DATA has no celegans")

TYPES = "Neuron,Soma Position,Soma Region\nA,0.1,H\nB,0.2,H\nC,0.9,T\n"
CONNECTIONS = (
    "Neuron 1,Neuron 2,Type,Nbr,\n"
    "A,B,S,1,\nB,C,Sp,2,\nA,C,EJ,1,\nC,A,R,1,\nB,A,Rp,1,\nA,NMJ,NMJ,3,\nX,A,S,1,\n"
)


def tables(folder: Path, types: str = TYPES, connections: str = CONNECTIONS) -> Path:
    (folder / "NeuronType.csv").write_text(types)
    (folder / "NeuronConnect.csv").write_text(connections)
    return folder


def test_what_acts_on_what(tmp_path: Path) -> None:
    wiring = load_wiring(tables(tmp_path))
    assert wiring.names == ("A", "B", "C")
    assert wiring.position.tolist() == [0.1, 0.2, 0.9]
    # Rows are acted on: B by A, C by B, and A and C by each other; R and Rp say the same again.
    assert wiring.adjacency.int().tolist() == [[0, 0, 1], [1, 0, 0], [1, 1, 0]]
    assert wiring.density == 4 / 9


@real
def test_the_worm() -> None:
    wiring = load_wiring()
    assert wiring.source == "C. elegans"
    assert len(wiring.names) == 279
    assert int(wiring.adjacency.sum()) == 2993
    assert (wiring.adjacency.any(0) | wiring.adjacency.any(1)).all()


@pytest.mark.parametrize(
    ("types", "connections", "message"),
    [
        ("", CONNECTIONS, "NeuronType.csv must begin with the columns"),
        (TYPES, "from,to\n", "NeuronConnect.csv must begin with the columns"),
        (TYPES.replace("0.9", "2"), CONNECTIONS, "line 4: position must be from 0 to 1, got '2'"),
        (TYPES.replace("0.9", "nan"), CONNECTIONS, "position must be from 0 to 1"),
        (TYPES.replace("C,", "A,"), CONNECTIONS, "every neuron must be there once, got 'A'"),
        (TYPES + "D\n", CONNECTIONS, "line 5 must hold Neuron, Soma Position"),
        (TYPES, CONNECTIONS.split("\n")[0] + "\n", "must hold connections"),
        (TYPES.split("B")[0], CONNECTIONS, "at least 2 neurons, got 1"),
        (TYPES, CONNECTIONS + '"', "is no table"),
    ],
)
def test_damaged_tables(tmp_path: Path, types: str, connections: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_wiring(tables(tmp_path, types, connections))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with small tables, in the folder `site`; an empty cache, and no data of the user."""
    (tmp_path / "site").mkdir()
    files = [path.read_bytes() for path in map(tables(tmp_path / "site").joinpath, worm._SHA256)]
    site = Site(tmp_path / "site")
    monkeypatch.delenv("SOFTPERM_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(worm, "_BASE_URLS", (site.url,))
    hashes = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in zip(worm._SHA256, files, strict=True)
    }
    monkeypatch.setattr(worm, "_SHA256", hashes)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    worm._downloaded.cache_clear()
    yield site
    worm._downloaded.cache_clear()
    site.close()


@pytest.mark.parametrize("named", [False, True])
def test_tables_are_downloaded_once(
    site: Site, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:  # a folder that has no celegans
        monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path))
    for _ in range(2):
        worm._downloaded.cache_clear()
        wiring = load_wiring()
        assert wiring.source == "C. elegans"
        assert wiring.names == ("A", "B", "C")
        assert sorted(site.requests) == ["NeuronConnect.csv", "NeuronType.csv"]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_without_tables_the_wiring_is_synthetic_and_says_so(
    site: Site, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "site" / "NeuronConnect.csv"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(CONNECTIONS.replace("EJ", "S"))
    wiring = load_wiring()
    (warned,) = (record.getMessage() for record in caplog.records if record.name == "softperm")
    assert re.match(f"cannot download {path.name} .*{site.url}.*synthetic", warned)
    assert "synthetic" in wiring.source
    assert (len(wiring.names), int(wiring.adjacency.sum())) == (279, 2993)
    with pytest.raises(FileNotFoundError, match="must hold NeuronType"):
        load_wiring(tmp_path)


@real
def test_the_checksums_are_those_of_the_tables() -> None:
    for name, expected in worm._SHA256.items():
        assert hashlib.sha256((WORM / name).read_bytes()).hexdigest() == expected


def test_a_synthetic_wiring_connects_all_and_has_hubs() -> None:
    wiring = synthetic_wiring()
    assert wiring.adjacency.any(0).all()
    assert wiring.adjacency.any(1).all()
    assert not wiring.adjacency.diagonal().any()
    assert int(wiring.adjacency.sum(1).max()) > 30  # the worm: 83, a uniform one: about 20
    assert (wiring.position.diff() >= 0).all()
    assert torch.equal(wiring.adjacency, synthetic_wiring().adjacency)
    assert not torch.equal(wiring.adjacency, synthetic_wiring(seed=1).adjacency)


@pytest.mark.parametrize(("n", "entries"), [(1, 1), (5, 4), (5, 21)])
def test_impossible_sizes(n: int, entries: int) -> None:
    with pytest.raises(ValueError, match="n_neurons"):
        synthetic_wiring(n, entries)
