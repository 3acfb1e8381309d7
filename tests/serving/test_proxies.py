"""The configurations on the page on deployment, in front of a real server."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect

from tests.gateway.sse import EventSource
from tests.serving.conftest import Pki
from tests.serving.process import Served, served
from tests.support.server import ROOT, free_socket

PAGE = (ROOT / "docs/guide/deployment.md").read_text(encoding="utf-8")
PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
BIG = "a=" + "b" * 15_000


def configuration(language: str) -> str:
    """The block of that language on the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


@contextmanager
def running(command: list[str], port: int, log: Path) -> Generator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                pass
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def nginx(server: Served, pki: Pki, port: int, folder: Path) -> list[str]:
    text = configuration("nginx").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    text = text.replace("listen 443 ssl;\n    http2 on;", f"listen 127.0.0.1:{port} ssl http2;")
    text = text.replace("/etc/ssl/stream.example.com/chain.pem", str(pki.certfile))
    text = text.replace("/etc/ssl/stream.example.com/key.pem", str(pki.keyfile))
    temporary = "".join(f"{n}_temp_path {folder}/{n};\n" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; events {{ worker_connections 256; }}\n"
        f"http {{ access_log off;\n{temporary}{text}}}\n"
    )
    return ["nginx", "-c", f"{folder}/conf", "-p", str(folder), "-e", f"{folder}/error.log"]


def haproxy(server: Served, pki: Pki, port: int, folder: Path) -> list[str]:
    (folder / "pem").write_bytes(pki.certfile.read_bytes() + pki.keyfile.read_bytes())
    text = configuration("haproxy").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    text = text.replace("bind :443", f"bind 127.0.0.1:{port}")
    (folder / "conf").write_text(text.replace("/etc/haproxy/stream.example.com.pem", f"{folder}/pem"))
    return ["haproxy", "-db", "-f", f"{folder}/conf"]


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as running_server:
        yield running_server


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_the_configuration_on_the_page_lets_everything_through(
    server: Served, pki: Pki, tmp_path: Path, proxy: Callable[[Served, Pki, int, Path], list[str]]
) -> None:
    free = free_socket()
    port = free.getsockname()[1]
    free.close()
    command = proxy(server, pki, port, tmp_path)
    program = shutil.which(command[0], path=PATH)
    if program is None:
        pytest.skip(f"{command[0]} is not installed: make tools")
    with ExitStack() as stack:
        stack.enter_context(running([program, *command[1:]], port, tmp_path / "output"))
        url = f"https://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=url, verify=pki.context, http2=True, timeout=20) as client:
            answer = await client.get("/executions", headers={"Cookie": BIG})
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            peer = (await client.get("/peer", headers={"X-Forwarded-For": "203.0.113.9"})).json()
            assert (peer["address"], peer["scheme"]) == ("127.0.0.1", "https")
            async with EventSource(client, "/executions/exec-1/stream").open() as events:
                assert (await anext(events)).type == "workflow_start"
        plain = ssl.create_default_context(cadata=pki.authority)  # httpx2 has the other one offer HTTP/2
        url = f"wss://127.0.0.1:{port}/ws"
        async with connect(url, ssl=plain, additional_headers={"Cookie": BIG}) as websocket:
            assert "connection_status" in str(await websocket.recv())
