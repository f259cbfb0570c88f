"""Notebooks as pages: a hook for MkDocs that shows the outputs they hold, and runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_SUFFIX = ".ipynb"
_NOTE = "*This page is the notebook `docs/{}`, which the tests run.*"


class _Notebook(File):
    """A notebook, which is a page although its name does not end in .md."""

    def is_documentation_page(self) -> bool:
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make pages of the notebooks."""
    for file in [file for file in files if file.src_uri.endswith(_SUFFIX)]:
        files.remove(file)
        given = (config.docs_dir, config.site_dir, config.use_directory_urls)
        files.append(_Notebook(file.src_uri, *given))
    return files


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    """The Markdown of a notebook; nothing for other pages, which MkDocs reads itself."""
    path = Path(config.docs_dir, page.file.src_uri)
    if path.suffix != _SUFFIX:
        return None
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return to_markdown(notebook) + "\n\n" + _NOTE.format(page.file.src_uri)


def to_markdown(notebook: dict[str, Any]) -> str:
    """The cells of a notebook, and below every cell with code what it gave."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            lines = [line for line in source.splitlines() if not line.startswith("%")]
            parts.append("```python\n" + "\n".join(lines) + "\n```")
            parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    """What a cell printed or drew."""
    data = output.get("data", {})
    if "image/png" in data:
        source = f"data:image/png;base64,{data['image/png']}"
        return f'<p><img alt="What the cell above draws" src="{source}"></p>'
    text = "".join(output.get("text") or data["text/plain"]).rstrip("\n")
    return f"```{{.text .output}}\n{text}\n```"
