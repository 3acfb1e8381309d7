"""Serve an application in several processes that share an address."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeVar

from lg_streaming.cli.serve import STOPPING, configure_logging, describe_server, ignore_closed_output, serve_on
from lg_streaming.cli.server import Notices, ServeOptions
from lg_streaming.cli.signals import signal_handlers
from lg_streaming.cli.target import TargetError, load_app
from lg_streaming.errors import MissingExtraError
from lg_streaming.gateway.hooks.siblings import served_by
from lg_streaming.serving.listener import AddressInUseError, listen

__all__ = ["AppTarget", "run_workers"]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("lg_streaming.serving")

_CUT_TIME: Final = 5.0
"""Seconds after the grace time until a worker that does not end is killed."""
_RESTART_PAUSE: Final = 1.0
"""Seconds between the starts of two workers in the place of one that ended."""
_START_FAILED: Final = 3
_spawn: Final = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class AppTarget:
    """An application that each worker imports: see `load_app`."""

    name: str
    factory: bool = False


def run_workers(target: AppTarget, options: ServeOptions, workers: int, print_line: Callable[[str], None]) -> int:
    """Serve an application in several processes until Ctrl-C or SIGTERM, and return the exit code for the shell.

    The first worker starts alone, so that an application that cannot start reports its reason once. A worker that ends
    later is replaced. The workers end with this process, even if it is killed.

    Args:
        target: The application.
        options: Options of the server.
        workers: Processes to start.
        print_line: Prints a line on the terminal.

    Raises:
        AddressInUseError: If the address cannot be listened on.
        TargetError: If there is no such application.
        MissingExtraError: If HTTP/2 is requested and granian is not installed.
    """
    configure_logging(options)
    with listen(options.host, options.port) as found:
        address, family = found.getsockname(), found.family
    with _bind(address, family) as reserved:
        return asyncio.run(_Supervisor(target, options, workers, reserved, print_line).run())


def _bind(address: Any, family: int) -> socket.socket:
    """Bind a socket to the workers' address. Those that listen there share new connections evenly, by the kernel."""
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise AddressInUseError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
    return bound


def _work(target: AppTarget, options: ServeOptions, reserved: socket.socket, workers: int, reports: Connection) -> None:
    """Serve in a worker's process."""
    parent = multiprocessing.parent_process()
    served_by.set(workers)
    try:
        listener = _bind(reserved.getsockname(), reserved.family)
        reserved.close()
        code = serve_on(
            listener,
            load_app(target.name, factory=target.factory),
            options,
            Notices(
                on_listening=lambda: reports.send(None),
                on_cut=lambda: logger.warning("not everything ended within %g s: the rest is cancelled", options.grace),
            ),
            watched=None if parent is None else parent.sentinel,
        )
    except (TargetError, MissingExtraError) as error:
        reports.send(error)
        code = _START_FAILED
    except KeyboardInterrupt:  # while the application was imported
        code = 128 + signal.SIGINT
    sys.exit(code)


class _Worker:
    """A process that serves, and its report that clients can connect."""

    def __init__(self, target: AppTarget, options: ServeOptions, listener: socket.socket, workers: int) -> None:
        self._reports, reports = _spawn.Pipe(duplex=False)
        self.process: BaseProcess = _spawn.Process(
            target=_work, args=(target, options, listener, workers, reports), name="lg-streaming worker"
        )
        self.process.start()
        reports.close()
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.process.sentinel, self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self.process.sentinel)
        self.process.join()
        self.ended.set()

    async def started(self) -> bool:
        """Wait until clients can connect; False if the process ended before.

        Raises:
            TargetError: If there is no such application.
            MissingExtraError: If HTTP/2 is requested and granian is not installed.
        """
        readable = asyncio.Event()
        self._loop.add_reader(self._reports.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(self._reports.fileno())
        try:
            report = self._reports.recv()
        except EOFError:
            await self.ended.wait()
            return False
        finally:
            self._reports.close()
        if isinstance(report, Exception):
            await self.ended.wait()
            raise report
        return True

    def terminate(self) -> None:
        """Request the end; harmless when repeated."""
        if not self.ended.is_set():
            self.process.terminate()

    async def end(self, until: float) -> bool:
        """Wait for the end; kill the process at the time `until`. Return whether it ended by itself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self.ended.wait()
        by_itself = self.ended.is_set()
        if not by_itself:
            self.process.kill()
            await self.ended.wait()
        return by_itself


class _Supervisor:
    """Starts workers, replaces those that end, and ends them all."""

    def __init__(
        self,
        target: AppTarget,
        options: ServeOptions,
        count: int,
        listener: socket.socket,
        print_line: Callable[[str], None],
    ) -> None:
        self._target = target
        self._options = options
        self._count = count
        self._listener = listener
        self._print_line = ignore_closed_output(print_line)
        self._workers: set[_Worker] = set()
        self._stopping = asyncio.Event()
        self._signal: signal.Signals | None = None

    async def run(self) -> int:
        """Serve until a signal, and return the exit code."""
        with signal_handlers((signal.SIGINT, signal.SIGTERM), self._stop):
            clean = False
            try:
                code = await self._serve()
            finally:
                clean = await self._end_all()
        if self._signal == signal.SIGINT:
            return 128 + signal.SIGINT
        return code or (0 if clean else 1)

    def _stop(self, number: signal.Signals) -> None:
        if self._signal is None:
            self._signal = number
            self._print_line(STOPPING)
            self._stopping.set()

    async def _serve(self) -> int:
        first = self._start()
        if not await self._until_stopped(first.started()):
            return 0 if self._stopping.is_set() else first.process.exitcode or _START_FAILED
        workers = [first, *(self._start() for _ in range(self._count - 1))]
        await self._until_stopped(asyncio.gather(*(worker.started() for worker in workers[1:])))
        if not self._stopping.is_set():
            self._print_line(describe_server(self._listener, self._options, workers=self._count))
        await asyncio.gather(*(self._keep(worker) for worker in workers))
        return 0

    async def _keep(self, worker: _Worker) -> None:
        """Replace a worker each time it ends, until the stop."""
        while await self._until_stopped(worker.ended.wait()):
            logger.error("worker %s ended with code %s: another starts", worker.process.pid, worker.process.exitcode)
            self._workers.discard(worker)
            worker = self._start()
            try:
                started = await self._until_stopped(worker.started())
            except (TargetError, MissingExtraError) as error:
                logger.error("%s", error)  # noqa: TRY400 (one line, as at the first start)
                started = False
            if not started:
                await self._until_stopped(asyncio.sleep(_RESTART_PAUSE))

    def _start(self) -> _Worker:
        worker = _Worker(self._target, self._options, self._listener, self._count)
        self._workers.add(worker)
        return worker

    async def _until_stopped(self, awaitable: Awaitable[T]) -> T | None:
        """Return the result of `awaitable`; None if the stop is requested before."""
        waiting = asyncio.ensure_future(awaitable)
        stopping = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            stopping.cancel()
            waiting.cancel()
            await asyncio.gather(stopping, waiting, return_exceptions=True)

    async def _end_all(self) -> bool:
        """End all workers, and return whether each closed everything in time."""
        for worker in self._workers:
            worker.terminate()
        until = time.monotonic() + self._options.grace + _CUT_TIME
        ended = await asyncio.gather(*(worker.end(until) for worker in self._workers))
        return all(ended) and all(worker.process.exitcode != 1 for worker in self._workers)
