"""What somebody may have meant who gave a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question to end a message with; empty where no known name is near.

    Example:
        >>> did_you_mean("eposch", ["epochs", "seed"])
        ': did you mean epochs?'
        >>> did_you_mean("x", ["epochs"])
        ''
    """
    lower = {other.lower(): other for other in known}
    near = get_close_matches(str(name).lower(), lower, n=1, cutoff=0.6)
    return f": did you mean {lower[near[0]]}?" if near else ""
