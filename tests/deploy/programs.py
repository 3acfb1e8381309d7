"""Start the programs of a deployment on this machine: Redis, nginx, web processes, workers."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tests.support import warm
from tests.support.server import ROOT

__all__ = ["WORKER", "Process", "environment", "find_program", "free_port", "program", "redis_server", "web", "worker"]

WORKER = ROOT / "examples/12_worker"
_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0

Process = warm.Program | subprocess.Popen[bytes]


def find_program(name: str) -> str:
    """Path of a program that `make tools` installs."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}")
    assert path is not None, f"{name} is missing: make tools installs it"
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def environment(redis: str, **more: str) -> dict[str, str]:
    """The environment of a web process or a worker."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{WORKER}", "PYTHONUNBUFFERED": "1", "LG_STREAMING_LOG": redis, **more}


@contextmanager
def program(
    command: Iterable[object],
    log: Path,
    *,
    port: int | None = None,
    line: str = "",
    env: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    fresh: bool = True,
) -> Generator[Process]:
    """Run a program in the block, which begins when it listens on `port` or has written `line`.

    One of Python that is not `fresh` is a fork, which must not start others.
    """
    words = [str(part) for part in command]
    with log.open("wb") as output:
        process = (
            _start(words, output, env, folder)
            if fresh
            else warm.fork(*words[1:], env=env, cwd=folder, output=output.fileno())
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT
        while not (_listens(port) if port is not None else line in log.read_text()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            if fresh:
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            process.kill()
            process.wait()
            raise AssertionError(f"{command} did not stop:\n{log.read_text()}") from None


def _start(words: list[str], output: IO[bytes], env: Mapping[str, str] | None, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=env,
        cwd=folder,
        start_new_session=True,
    )


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@contextmanager
def redis_server(folder: Path, *options: str) -> Generator[str]:
    """Run a Redis with these options after those of the test; yields its URL, database 0."""
    port = free_port()
    own = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--daemonize", "no", "--logfile", ""]
    command = [find_program("redis-server"), *own, "--save", "", *options]
    with program(command, folder / "redis.log", port=port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def web(folder: Path, redis: str, name: str = "web", *, fresh: bool = True, **env: str) -> Generator[str]:
    """Run a web process of the example; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "lg_streaming", "serve", "web:app", f"--port={port}", "--grace=3"]
    log = folder / f"{name}.log"
    with program(command, log, port=port, env=environment(redis, **env), folder=WORKER, fresh=fresh):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def worker(folder: Path, redis: str, name: str = "worker", **env: str) -> Generator[Process]:
    """Run a worker of the example, with one child process."""
    command = [sys.executable, "-m", "taskiq", "worker", "worker:broker", "--workers=1", "--wait-tasks-timeout=2"]
    log = folder / f"{name}.log"
    with program(command, log, line="Listening started", env=environment(redis, **env), folder=WORKER) as process:
        yield process
