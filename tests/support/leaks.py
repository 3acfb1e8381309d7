"""Resources of this process: threads, TCP sockets, and LangChain runs in the table of runs.

Each test looks twice, so this asks the kernel about the sockets of this process alone. `/proc/net/tcp` lists those of
the whole machine, with thousands of connections that other tests have just closed.
"""

import os
import socket
import stat
import sys
import threading
from dataclasses import dataclass

# Threads that end by themselves, or last as long as the process by their makers' design.
ALLOWED_THREADS = (
    "lg-streaming-timer",  # ends a second after the last thing it waited for (tests/pipeline/test_timer.py)
    "lg-streaming-rights",  # ends a second after its last call (tests/gateway/test_workers.py)
    "waitpid-",  # asyncio before Python 3.12 waits for a child in a thread, which ends with the child
    "asyncio_",  # the event loop's own pool, which lives as long as the loop that the runner shares between tests
)

# The states of Linux' include/net/tcp_states.h that a forgotten connection can be in.
_STATES = {
    1: "established",
    4: "fin_wait1",
    5: "fin_wait2",
    8: "close_wait",
    9: "last_ack",
    10: "listening",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Resources at one moment."""

    threads: frozenset[threading.Thread]
    sockets: frozenset[int]


def footprint() -> Footprint:
    """Return the present resources."""
    return Footprint(threads=frozenset(threading.enumerate()), sockets=frozenset(_tcp_sockets()))


def left_since(before: Footprint) -> list[str]:
    """Return the resources that are new since `before`, in words."""
    threads = [
        f"thread {thread.name!r}"
        for thread in set(threading.enumerate()) - before.threads
        if not thread.name.startswith(ALLOWED_THREADS)
    ]
    sockets = [description for inode, description in _tcp_sockets().items() if inode not in before.sockets]
    runs = [f"{count} runs in the table of runs"] if (count := _runs()) else []
    return sorted(threads + sockets + runs)


def forget_runs() -> None:
    """Empties the table of runs, so that the next test is not blamed for this one's."""
    table = sys.modules.get("lg_streaming.capture.run_registry")
    if table is not None:
        table.RUNS.unregister(set(table.RUNS._runs))


def _runs() -> int:
    """Return the number of LangChain runs in the table, which must be 0 after each test."""
    table = sys.modules.get("lg_streaming.capture.run_registry")
    return len(table.RUNS) if table is not None else 0


def _tcp_sockets() -> dict[int, str]:
    """The TCP sockets this process has open, by inode."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  (a descriptor may be gone before a Path is made of it)
        descriptor = int(name)
        try:
            status = os.fstat(descriptor)
            description = _description(descriptor) if stat.S_ISSOCK(status.st_mode) else None
        except OSError:  # another thread closed it
            continue
        if description is not None:
            found[status.st_ino] = description
    return found


def _description(descriptor: int) -> str | None:
    """Describe a TCP socket; None for a socket of another kind, or one that is connected to nothing."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        if borrowed.family not in {socket.AF_INET, socket.AF_INET6} or borrowed.proto != socket.IPPROTO_TCP:
            return None
        state = _STATES.get(borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])
        if state is None:
            return None
        try:
            peer = _port(borrowed.getpeername())
        except OSError:  # a listening socket has no peer
            peer = 0
        return f"TCP socket {_port(borrowed.getsockname())} -> {peer} {state}"
    finally:
        borrowed.detach()  # its owner closes it


def _port(address: tuple[str, int]) -> int:
    return address[1]
