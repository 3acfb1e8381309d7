"""A child process whose output is read as it comes, from a thread or from an event loop.

Both ways wait for the same three descriptors: the two pipes, and one that is readable when the child has ended.
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
    """A process in a group of its own, with nothing to read on its input.

    Args:
        command: The program and its arguments; no shell.
        take: Gets each piece of output: the stream, and the text. It must not raise.
        cwd: Where it runs; here when None.
        env: Its environment; ours when None.
        max_line: Characters; a longer line comes in pieces.

    Raises:
        BadRequestError: The command is a string, or empty.
        UnsupportedPlatformError: If this is not Linux.
        OSError: It cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        take: Callable[[OutputStream, str], None],
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
        self._take = take
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
        """The descriptors to wait for: of streams that are not at their end, and of the child while it runs."""

    def _add_pipe(self, stream: OutputStream, pipe: IO[bytes] | None, max_line: int) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._pipes[pipe.fileno()] = (stream, LineSplitter(max_line), pipe)

    @property
    def running(self) -> bool:
        """Whether it has not been seen to end."""
        return self._ended_fd in self.waits_for

    def on_readable(self, fd: int) -> bool:
        """One of `waits_for` is readable; whether it is not any more to be waited for."""
        over = fd == self._ended_fd or self._read(fd) == 0
        if over:
            self.waits_for.discard(fd)
        return over

    def _read(self, fd: int) -> int:
        """Takes what is there, and returns its size: 0 at the end of the stream, -1 where there is nothing yet."""
        stream, lines, _ = self._pipes[fd]
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return -1
        for piece in lines.feed(data):
            self._take(stream, piece)
        return len(data)

    def signal_group(self, number: signal.Signals) -> None:
        """Sends a signal to it and all in its group. Only before `close`: then the id may be another's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def drain(self) -> None:
        """Takes what is in the pipes now, without waiting."""
        for fd in self.waits_for & self._pipes.keys():
            while self._read(fd) > 0:
                pass

    def close(self) -> int:
        """Gives out lines that do not end, frees everything, and returns the exit code. Its process must have ended."""
        for stream, lines, pipe in self._pipes.values():
            for piece in lines.end():
                self._take(stream, piece)
            pipe.close()
        self._pipes.clear()
        os.close(self._ended_fd)
        return self._process.wait()


def run_subprocess(make: Callable[[], Subprocess], grace: float) -> int:
    """Runs a child to its end, and returns its exit code.

    When the child has ended and others still hold its pipes, they are listened to until nothing came for ``grace``
    seconds. When an exception interrupts the wait, the child's group gets SIGTERM, and SIGKILL ``grace`` seconds later.
    """
    child = make()
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


async def run_subprocess_async(make: Callable[[], Subprocess], grace: float) -> int:
    """The same on an event loop; cancelling it interrupts the wait."""
    child = await _spawned(make)
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


async def _spawned(make: Callable[[], Subprocess]) -> Subprocess:
    """Starts it on a thread, since that waits until the program is found."""
    making = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(_kill)
        raise


def _kill(making: asyncio.Future[Subprocess]) -> None:
    if not making.cancelled() and making.exception() is None:
        child = making.result()
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
    killing = asyncio.get_running_loop().call_later(grace, child.signal_group, signal.SIGKILL)
    try:
        while child.running:
            changed.clear()
            await changed.wait()
    finally:
        killing.cancel()
        child.signal_group(signal.SIGKILL)  # whoever of the group is left
    child.drain()
