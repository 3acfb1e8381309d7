"""A real nginx in front of a server on loopback, for what its defaults do to a request."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import ROOT, free_socket

__all__ = ["nginx", "nginx_balancer", "nginx_program"]

_START_TIMEOUT = 10.0


def nginx_program() -> str | None:
    """Path of nginx; None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(folder: Path, location: str) -> Generator[int]:
    """Runs nginx with one `location /`; yields its port on loopback."""
    with free_socket() as free:
        port = free.getsockname()[1]
    with _running(folder, port, f"server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}"):
        yield port


@contextmanager
def nginx_balancer(folder: Path, ports: Sequence[int]) -> Generator[int]:
    """Runs nginx in front of gateways, as the page on deployment has it but without TLS; yields its port on loopback.

    A gateway that refuses a connection gets none for one second. Another gateway gets the request.
    """
    with free_socket() as free:
        port = free.getsockname()[1]
    page = (ROOT / "docs/guide/deployment.md").read_text(encoding="utf-8")
    (http,) = re.findall(r"^```nginx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    gateways = " ".join(f"server 127.0.0.1:{each} max_fails=1 fail_timeout=1s;" for each in ports)
    for pattern, replacement in (
        (r"server 127\.0\.0\.1:8000;", gateways),
        (r"listen 443 ssl;\s*http2 on;", f"listen 127.0.0.1:{port};"),
        (r"ssl_certificate\S*\s[^;]*;", ""),
        (r"limit_conn streaming \d+;", ""),  # every client of a test has the same address
        (r"(?=proxy_pass )", "proxy_connect_timeout 2s; proxy_next_upstream error timeout http_503; "),
    ):
        http, count = re.subn(pattern, replacement, http)
        assert count, f"the page's configuration has no {pattern}"
    with _running(folder, port, http):
        yield port


@contextmanager
def _running(folder: Path, port: int, http: str) -> Generator[None]:
    program = nginx_program()
    assert program is not None, "nginx is missing: make tools installs it"
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off;\n{temporary}{http} }}\n"
    )
    process = subprocess.Popen(
        [program, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port, folder)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(5)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
        else:
            return
