"""The servers that tests drive are real, start on a free port and end in time."""

import socket

import httpx2
import pytest

from tests.support.apps import broken, plain
from tests.support.server import ServerError, serve, serve_process


def test_a_server_in_a_thread_answers_and_frees_its_port() -> None:
    with serve(plain()) as server:
        assert httpx2.get(server.url).json() == "hello"
    with socket.create_server(("127.0.0.1", server.port)):
        assert server.stop() < 1


def test_two_servers_run_side_by_side() -> None:
    with serve(plain()) as one, serve(plain()) as two:
        assert one.port != two.port
        assert httpx2.get(one.url).json() == httpx2.get(two.url).json()


def test_a_failed_start_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ServerError), serve(broken()):
        pytest.fail("the block must not run")
    assert "cannot start" in caplog.text


@pytest.mark.parametrize("fresh", [False, True])
def test_a_server_in_a_process_ends_on_sigterm(fresh: bool) -> None:
    with serve_process("tests.support.apps:plain()", fresh=fresh) as server:
        assert httpx2.get(server.url).json() == "hello"
        assert server.stop() < 3
    assert server.log == ""


def test_a_killed_server_comes_back_at_its_address() -> None:
    with serve_process("tests.support.apps:plain()") as first:
        first.kill()
    with serve_process("tests.support.apps:plain()", port=first.port) as second:
        assert second.url == first.url
        assert httpx2.get(first.url).json() == "hello"


def test_a_process_that_fails_to_start_shows_its_log() -> None:
    with pytest.raises(ServerError, match="cannot start"), serve_process("tests.support.apps:broken()"):
        pytest.fail("the block must not run")
