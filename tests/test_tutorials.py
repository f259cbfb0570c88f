"""The tutorials run, say what their notebooks show, and reach what their text claims."""

from __future__ import annotations

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


def load(path: Path) -> Any:
    """A module that is no part of the package."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notebooks() -> Any:
    return load(ROOT / "scripts" / "notebooks.py")


def printed(notebook: dict[str, Any]) -> list[str]:
    """The text of all outputs, without numbers, which other machines round in another way."""
    texts = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("text") or output["data"]["text/plain"])
            texts.append("".join(NUMBER.sub("#", text).split()))
    return texts


def read(name: str) -> dict[str, Any]:
    """A notebook as it is in the folder."""
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return notebook


def run(notebooks: Any, name: str) -> dict[str, Any]:
    """The variables of a tutorial that was run; its outputs must be those it shows."""
    notebook = read(name)
    shown = printed(notebook)
    names: dict[str, Any] = notebooks.run(notebook)
    assert printed(notebook) == shown
    return names


def test_all_are_here_with_small_outputs() -> None:
    paths = sorted(FOLDER.glob("*.ipynb"))
    assert [path.stem for path in paths] == [
        "different-sizes",
        "permutation-layer",
        "sinkhorn-networks",
        "temperature",
    ]
    for path in paths:
        assert path.stat().st_size < 300_000
        cells = [cell for cell in read(path.stem)["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        lines = [line.rstrip("\n") for cell in cells for line in cell["source"]]
        assert max(map(len, lines)) <= 88


def test_sinkhorn_networks(notebooks: Any) -> None:
    names = run(notebooks, "sinkhorn-networks")
    assert names["counts"].tolist() == pytest.approx(names["logits"].softmax(-1).tolist(), abs=0.01)
    assert names["tau"] > 0.95
    assert names["exact"] > 0.95


def test_a_permutation_layer(notebooks: Any) -> None:
    names = run(notebooks, "permutation-layer")
    assert names["layer"].permutation.tolist() == names["cables"].tolist()
    tau = names["kendall_tau"](names["found"], names["perm"]).mean().item()
    assert names["n"] == 20
    assert tau > 0.9


def test_different_sizes(notebooks: Any) -> None:
    names = run(notebooks, "different-sizes")
    assert names["shares"].sum(0).tolist() == pytest.approx([4, 4])
    assert names["S"].isfinite().all()


def test_temperature(notebooks: Any) -> None:
    names = run(notebooks, "temperature")
    falls = {name: names["learn"](names["settings"][name])[0] for name in ("tau 5", "tau 0.01")}
    assert max(falls.values()) < 0.1
    assert names["exact"] > 0.95  # of the last, whose temperature falls


def test_pages_show_code_and_outputs() -> None:
    pytest.importorskip("mkdocs")
    notebook = read("sinkhorn-networks")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    data = [output.get("data", {}) for cell in cells for output in cell["outputs"]]
    page = load(ROOT / "docs" / "notebook_pages.py").to_markdown(notebook)
    assert page.startswith("# Latent permutations")
    assert "%matplotlib" not in page
    assert page.count("```python\n") == len(cells)
    assert page.count("data:image/png;base64,") == sum("image/png" in shown for shown in data) > 0
    assert "```{.text .output}\nsoftmax     tensor([0.6652" in page
