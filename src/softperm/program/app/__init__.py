"""The page to play with: puzzles, sorting and points, served to a browser on this machine."""

from softperm.program.app.server import launch

__all__ = ["launch", "serve"]


def serve(host: str, port: int, open_browser: bool) -> int:
    """Serve the page as a command does: 0 when it was stopped."""
    launch(host, port, open_browser)
    return 0
