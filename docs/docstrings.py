"""Docstrings as the pages need them.

They are written for `help()` and editors, with formulas as reStructuredText has them; what
mkdocstrings would show as plain text, or misread, is rewritten when the pages are built.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n\1 +\S.*)*)$", re.MULTILINE)
_ROLE = re.compile(r":math:`([^`]+)`")
_BREAK = re.compile(r" *\\q?quad\n")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_SOURCE = re.compile(r"^Source: .*(?:\n +\S.*)+$", re.MULTILINE)


def _block(match: re.Match[str]) -> str:
    """A formula as a paragraph of its own, broken where a line of its source ends in a gap."""
    indent, formula = match.groups()
    formula = "\n".join(line.strip() for line in formula.strip().splitlines())
    if _BREAK.search(formula):
        formula = _BREAK.sub(r" \\\\[0.5em]" + "\n", formula)
        formula = f"\\begin{{gathered}}\n{formula}\n\\end{{gathered}}"
    return "\n".join(indent + line for line in f"$$\n{formula}\n$$".splitlines())


def to_markdown(docstring: str) -> str:
    """The docstring with formulas between dollar signs, and sections by the names griffe knows."""
    text = _ROLE.sub(r"$\1$", _BLOCK.sub(_block, docstring))
    text = _EXAMPLE.sub("Examples:", text)  # else an admonition, in which >>> are quotations
    return _SOURCE.sub(lambda match: re.sub(r"\n +", "\n", match[0]), text)  # else one as well


class Rewritten(griffe.Extension):
    """Rewrites the docstring of everything that has one."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
