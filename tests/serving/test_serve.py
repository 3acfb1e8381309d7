"""`python -m lg_streaming serve` over HTTP/1.1, and its messages when it cannot start."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import httpx2
import pytest

from lg_streaming.cli.target import TargetError, load_app
from lg_streaming.serving.listener import AddressInUseError, listen
from tests.gateway.sse import EventSource
from tests.serving.conftest import Pki
from tests.serving.process import APP, refused, served
from tests.support.node import node_client
from tests.support.server import free_socket


async def test_plain_http_until_sigterm() -> None:
    with served(fresh=True) as server:
        assert server.told == [f"Serving {server.url} over HTTP/1.1 and WebSocket, without TLS. Ctrl-C ends it.\n"]
        async with httpx2.AsyncClient(base_url=server.url) as http, node_client(server.url) as client:
            answer = await http.get("/health")
            assert (answer.http_version, answer.status_code) == ("HTTP/1.1", 200)
            assert "server" not in answer.headers
            source = EventSource(http, "/executions/exec-1/stream")
            async with source.open() as events:
                assert (await anext(events)).type == "workflow_start"
                stopped = asyncio.create_task(asyncio.to_thread(server.stop))
                assert [event.type async for event in events] == ["server_restart"]
            assert (await client.event("server_restart"))["retry_ms"] > 0
            await stopped
    assert server.process.returncode == 0
    assert server.told[1:] == ["Stopping: clients are asked to reconnect.\n"]
    assert "Traceback" not in "".join(server.log)


def test_the_address_of_the_watch_page_is_printed() -> None:
    with served(env={"LG_STREAMING_GATEWAY__UI": "true", "LG_STREAMING_GATEWAY__PREFIX": "/runs"}) as server:
        assert httpx2.get(f"{server.url}/runs/watch/").status_code == 200
        server.stop()
    assert server.told[1] == f"Watch its runs: {server.url}/runs/watch/\n"


async def test_ctrl_c_ends_it_as_a_shell_expects() -> None:
    with served() as server:
        await asyncio.to_thread(server.stop, signal.SIGINT)
    assert server.process.returncode == 130
    assert "Traceback" not in "".join(server.log)


async def test_tls_without_http2(pki: Pki) -> None:
    with served(*pki.options) as server:
        assert server.url.startswith("https://")
        async with httpx2.AsyncClient(base_url=server.url, verify=pki.context, http2=True) as http:
            source = EventSource(http, "/executions/exec-1/stream")
            async with source.open() as events:
                assert (await anext(events)).type == "workflow_start"
            assert (await http.get("/health")).http_version == "HTTP/1.1"
        async with node_client(server.url, opts={"ca": pki.authority}) as client:
            assert (await client.emit("subscribe_execution", {"execution_id": "exec-1"}))["ok"]


@pytest.mark.parametrize("http2", [True, False])
async def test_only_trusted_proxies_may_say_whom_they_speak_for(pki: Pki, http2: bool) -> None:
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    options = ["--http2", *pki.options] if http2 else []
    for trusted, address in (("127.0.0.1", "203.0.113.7"), ("192.0.2.1", "127.0.0.1")):
        with served(*options, f"--forwarded-allow-ips={trusted}") as server:
            async with httpx2.AsyncClient(verify=pki.context) as http:
                answer = (await http.get(f"{server.url}/peer", headers=headers)).json()
        assert answer["address"] == address


async def test_a_request_that_outlasts_the_grace_time_does_not_keep_the_server() -> None:
    with served("--grace=3") as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /slow?seconds=600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.sendall(b"GET /figures HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with httpx2.AsyncClient(base_url=server.url) as http:
            await http.get("/figures")
        assert await asyncio.to_thread(server.stop) < 10
        assert server.process.returncode == 0  # not cut off: the request was, and the application's own shutdown ran


@pytest.mark.row("CFLOW-03")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "--http2 needs --certfile and --keyfile: browsers speak HTTP/2 over TLS only"),
        (["--certfile={cert}"], "--certfile needs --keyfile too: TLS takes a certificate and its key"),
        (["--keyfile={key}"], "--keyfile needs --certfile too: TLS takes a certificate and its key"),
        (["--certfile=none.pem", "--keyfile={key}"], "--certfile none.pem cannot be read: No such file or directory"),
        (["--certfile={cert}", "--keyfile=tests"], "--keyfile tests cannot be read: Is a directory"),
        (["--certfile={cert}", "--keyfile={other}"], "--keyfile {other} is not the key of --certfile {cert}"),
        (
            ["--certfile={key}", "--keyfile={key}"],
            "--certfile {key} and --keyfile {key} are not a certificate and a key in PEM format",
        ),
    ],
)
def test_http2_without_a_certificate_that_works_is_one_clear_line(pki: Pki, given: list[str], said: str) -> None:
    paths = {"cert": pki.certfile, "key": pki.keyfile, "other": pki.other_key}
    options = [option.format(**paths) for option in given]
    assert refused(*APP, "--http2", *options) == (2, f"Error: {said.format(**paths)}\n")


def test_an_encrypted_key_is_not_asked_for_at_the_terminal(pki: Pki, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(pki.keyfile.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    secret = s.BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, secret))
    code, said = refused(*APP, f"--certfile={pki.certfile}", f"--keyfile={locked}")
    assert (code, said.count("\n")) == (2, 1)
    assert f"--keyfile {locked} is encrypted" in said


def test_options_that_do_not_go_together_are_refused(pki: Pki) -> None:
    code, said = refused(*APP, "--http2", *pki.options, "--ws-compression")
    assert code == 2
    assert said.startswith("Error: --ws-compression excludes --http2")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nomodule:app", r"there is no module 'nomodule' in /"),
        ("tests.nomodule:app", r"there is no module 'tests\.nomodule' in /"),
        ("tests.serving.app", r"'tests\.serving\.app' does not name an application: write it as module:app"),
        ("tests.serving.app:nothing", r"the module 'tests\.serving\.app' has no 'nothing'"),
        ("tests.serving.app:NOT_AN_APP", r"is of type 'str', which is no ASGI application"),
        ("tests.serving.app:make", r"add --factory"),
    ],
)
def test_a_target_that_is_no_application_is_said_so(target: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        load_app(target)


def test_a_factory_has_to_make_an_application() -> None:
    with pytest.raises(TargetError, match="makes no application"):
        load_app("tests.serving.app:NOT_AN_APP", factory=True)
    with pytest.raises(TargetError, match=r"'builtins:dict\(\)' is of type 'dict'"):
        load_app("builtins:dict", factory=True)
    assert callable(load_app("tests.serving.app:make", factory=True))


def test_what_a_module_itself_misses_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.py").write_text("import a_package_that_is_not_here\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_here"):
        load_app("shop:app")


def test_a_bad_target_is_one_clear_line() -> None:
    code, said = refused("nomodule:app")
    assert code == 2
    assert said.startswith("Error: there is no module 'nomodule'")
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_one_clear_line(pki: Pki) -> None:
    with free_socket() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        for options in ([], ["--http2", *pki.options]):
            done = refused(*APP, f"--port={port}", *options)
            assert done == (1, f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_a_port_that_is_not_ours_to_take_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied (while attempting to bind)")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressInUseError, match=r"^cannot listen on 127\.0\.0\.1:80: Permission denied$"):
        listen("127.0.0.1", 80)


def test_a_host_that_nobody_knows_is_said_so() -> None:
    with pytest.raises(AddressInUseError, match=r"^cannot listen on no\.invalid:0: no host of that name is known$"):
        listen("no.invalid", 0)


@pytest.mark.parametrize("http2", [True, False])
def test_an_application_that_cannot_start_ends_the_server_with_its_reason(pki: Pki, http2: bool) -> None:
    options = ["--http2", *pki.options] if http2 else []
    code, said = refused("tests.serving.app:fails_to_start", "--port=0", *options)
    assert code == 3
    assert "RuntimeError: no database" in said
    assert "Serving" not in said


def test_without_granian_the_extra_is_named(pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "granian.py").write_text("raise ImportError('not installed')\n")
    code, said = refused(*APP, "--http2", *pki.options, env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}, fresh=True)
    assert (code, said) == (1, "Error: --http2 needs the package granian: pip install 'lg-streaming[http2]'\n")
