"""A child process with output that is read as it comes, from a thread or from an event loop.

Both ways wait for the same three descriptors: the two pipes, and one that is readable when the process has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from lg_streaming.activity.lines import LineSplitter
from lg_streaming.errors import BadRequestError, UnsupportedPlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from lg_streaming.activity.output import OutputStream

__all__ = ["Subprocess", "run_subprocess", "run_subprocess_async"]

_CHUNK: Final = 65_536


class Subprocess:
    """A process in a new process group, with an empty input.

    Args:
        command: The program and its arguments; no shell.
        on_output: Called with the stream and the text of each piece of output. It must not raise.
        cwd: The folder it runs in; the present one when None.
        env: Its environment; that of this process when None.
        max_line: Characters; a longer line is split.

    Raises:
        BadRequestError: If the command is a string, or empty.
        UnsupportedPlatformError: If this is not Linux.
        OSError: If it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        on_output: Callable[[OutputStream, str], None],
        *,
        cwd: str | Path | None,
        env: Mapping[str, str] | None,
        max_line: int,
    ) -> None:
        if isinstance(command, (str, bytes)) or not command:
            raise BadRequestError("the command is a list: the program, then its arguments")
        if not hasattr(os, "pidfd_open"):
            raise UnsupportedPlatformError(
                "capture_output needs Linux (pidfd_open): elsewhere run the program yourself and publish its lines"
                " with agent.output()"
            )
        self._on_output = on_output
        self._process = subprocess.Popen(  # noqa: S603 (running the caller's command is what this is for)
            [os.fspath(part) for part in command],
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        self._ended_fd = os.pidfd_open(self._process.pid)
        self._pipes: dict[int, tuple[OutputStream, LineSplitter, IO[bytes]]] = {}
        self._add_pipe("stdout", self._process.stdout, max_line)
        self._add_pipe("stderr", self._process.stderr, max_line)
        self.waits_for: set[int] = {self._ended_fd, *self._pipes}
        """Descriptors to wait for: of streams that have not ended, and of the process while it runs."""

    def _add_pipe(self, stream: OutputStream, pipe: IO[bytes] | None, max_line: int) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._pipes[pipe.fileno()] = (stream, LineSplitter(max_line), pipe)

    @property
    def running(self) -> bool:
        """Return whether its end has not been noticed yet."""
        return self._ended_fd in self.waits_for

    def on_readable(self, fd: int) -> bool:
        """Handle a readable descriptor of `waits_for`; return whether it has ended."""
        ended = fd == self._ended_fd or self._read(fd) == 0
        if ended:
            self.waits_for.discard(fd)
        return ended

    def _read(self, fd: int) -> int:
        """Read a chunk and return its size: 0 at the end of the stream, -1 where nothing has arrived."""
        stream, lines, _ = self._pipes[fd]
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return -1
        for piece in lines.feed(data):
            self._on_output(stream, piece)
        return len(data)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process group. After `close` the id may belong to another process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def drain(self) -> None:
        """Read everything that is in the pipes now, without waiting."""
        for fd in self.waits_for & self._pipes.keys():
            while self._read(fd) > 0:
                pass

    def close(self) -> int:
        """Pass on lines without an end, free everything, and return the exit code. The process must have ended."""
        for stream, lines, pipe in self._pipes.values():
            for piece in lines.end():
                self._on_output(stream, piece)
            pipe.close()
        self._pipes.clear()
        os.close(self._ended_fd)
        return self._process.wait()


def run_subprocess(create: Callable[[], Subprocess], grace: float) -> int:
    """Run a process to its end, and return its exit code.

    When others still hold its pipes after that, they are read until nothing has come for ``grace`` seconds. When an
    exception interrupts the wait, the process group gets SIGTERM, and SIGKILL ``grace`` seconds later.
    """
    child = create()
    with selectors.DefaultSelector() as selector:
        for fd in child.waits_for:
            selector.register(fd, selectors.EVENT_READ)

        def wait(seconds: float | None) -> bool:
            ready = selector.select(seconds)
            for key, _ in ready:
                if child.on_readable(key.fd):
                    selector.unregister(key.fd)
            return bool(ready)

        try:
            while child.waits_for and wait(None if child.running else grace):
                pass
        except BaseException:
            _terminate(child, wait, grace)
            raise
        finally:
            code = child.close()
    return code


def _terminate(child: Subprocess, wait: Callable[[float], bool], grace: float) -> None:
    deadline = time.monotonic() + grace
    child.signal_group(signal.SIGTERM)
    try:
        while child.running and (left := deadline - time.monotonic()) > 0:
            wait(left)
    finally:
        child.signal_group(signal.SIGKILL)
    child.drain()


async def run_subprocess_async(create: Callable[[], Subprocess], grace: float) -> int:
    """Do the same on an event loop; cancelling it interrupts the wait."""
    child = await _spawned(create)
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def ready(fd: int) -> None:
        if child.on_readable(fd):
            loop.remove_reader(fd)
        changed.set()

    for fd in child.waits_for:
        loop.add_reader(fd, ready, fd)
    try:
        await _finished(child, changed, grace)
    except BaseException:
        await _terminate_async(child, changed, grace)
        raise
    finally:
        for fd in child.waits_for:
            loop.remove_reader(fd)
        code = child.close()
    return code


async def _spawned(create: Callable[[], Subprocess]) -> Subprocess:
    """Start it in a thread, since that blocks until the program is found."""
    starting = asyncio.ensure_future(asyncio.to_thread(create))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_kill)
        raise


def _kill(starting: asyncio.Future[Subprocess]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        child = starting.result()
        child.signal_group(signal.SIGKILL)
        child.close()


async def _finished(child: Subprocess, changed: asyncio.Event, grace: float) -> None:
    while child.waits_for:
        changed.clear()
        try:
            async with asyncio.timeout(None if child.running else grace):
                await changed.wait()
        except TimeoutError:
            return


async def _terminate_async(child: Subprocess, changed: asyncio.Event, grace: float) -> None:
    child.signal_group(signal.SIGTERM)
    kill_timer = asyncio.get_running_loop().call_later(grace, child.signal_group, signal.SIGKILL)
    try:
        while child.running:
            changed.clear()
            await changed.wait()
    finally:
        kill_timer.cancel()
        child.signal_group(signal.SIGKILL)  # the rest of the group
    child.drain()
