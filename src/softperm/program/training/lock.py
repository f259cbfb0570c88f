"""One writer per run folder."""

from softperm._lock import Busy, Lock, locked

__all__ = ["Busy", "Lock", "locked"]
