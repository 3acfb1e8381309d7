"""Servers with several processes: `serve --workers`, and others, which the module notices."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from tests.gateway.sse import EventSource
from tests.serving.conftest import Pki
from tests.serving.process import Served, refused, served
from tests.support import warm
from tests.support.redis_server import redis_server
from tests.support.server import free_socket

PATIENCE = 30.0
SHARED = ["tests.serving.app:make_shared", "--factory"]
APP = "tests.serving.app:make"
WARNING = "several processes serve this application"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SO_REUSEPORT")


@pytest.fixture(scope="module")
def shared() -> Generator[dict[str, str]]:
    """The environment of processes that share a log."""
    with redis_server() as redis:
        yield {"LG_STREAMING_LOG": redis.url}


def processes(url: str, is_enough: Callable[[set[int]], bool], **options: object) -> set[int]:
    """The processes that answer, each request over a new connection."""
    found: set[int] = set()
    until = time.monotonic() + PATIENCE
    while not is_enough(found):
        assert time.monotonic() < until, found
        with suppress(httpx2.TransportError):
            found.add(httpx2.get(f"{url}/process", **options).json())  # pyright: ignore[reportArgumentType]
        time.sleep(0.02)
    return found


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


# ---------------------------------------------------------------- serve --workers
def test_workers_without_a_shared_log_are_refused_once() -> None:
    code, output = refused(APP, "--factory", "--port=0", "--workers=2")
    assert code == 3
    assert output.count("--workers 2 needs a log that the processes share") == 1
    assert "redis://" in output
    assert "Traceback" not in output


def test_workers_of_an_application_that_there_is_not() -> None:
    code, output = refused("tests.serving.nothing:app", "--port=0", "--workers=2")
    assert (code, output.count("Error: there is no module")) == (2, 1)


async def test_workers_share_an_address_and_a_log_are_replaced_and_end_together(shared: dict[str, str]) -> None:
    serving = served("--workers=2", app=SHARED, env=shared, fresh=True)
    server = await asyncio.to_thread(serving.__enter__)
    try:
        await they_serve_each_others_executions(server.url)
        await asyncio.to_thread(they_are_replaced_and_end, server)
    finally:
        await asyncio.to_thread(serving.__exit__, None, None, None)


async def they_serve_each_others_executions(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url) as http:
        await http.post("/publish/shared", params={"count": 3})
    for _ in range(8):  # each over a new connection, to any of the two
        async with (
            httpx2.AsyncClient(base_url=url) as http,
            EventSource(http, "/executions/shared/stream").open() as events,
        ):
            assert [(await anext(events)).type for _ in range(4)] == ["workflow_start", *["token"] * 3]


def they_are_replaced_and_end(server: Served) -> None:
    assert server.told == [
        f"Serving {server.url} over HTTP/1.1 and WebSocket, without TLS, in 2 processes. Ctrl-C ends it.\n"
    ]
    first = processes(server.url, lambda found: len(found) == 2)
    assert httpx2.get(f"{server.url}/health").json() == {"status": "ok", "protocol": 1}
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    second = processes(server.url, lambda found: len(found - {killed}) == 2) - {killed}
    assert max(first) in second
    assert server.stop() < 15
    assert server.process.returncode == 0
    assert server.told[1:] == ["Stopping: clients are asked to reconnect.\n"]
    assert f"worker {killed} ended with code -9: another starts" in "".join(server.log)
    assert WARNING not in "".join(server.log)
    wait_until(lambda: all(is_gone(pid) for pid in first | second))


def test_workers_end_with_a_supervisor_that_is_killed(shared: dict[str, str]) -> None:
    with served("--workers=2", app=SHARED, env=shared) as server:
        found = processes(server.url, lambda found: len(found) == 2)
        server.process.kill()
        wait_until(lambda: all(is_gone(pid) for pid in found))


def test_workers_over_http2(pki: Pki, shared: dict[str, str]) -> None:
    with served("--workers=2", "--http2", *pki.options, app=SHARED, env=shared) as server:
        processes(server.url, lambda found: len(found) == 2, verify=pki.context)
        server.stop(signal.SIGINT)
    assert server.process.returncode == 130


# ---------------------------------------------------------------- other servers
@contextmanager
def other_server(*command: str, **env: str) -> Generator[tuple[str, list[str]]]:
    """A server's own command line, `{port}` in it replaced; yields its address and its log, whole at the end.

    It is killed at the end: how it ends is its own affair, and granian waits half a minute for a reader that has left.
    """
    with free_socket() as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", *(part.format(port=port) for part in command)],
        cwd=warm.ROOT,
        env={**os.environ, "PYTHONPATH": str(warm.ROOT), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stderr = process.stderr
    assert stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(stderr), name="test log of a server", daemon=True)
    reader.start()
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or _answers(url))
        yield url, log
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        stderr.close()


def _answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/health/live").status_code == 200
    return False


UVICORN = ("uvicorn", APP, "--factory", "--port={port}")
GUNICORN = ("gunicorn", f"{APP}()", "--bind=127.0.0.1:{port}", "--worker-class=uvicorn_worker.UvicornWorker")
GRANIAN = ("granian", APP, "--factory", "--interface=asgi", "--port={port}")


@pytest.mark.parametrize(
    ("command", "env", "sign"),
    [
        ((*UVICORN, "--workers=2"), {}, "uvicorn: 2 workers"),
        ((*GUNICORN, "--workers=2"), {}, "gunicorn: 2 workers"),
        ((*GRANIAN, "--workers=2"), {}, "granian: 2 workers"),
        ((*UVICORN, "--reload"), {"WEB_CONCURRENCY": "2"}, None),
        ((*UVICORN,), {"WEB_CONCURRENCY": "1"}, None),
        ((*GUNICORN, "--workers=1"), {}, None),
    ],
    ids=["uvicorn", "gunicorn", "granian", "reload", "one-uvicorn", "one-gunicorn"],
)
async def test_a_server_with_several_processes_is_noticed(
    command: tuple[str, ...], env: dict[str, str], sign: str | None
) -> None:
    expected = None if sign is None else ["several_processes"]
    server = other_server(*command, **env)
    url, log = await asyncio.to_thread(server.__enter__)
    try:
        async with httpx2.AsyncClient(base_url=url) as http:
            assert (await http.get("/health")).json().get("warnings") == expected
            async with EventSource(http, "/executions/exec-1/stream").open() as events:
                assert (await anext(events)).type == "workflow_start"
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
    text = "".join(log)
    assert (f"{WARNING} ({sign})" in text) if sign is not None else (WARNING not in text)
