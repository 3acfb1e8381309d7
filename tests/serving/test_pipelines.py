"""Pipelines whose connection ends: the running request is notified, and its answer stays intact."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

from tests.serving.guarded import Guarded, guarded

MIB = 1_048_576


class Endless:
    """Streams on `/stream` until its caller leaves; answers all else after `go` is set."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.go = threading.Event()
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        headers = [] if scope["path"] == "/stream" else [(b"content-length", b"2")]
        if scope["path"] == "/late":
            await asyncio.to_thread(self.go.wait, 10)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] != "/stream":
            await send({"type": "http.response.body", "body": b"ok"})
            return
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


@pytest.fixture
def app() -> Endless:
    return Endless()


@pytest.fixture
def server(app: Endless) -> Generator[Guarded]:
    with guarded(app, lifespan="off") as running:
        yield running


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def test_a_stream_hears_that_its_caller_left_though_a_request_waits_behind_it(server: Guarded, app: Endless) -> None:
    with server.connect(get("/stream") + get("/behind")) as sock:
        while b"begun" not in sock.recv(65_536):
            pass
    assert app.left.wait(5)
    assert server.ask(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").endswith(b"ok")
    assert "/behind" not in app.paths


@pytest.mark.parametrize(
    "behind",
    [get("/b") * 40, get("/b") + b"\0garbage\r\n\r\n", get("/b") + b"A" * 100_000],
    ids=["many", "garbage", "large"],
)
def test_what_is_refused_behind_a_stream_does_not_get_into_it(server: Guarded, app: Endless, behind: bytes) -> None:
    answer = server.ask(get("/stream") + behind)
    assert answer.count(b"HTTP/1.1 ") <= 1
    if answer.startswith(b"HTTP/1.1 200"):
        assert b"error" not in answer
        assert app.left.wait(5)


@pytest.mark.parametrize("behind", [get("/b") * 40, get("/b") + b"\0garbage\r\n\r\n"], ids=["many", "garbage"])
def test_what_is_refused_behind_an_answer_that_has_not_begun_is_not_logged(
    server: Guarded, app: Endless, behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = server.ask(get("/late") + behind)
    app.go.set()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.split()[1] in {b"400", b"429"}
    assert server.ask(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").endswith(b"ok")
    assert app.paths == ["/late", "/health"]
    assert not caplog.records


def test_an_endless_body_of_a_get_whose_answer_is_endless_is_cut(server: Guarded, app: Endless) -> None:
    sent = 0
    with server.connect(b"GET /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n") as sock:
        while b"begun" not in sock.recv(65_536):
            pass
        with suppress(ConnectionError):
            while sent < 64 * MIB:
                sent += sock.send(bytes(65_536))
    assert sent < 64 * MIB
    assert app.left.wait(5)
