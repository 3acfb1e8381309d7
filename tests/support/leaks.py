"""What this process holds: threads and TCP sockets, read from the interpreter and from /proc."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

# Threads that end by themselves, or last as long as the process by their makers' design.
ALLOWED_THREADS = (
    "lg-streaming-timer",  # ends a second after the last thing it waited for (tests/pipeline/test_timer.py)
    "waitpid-",  # asyncio before Python 3.12 waits for a child in a thread, which ends with the child
    "asyncio_",  # the event loop's own pool, which lives as long as the loop that the runner shares between tests
)

_STATES = {
    "01": "established",
    "04": "fin_wait1",
    "05": "fin_wait2",
    "08": "close_wait",
    "09": "last_ack",
    "0A": "listening",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The threads and TCP sockets of one moment."""

    threads: frozenset[threading.Thread]
    sockets: frozenset[str]


def footprint() -> Footprint:
    """What is there now."""
    return Footprint(threads=frozenset(threading.enumerate()), sockets=frozenset(_tcp_sockets()))


def left_since(before: Footprint) -> list[str]:
    """What is there now and was not there `before`, in words."""
    threads = [
        f"thread {thread.name!r}"
        for thread in set(threading.enumerate()) - before.threads
        if not thread.name.startswith(ALLOWED_THREADS)
    ]
    sockets = [description for inode, description in _tcp_sockets().items() if inode not in before.sockets]
    return sorted(threads + sockets)


def _tcp_sockets() -> dict[str, str]:
    """The TCP sockets this process has open, by inode."""
    inodes = _socket_inodes()
    if not inodes:
        return {}
    return {
        inode: description
        for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6")
        for inode, description in _read_table(Path(table)).items()
        if inode in inodes
    }


def _socket_inodes() -> set[str]:
    inodes: set[str] = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  (a descriptor may be gone before a Path is made of it)
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    return inodes


def _read_table(table: Path) -> dict[str, str]:
    if not table.exists():
        return {}
    found: dict[str, str] = {}
    for line in table.read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        if state in _STATES:
            found[inode] = f"TCP socket {_port(local)} -> {_port(remote)} {_STATES[state]}"
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
