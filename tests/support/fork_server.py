"""Run Python programs in forks of one interpreter that has imported lg_streaming and the large packages below it.

`tests.support.warm` starts this file as a script and sends it orders over a socket. Each fork takes over arguments,
environment, folder and descriptors, runs its program as `__main__`, and ends as any interpreter does.
"""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

OTHERS = (
    "aiohttp",
    "cryptography.fernet",
    "cryptography.x509",
    "fastapi",
    "httpx2",
    "jwt",
    "langchain_core.language_models.chat_models",
    "langgraph.graph",
    "pydantic_settings",
    "reactivex",
    "rich.live",
    "socketio",
    "typer",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "websockets.legacy.server",
)
_ORDER_BYTES = 200_000  # the kernel takes no more at once
_LIBRARY = "lg_streaming"
_NO_PART = ("__main__", "pytest_plugin", "log_contract")

_preloaded: dict[str, types.ModuleType] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A program to run.

    Attributes:
        arguments: What follows `python`: `-m` and a module, `-c` and code, or a file; then its own arguments.
        folder: Its current folder.
        environment: All its variables. Of Python's own, PYTHONPATH and PYTHONUNBUFFERED have an effect.
        terminal: Whether it gets one descriptor, its controlling terminal, instead of three.
    """

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    terminal: bool


def preload() -> None:
    """Import other packages and all of lg_streaming."""
    before = set(sys.modules)
    for name in OTHERS:
        importlib.import_module(name)
    library = importlib.import_module(_LIBRARY)
    for name in _list_modules(_LIBRARY, library.__path__[0]):
        importlib.import_module(name)
    _preloaded.update((name, module) for name, module in sys.modules.items() if name not in before)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_preloaded))  # it outlasts the interpreter
    gc.collect()
    gc.freeze()  # otherwise each fork collects, and so copies, all that was imported when it ends


def _list_modules(package: str, folder: str) -> Iterator[str]:
    """Yield the names of all modules below a package, without those that need pytest."""
    for found in pkgutil.iter_modules([folder]):
        if found.name not in _NO_PART:
            yield f"{package}.{found.name}"
            if found.ispkg:
                yield from _list_modules(f"{package}.{found.name}", f"{folder}/{found.name}")


def _keep_preloaded() -> None:
    """Leave preloaded modules whole when a fork ends: it would copy all their memory to take them apart."""
    for name in _preloaded:
        sys.modules.pop(name, None)


def _serve(orders: socket.socket) -> Order | None:
    """Answer each order with the fork's pid and its exit code; return the order in the fork, None at the end."""
    running: dict[int, tuple[int, int]] = {}  # pid and connection, by the descriptor that signals the end
    with orders, selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not orders:
                    pid, answers = running.pop(key.fd)
                    selector.unregister(key.fd)
                    _, status = os.waitpid(pid, 0)
                    _answer(answers, os.waitstatus_to_exitcode(status))
                    os.close(answers)
                    os.close(key.fd)
                    continue
                data, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 4)
                if not data:
                    for pid, _ in running.values():
                        os.kill(pid, signal.SIGKILL)
                    return None
                *streams, answers = descriptors
                if (pid := os.fork()) == 0:
                    for each in (answers, *running, *(answer for _, answer in running.values())):
                        os.close(each)
                    order = Order(**json.loads(data))
                    _take_over(order, streams)
                    return order
                for each in streams:
                    os.close(each)
                ended = os.pidfd_open(pid)
                running[ended] = (pid, answers)
                selector.register(ended, selectors.EVENT_READ)
                _answer(answers, pid)


def _answer(answers: int, number: int) -> None:
    with suppress(BrokenPipeError):  # who asked is gone
        os.write(answers, b"%d\n" % number)


def _take_over(order: Order, streams: list[int]) -> None:
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    if order.terminal:
        os.login_tty(streams.pop())
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = sys.__stdin__ = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _writer(1, sys.stdout)
    sys.stderr = sys.__stderr__ = _writer(2, sys.stderr)


def _writer(descriptor: int, like: TextIO) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=not unbuffered and (descriptor == 2 or raw.isatty()),
        write_through=unbuffered,
    )


def _run(order: Order, path: list[str]) -> None:
    paths = [each for each in order.environment.get("PYTHONPATH", "").split(os.pathsep) if each]

    def start(first: str, argv: list[str]) -> None:
        sys.path[:] = [first, *dict.fromkeys([*paths, *path])]
        sys.argv = argv

    match order.arguments:
        case ["-m", name, *rest]:
            start(order.folder, ["-m", *rest])
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            start("", ["-c", *rest])
            main = types.ModuleType("__main__")
            main.__dict__["__builtins__"] = builtins
            sys.modules["__main__"] = main
            exec(compile(code, "<string>", "exec", dont_inherit=True), main.__dict__)
        case [file, *rest]:
            start(os.path.dirname(os.path.abspath(file)), [file, *rest])  # noqa: PTH100, PTH120 (what Python does)
            runpy.run_path(file, run_name="__main__")
        case _:
            raise ValueError(order.arguments)


if __name__ == "__main__":
    atexit.register(_keep_preloaded)  # first, and so last when a fork ends
    preload()
    if wanted := _serve(socket.socket(fileno=int(sys.argv[1]))):
        _run(wanted, sys.path[1:])
