"""The way into the program: a signal meets a handler before anything that takes long is loaded."""

from __future__ import annotations

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
        leave_on_signal()
    from softperm.program.commandline import run
    from softperm.program.errors import give_up_output, guarded, show_every_name

    if argv is not None:
        return guarded(lambda: run(argv))
    show_every_name()
    code = guarded(lambda: run(sys.argv[1:]))
    give_up_output()
    return code


if __name__ == "__main__":
    sys.exit(main())
