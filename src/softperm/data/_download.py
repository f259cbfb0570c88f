"""Files from the internet, kept in the user's cache."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten


def fetch(name: str, bases: Iterable[str], sha256: str, folder: str) -> Path:
    """The file called `name` in the user's cache, fetched if it is not there or damaged.

    Arguments:
        name: Name of the file.
        bases: Addresses to which the name is appended; the first one that works is taken.
        sha256: Checksum that the file must have.
        folder: Folder in the user's cache for softperm.

    Raises:
        OSError: no address gives a file of that checksum.
        ModuleNotFoundError: pooch is not installed.
    """
    import pooch

    failures: list[str] = []
    for base in bases:
        try:
            path = pooch.retrieve(
                base + name,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=pooch.os_cache("softperm") / folder,
                progressbar=True,
            )
            return Path(path)
        except (OSError, ValueError) as error:
            failures.append(f"{base}: {type(error).__name__}: {shorten(str(error), 200)}")
    raise OSError(f"cannot download {name} ({', '.join(failures)})")
