"""Run the tutorials and write what they print and draw into them.

python scripts/notebooks.py [NOTEBOOK...]
"""

from __future__ import annotations

import argparse
import ast
import json
from base64 import b64encode
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from softperm._files import write_text

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
_DPI = 72


def _picture(figure: Figure) -> str:
    """A figure as PNG in base64."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return b64encode(file.getvalue()).decode()


def _shown(value: object) -> dict[str, Any]:
    """What a notebook shows of the value of a cell."""
    if isinstance(value, Figure):
        return {"image/png": _picture(value), "text/plain": ["a figure"]}
    return {"text/plain": repr(value).splitlines(keepends=True)}


def run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run one cell; what it prints, and the value of its last line.

    Arguments:
        source: The code. Lines that begin with % are for Jupyter alone.
        names: The variables, read and written.
        number: The number of the cell among those with code.

    Returns:
        Outputs in the format of notebooks.
    """
    code = "\n".join("" if line.startswith("%") else line for line in source.splitlines())
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    printed, value = StringIO(), None
    with redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            del tree.body[-1]
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": text})
    if value is not None:
        result = {"data": _shown(value), "execution_count": number, "metadata": {}}
        outputs.append({**result, "output_type": "execute_result"})
    return outputs


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """The variables that a notebook leaves; its outputs are replaced by new ones."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    number = 0
    with torch.random.fork_rng(devices=[]):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number += 1
                cell["outputs"] = run_cell("".join(cell["source"]), names, number)
                cell["execution_count"] = number
    return names


def main() -> None:
    """Run the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path, nargs="*", metavar="NOTEBOOK")
    for path in parser.parse_args().notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        run(notebook)
        write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
