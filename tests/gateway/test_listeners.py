"""Without authentication a server that listens beyond this machine does not start."""

import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.errors import StreamingConfigError
from lg_streaming.gateway.hooks.listeners import find_exposed_address, listening
from tests.gateway.site import SECRET
from tests.support.server import ServerError, serve


@pytest.fixture
def no_traceback_in_the_log() -> None:
    """The server logs an error when it does not start."""


def app_with(**settings: Any) -> FastAPI:
    app = FastAPI()
    StreamingModule(settings).install(app)
    return app


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("127.0.0.1", False),
        ("127.8.9.10", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("::ffff:0.0.0.0", True),
        ("192.0.2.7", True),
        ("2001:db8::1", True),
        ("fe80::1%eth0", True),
        ("chat.example.com", True),
        ("", True),
    ],
)
async def test_which_hosts_others_reach(host: str, is_open: bool) -> None:
    known = listening.set((host,))
    try:
        assert (find_exposed_address() is not None) == is_open
    finally:
        listening.reset(known)


async def test_without_a_server_nothing_is_seen() -> None:
    assert find_exposed_address() is None


def test_uvicorn_with_a_socket_on_every_interface_does_not_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ServerError), serve(app_with(), host="0.0.0.0"):
        pass
    said = [record for record in caplog.records if "authentication is not set up" in record.getMessage()]
    assert len(said) == 1
    line = said[0].getMessage()
    assert "listens on 0.0.0.0" in line
    assert "LG_STREAMING_AUTH__SECRET" in line
    assert "\n" not in line
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_uvicorn_with_a_host_does_not_start_either(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        uvicorn.Server(uvicorn.Config(app_with(), host=host, port=0, log_config=None)).run()
    assert "LG_STREAMING_AUTH__SECRET" in caplog.text


@pytest.mark.parametrize("auth", [{"secret": SECRET}, {"enabled": False}])
async def test_with_authentication_or_without_it_on_purpose_it_starts(auth: dict[str, Any]) -> None:
    with serve(app_with(auth=auth), host="0.0.0.0") as server:
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{server.port}/health")).status_code == 200


def test_a_second_module_of_an_app_is_looked_at_too(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(auth={"secret": SECRET})
    StreamingModule({"gateway": {"prefix": "/open"}}).install(app)
    with pytest.raises(ServerError), serve(app, host="0.0.0.0"):
        pass
    assert "LG_STREAMING_AUTH__SECRET" in caplog.text


async def test_where_a_parent_runs_the_lifespan_it_raises() -> None:
    app = app_with()
    known = listening.set(("0.0.0.0",))
    try:
        with pytest.raises(StreamingConfigError, match="LG_STREAMING_AUTH__SECRET"):
            async with app.router.lifespan_context(app):
                pass
    finally:
        listening.reset(known)


async def test_in_a_mounted_app_nobody_is_let_in(caplog: pytest.LogCaptureFixture) -> None:
    outer = FastAPI()
    outer.mount("/api", app_with())
    with serve(outer, host="0.0.0.0") as server:
        async with httpx2.AsyncClient() as http:
            for _ in range(2):
                answer = await http.get(f"http://localhost:{server.port}/api/executions")
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, 4010)
                assert "beyond this machine" in answer.json()["error"]["message"]
    assert len([record for record in caplog.records if "listens on 0.0.0.0" in record.getMessage()]) == 1


async def test_an_apps_own_lifespan_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        ran.append("began")
        yield

    app = FastAPI(lifespan=lifespan)
    StreamingModule().install(app)
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        with pytest.raises(SystemExit):
            await uvicorn.Server(uvicorn.Config(app, log_config=None)).serve(sockets=[sock])
    assert not ran
    caplog.clear()
