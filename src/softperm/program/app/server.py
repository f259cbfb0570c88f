"""The server of the page: its files, and what its scripts ask for.

It keeps nothing between requests, and the page asks for nothing from anywhere else.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import traceback
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from softperm.program.app import points, puzzle, sort
from softperm.program.schema import require_within, shorten

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_JSON = "application/json"
_LONGEST_TEXT = 100_000  # bytes of a request without a picture
_LARGEST_PICTURE = 32_000_000  # bytes
_PATIENCE = 30  # seconds to wait for a client that has begun to send
_computing = threading.Lock()  # one picture at a time: it may take a gigabyte

Query = dict[str, str]


class Endpoint(NamedTuple):
    """What a script of the page may ask for: an answer in JSON, or a picture in PNG."""

    compute: Callable[[bytes, Query], dict[str, Any] | bytes]
    most_bytes: int


def _read_json(body: bytes) -> dict[str, Any]:
    """The object that a request holds."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ValueError("the request must hold a JSON object")
    return values


def _sort(body: bytes, _: Query) -> dict[str, Any]:
    text = _read_json(body).get("numbers")
    if not isinstance(text, str):
        raise ValueError("numbers must be a text")
    return sort.sort(text)


def _match(body: bytes, _: Query) -> dict[str, Any]:
    values = _read_json(body)
    return points.match(values.get("first"), values.get("second"), values.get("reach"))


ENDPOINTS = {
    "/api/picture": Endpoint(lambda body, _: puzzle.open_picture(body), _LARGEST_PICTURE),
    "/api/scramble": Endpoint(
        lambda body, query: puzzle.scramble(body, query.get("pieces"), query.get("seed")),
        2 * _LARGEST_PICTURE,  # as PNG a picture may be larger than it came
    ),
    "/api/restore": Endpoint(
        lambda body, query: puzzle.restore(body, query.get("pieces"), query.get("order")),
        2 * _LARGEST_PICTURE,
    ),
    "/api/sort": Endpoint(_sort, _LONGEST_TEXT),
    "/api/points": Endpoint(_match, _LONGEST_TEXT),
}


def _static_files() -> dict[str, tuple[bytes, str]]:
    """The files of the page by their paths, with their types."""
    found = {}
    for file in (files("softperm.program.app") / "static").iterdir():
        suffix = os.path.splitext(file.name)[1]
        if suffix in _TYPES:
            found[f"/{file.name}"] = (file.read_bytes(), _TYPES[suffix])
    return {**found, "/": found["/index.html"]}


class _Handler(BaseHTTPRequestHandler):
    """Answer one client."""

    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    server: Page

    def do_GET(self) -> None:
        found = self.server.static.get(urlsplit(self.path).path)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        else:
            self._send(HTTPStatus.OK, *found)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        endpoint = ENDPOINTS.get(url.path)
        length = self.headers.get("Content-Length", "")
        if endpoint is None:
            self._refuse_unread(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif not (length.isascii() and length.isdecimal()):
            self._refuse_unread(HTTPStatus.LENGTH_REQUIRED, "the request must say how long it is")
        elif len(length) > 12 or int(length) > endpoint.most_bytes:
            most = f"{endpoint.most_bytes / 1e6:g} MB"
            self._refuse_unread(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {most} can be sent")
        else:
            body = self.rfile.read(int(length))
            self._answer(endpoint, body, dict(parse_qsl(url.query)))

    def _answer(self, endpoint: Endpoint, body: bytes, query: Query) -> None:
        """Compute and send; what goes wrong is told in one line."""
        try:
            with _computing:
                result = endpoint.compute(body, query)
        except (ValueError, TypeError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, shorten(str(error)))
        except MemoryError:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there is not enough memory")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._refuse(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f"unexpected {type(error).__name__}; please report it, with what the terminal says",
            )
        else:
            if isinstance(result, bytes):
                self._send(HTTPStatus.OK, result, "image/png")
            else:
                self._send(HTTPStatus.OK, json.dumps(result, allow_nan=False).encode(), _JSON)

    def _refuse_unread(self, status: HTTPStatus, message: str) -> None:
        """Tell what is wrong before the body is read, and end the connection."""
        self.close_connection = True
        self._refuse(status, message)
        self.connection.shutdown(socket.SHUT_WR)
        left = 4 * _LARGEST_PICTURE
        while left > 0 and (part := self.rfile.read1(2**16)):  # until it is sent, nobody listens
            left -= len(part)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Tell what is wrong."""
        self._send(status, json.dumps({"error": message}).encode(), _JSON)

    def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def version_string(self) -> str:
        return "softperm"

    def log_message(self, *_: object) -> None:
        """Leave the terminal quiet."""


class Page(ThreadingHTTPServer):
    """A server of the page that listens already.

    Arguments:
        host: Name or address to listen on.
        port: Port; 0 for any that is free.

    Raises:
        OSError: it cannot listen there, in a line that says why.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows two could listen on one port

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.static = _static_files()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(
                    f"port {port} of {host} is in use: choose another (--port)"
                ) from error
            raise OSError(f"cannot listen on port {port} of {host}: {error.strerror}") from error
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        name = f"[{shown}]" if ":" in shown else shown
        self.url = f"http://{name}:{self.server_address[1]}"

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without asking a name server who this is

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let clients go away when they like."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def launch(host: str = "127.0.0.1", port: int = 7860, open_browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Arguments:
        host: Name or address to listen on; with the default, no other machine can reach it.
        port: Port; 0 for any that is free.
        open_browser: Show it in the user's browser.

    Raises:
        TypeError, ValueError: the port is none.
        OSError: it cannot listen there, in a line that says why.
    """
    require_within(port, "port", 0, 65535)
    with Page(host, port) as page, suppress(KeyboardInterrupt):
        print(f"softperm: the page is at {page.url} (stop with Ctrl-C)", flush=True)
        if open_browser:  # in a thread, because a browser in the terminal holds on to its caller
            threading.Thread(target=webbrowser.open, args=[page.url], daemon=True).start()
        page.serve_forever()
