"""The page to play with: puzzles, sorting and points, served to a browser on this machine."""

from softperm.program.app.server import launch

__all__ = ["launch"]
