"""The way into the program: a signal meets a handler before anything that takes long is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from softperm.program.training.signals import leave_on_signal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Arguments:
        argv: The arguments; those of the process when omitted.

    Returns:
        The exit code: 0 when all went well, else one of `softperm.program.errors.Code`, or 128 +
        the signal that asked to stop.
    """
    if argv is None:
        open_closed_streams()
        leave_on_signal()
    from softperm.program.commandline import run
    from softperm.program.errors import give_up_output, guarded, show_every_name

    if argv is not None:
        return guarded(lambda: run(argv))
    show_every_name()
    code = guarded(lambda: run(sys.argv[1:]))
    give_up_output()
    return code


def open_closed_streams() -> None:
    """Give the standard streams that the caller closed to nobody, as `/dev/null` would.

    Otherwise the next file that is opened gets the number of one, and what is meant for the
    terminal is written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number, which is that of the stream.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
