"""A run folder that nobody else gets hold of while it is made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from softperm._files import appearing, write_text
from softperm._lock import Lock, locked


@contextmanager
def new_folder(folder: Path, files: Mapping[str, str]) -> Iterator[Lock]:
    """Make a run folder that holds some text files, whole or not at all, and keep every other
    process from it: there is no moment at which it is there and free.

    Raises:
        Busy: another process was quicker, and writes to it.
        FileExistsError: the folder is there already.
        OSError: it cannot be written.
    """
    with ExitStack() as stack:
        try:
            with appearing(folder) as temporary:
                if os.name != "nt":  # a folder with an open file cannot be renamed there
                    lock = stack.enter_context(locked(temporary))
                for name, text in files.items():
                    write_text(temporary / name, text)
        except OSError as error:
            if not folder.exists():
                raise
            with locked(folder):
                raise FileExistsError(f"{folder} was made by another process meanwhile") from error
        if os.name == "nt":
            lock = stack.enter_context(locked(folder))
        lock.folder = folder
        yield lock
