"""A web server on this machine, for downloads."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    def __init__(self, requests: list[str], *args: Any, **kwargs: Any) -> None:
        self.requests = requests
        super().__init__(*args, **kwargs)

    def log_message(self, *args: object) -> None:
        self.requests.append(self.path.rsplit("/", 1)[-1])


class Site:
    """A web server on this machine for the time of a test."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        handler = partial(Handler, self.requests, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
