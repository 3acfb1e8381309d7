"""Start Python programs without the time of their imports: `tests.support.fork_server` forks for each.

Such a program sees a new interpreter, but with modules that are imported already. So each program that tests start
is also started once with `fresh=True`, in a new interpreter.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Self

from tests.support import fork_server
from tests.support.fork_server import Order

ROOT = Path(__file__).resolve().parents[2]

# Of Python's own variables, those that have an effect in a fork; the others have had theirs when the server started.
_HEEDED = {"PYTHONPATH", "PYTHONUNBUFFERED"}
_OF_A_TEST = ("LG_STREAMING_", "LANGSMITH_", "LANGCHAIN_")


class WarmError(Exception):
    """The server ended, or cannot run the program as asked."""


class Program:
    """A running program, with the attributes and methods of `subprocess.Popen` that tests use.

    Attributes:
        pid: Its process.
        returncode: Its exit code once it is known, negative for a signal.
        stdout: What it writes there, where that was not led elsewhere.
        stderr: The same.
    """

    def __init__(self, pid: int, answers: IO[str], stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._answers = answers
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended.

        Raises:
            subprocess.TimeoutExpired: If it runs on after so many seconds.
            WarmError: If the server ended.
        """
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._answers, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1_000):
                raise subprocess.TimeoutExpired(f"program {self.pid}", timeout or 0)
        with self._reading:  # another thread may wait, too
            if self.returncode is None:
                self.returncode = _number(self._answers)
                self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is read of it, and wait for its end, as `Popen` does."""
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


class ForkServer:
    """An interpreter that forks for each program."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {name: value for name, value in environment.items() if name not in _HEEDED}
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, fork_server.__file__, str(theirs.fileno())],
                cwd=ROOT,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at the terminal is for pytest, which then ends what it started
            )
        self.pid = self._process.pid

    def start(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], terminal: int | None
    ) -> Program:
        """Start a program; see `start`."""
        if terminal is not None:
            return self._fork(arguments, folder, environment, [terminal])
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        streams = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
        try:
            return self._fork(arguments, folder, environment, [nothing, their_out, their_err], streams)
        except WarmError:
            for stream in streams:
                stream.close()
            raise
        finally:
            for each in (nothing, their_out, their_err):
                os.close(each)

    def fork(self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], output: int) -> Program:
        """Start a program that writes to a descriptor; see `fork`."""
        with Path(os.devnull).open() as nothing:
            return self._fork(arguments, folder, environment, [nothing.fileno(), output, output])

    def run(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; see `run`."""
        with Path(os.devnull).open() as nothing, _memory() as out, _memory() as err:
            streams = [each.fileno() for each in (nothing, out, err)]
            program = self._fork(arguments, folder, environment, streams)
            try:
                code = program.wait(timeout)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
                raise subprocess.TimeoutExpired(list(arguments), timeout, _read(out), _read(err)) from None
            return subprocess.CompletedProcess(list(arguments), code, _read(out), _read(err))

    def close(self) -> None:
        """End the interpreter, and with it what it still runs."""
        self._orders.close()
        self._process.wait()

    def _fork(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        descriptors: list[int],
        read: tuple[IO[str], IO[str]] | tuple[None, None] = (None, None),
    ) -> Program:
        order = Order(
            arguments=list(arguments),
            folder=str(folder),
            environment=dict(environment),
            terminal=len(descriptors) == 1,
        )
        self._check(order)
        ours, theirs = os.pipe()
        answers = os.fdopen(ours, encoding="ascii")
        try:
            with suppress(OSError):  # then there is no answer, either
                socket.send_fds(self._orders, [json.dumps(asdict(order)).encode()], [*descriptors, theirs])
        finally:
            os.close(theirs)
        return Program(_number(answers), answers, *read)

    def _check(self, order: Order) -> None:
        for name in {*order.environment, *self._environment}:
            same = order.environment.get(name) == self._environment.get(name)
            if name.startswith("PYTHON") and name not in _HEEDED and not same:
                raise WarmError(f"{name} is read when an interpreter starts: start the program with fresh=True")


def _number(answers: IO[str]) -> int:
    line = answers.readline()
    if not line:
        answers.close()
        raise WarmError("the server ended")
    return int(line)


def _memory() -> IO[str]:
    return os.fdopen(os.memfd_create("output"), "w+", encoding="utf-8")


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


_starting = threading.Lock()


@functools.cache
def _started() -> ForkServer:
    server = ForkServer({name: value for name, value in os.environ.items() if not name.startswith(_OF_A_TEST)})
    atexit.register(server.close)
    return server


def server() -> ForkServer:
    """Return the server of this process, which lives as long."""
    with _starting:
        return _started()


def start(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    terminal: int | None = None,
    fresh: bool = False,
) -> Program | subprocess.Popen[str]:
    """Start a program with pipes for its output and nothing to read.

    Args:
        arguments: The arguments of `python`: `-m` and a module, `-c` and code, or a file; then the program's own.
        env: Its environment; by default that of this process.
        cwd: Its current folder.
        terminal: Descriptor of a terminal to run in, as the first process of a session, instead of the pipes.
        fresh: Whether to run it in a new interpreter.
    """
    environment = os.environ if env is None else env
    if not fresh:
        return server().start(arguments, folder=cwd, environment=environment, terminal=terminal)
    streams = (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE) if terminal is None else (terminal,) * 3
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        text=True,
        preexec_fn=None if terminal is None else functools.partial(os.login_tty, 0),  # noqa: PLW1509 (it only calls the system)
    )


def fork(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, output: int) -> Program:
    """Start a program in a fork, with nothing to read; see `start`.

    Args:
        arguments: The arguments of `python`, then the program's own.
        env: Its environment; by default that of this process.
        cwd: Its current folder.
        output: Descriptor of a file for both its outputs.
    """
    return server().fork(arguments, folder=cwd, environment=os.environ if env is None else env, output=output)


def run(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout: float = 60.0,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return what it wrote.

    Raises:
        subprocess.TimeoutExpired: If it runs on after so many seconds; it is killed.
    """
    environment = os.environ if env is None else env
    if not fresh:
        return server().run(arguments, folder=cwd, environment=environment, timeout=timeout)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
