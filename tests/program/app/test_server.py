"""The server of the page: what it sends, what it refuses, how it starts and stops."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

import softperm.program.app.server as module
from softperm.program.app import launch
from softperm.program.app.server import ENDPOINTS, Endpoint, Page
from softperm.program.errors import guarded
from tests.program.app.pictures import digit, encoded

STATIC = Path(module.__file__).parent / "static"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with Page("127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def connection(page: Page) -> Iterator[HTTPConnection]:
    client = HTTPConnection("127.0.0.1", page.server_address[1], timeout=20)
    yield client
    client.close()


def post(
    connection: HTTPConnection, path: str, body: bytes | str, **headers: str
) -> tuple[HTTPResponse, Any]:
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    data = response.read()
    return response, json.loads(data) if response.headers["Content-Type"] != "image/png" else data


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir()))
def test_every_file_is_served(connection: HTTPConnection, name: str) -> None:
    connection.request("GET", f"/{name}?x=1")
    response = connection.getresponse()
    assert response.status == 200
    assert response.read() == (STATIC / name).read_bytes()
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_the_first_page(connection: HTTPConnection) -> None:
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.read() == (STATIC / "index.html").read_bytes()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    connection.request("HEAD", "/")
    response = connection.getresponse()
    assert response.read() == b""
    assert int(response.headers["Content-Length"]) == (STATIC / "index.html").stat().st_size


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.[a-z]", text), path.name


@pytest.mark.parametrize(
    "path", ["/x", "/../server.py", "/static/app.js", "/%2e%2e/server.py", "/api/sort"]
)
def test_nothing_else_is_served(connection: HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 404
    assert json.loads(response.read()) == {"error": "there is nothing here"}


def test_a_picture_goes_all_the_way(connection: HTTPConnection) -> None:
    response, picture = post(connection, "/api/picture", encoded(digit(), "JPEG"))
    assert response.status == 200
    _, state = post(connection, "/api/scramble?pieces=3&seed=1", picture)
    order = ",".join(map(str, state["order"]))
    _, found = post(connection, f"/api/restore?pieces=3&order={order}", picture)
    assert found["wrong"] == 0
    assert 0 < found["seconds"] < 60


def test_sort_and_points(connection: HTTPConnection) -> None:
    _, found = post(connection, "/api/sort", json.dumps({"numbers": "2 1"}))
    assert found["sorted"] == [1.0, 2.0]
    _, found = post(connection, "/api/points", '{"first": [[0, 0]], "second": [[1, 1]]}')
    assert found["partners"] == [0]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/nothing", b"{}", 404, "there is nothing here"),
        ("/api/sort", b"", 400, "must hold a JSON object"),
        ("/api/sort", b"[1]", 400, "must hold a JSON object"),
        ("/api/sort", b"\xff{", 400, "must hold a JSON object"),
        ("/api/sort", b"[" * 90_000, 400, "must hold a JSON object"),
        ("/api/sort", b'{"numbers": 1}', 400, "numbers must be a text"),
        ("/api/sort", b'{"numbers": "1 b"}', 400, "'b' is no number"),
        ("/api/sort", b" " * 100_001, 413, "at most 0.1 MB can be sent"),
        ("/api/points", b'{"first": [[0, 1e999]], "second": [[0, 0]]}', 400, "a point of first"),
        ("/api/picture", b"no picture", 400, "it is no PNG, JPEG, BMP or WebP"),
        ("/api/scramble?seed=1", encoded(digit(40)), 400, "pieces must be 2, 3, 4 or 5"),
        ("/api/restore?pieces=2&order=9", encoded(digit(40)), 400, "order must hold"),
    ],
)
def test_wrong_requests_get_one_line(
    connection: HTTPConnection, path: str, body: bytes, status: int, words: str
) -> None:
    response, told = post(connection, path, body)
    assert response.status == status
    assert words in told["error"]
    assert "\n" not in told["error"]


@pytest.mark.parametrize("length", ["", "-1", "x", "9" * 5000, "1e3"])
def test_wrong_lengths(connection: HTTPConnection, length: str) -> None:
    response, told = post(connection, "/api/sort", b"", **{"Content-Length": length})
    assert response.status in (411, 413)
    assert told["error"]
    assert response.headers["Connection"] == "close"


def test_what_is_unexpected_is_told_without_its_inside(
    connection: HTTPConnection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> bytes:
        raise KeyError("secret")

    monkeypatch.setitem(ENDPOINTS, "/api/sort", Endpoint(fail, 10))
    response, told = post(connection, "/api/sort", b"{}")
    assert response.status == 500
    assert told["error"].startswith("unexpected KeyError; please report it")
    assert "KeyError: 'secret'" in capsys.readouterr().err


def test_clients_that_leave_disturb_nobody(
    page: Page, connection: HTTPConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    for sent in (b"", b"POST /api/sort HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", page.server_address[1])) as client:
            client.sendall(sent)
    _, found = post(connection, "/api/sort", '{"numbers": "2 1"}')
    assert found["sorted"] == [1.0, 2.0]
    assert capsys.readouterr().err == ""


def test_a_port_in_use_is_one_line_and_a_code(
    page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    port = page.server_address[1]

    def work() -> int:
        launch(port=port, open_browser=False)
        return 0

    assert guarded(work) == 1
    line = f"softperm: error: port {port} of 127.0.0.1 is in use: choose another (--port)\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("127.0.0.1", -1, "port must be between 0 and 65535, got -1"),
        ("127.0.0.1", 65536, "port must be"),
        ("192.0.2.1", 0, "cannot listen on port 0 of 192.0.2.1: "),
        ("no such host", 0, "cannot listen on port 0 of no such host: "),
    ],
)
def test_where_it_cannot_listen(host: str, port: int, words: str) -> None:
    with pytest.raises((OSError, ValueError), match=re.escape(words)) as caught:
        launch(host, port, open_browser=False)
    assert "None" not in str(caught.value)


def test_launch_shows_the_page_and_ends_with_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    opened = threading.Event()

    def show(url: str) -> None:
        shown.append(url)
        opened.set()

    def interrupt(_: Page) -> None:
        assert opened.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", show)
    monkeypatch.setattr(Page, "serve_forever", interrupt)
    launch(port=0)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", shown[0])
    assert shown[0] in capsys.readouterr().out
    launch(port=0, open_browser=False)
    assert len(shown) == 1


def test_addresses_as_they_are_shown() -> None:
    with Page("0.0.0.0", 0) as page:
        assert page.url == f"http://127.0.0.1:{page.server_address[1]}"
