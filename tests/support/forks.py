"""Programs that a test runs in a process of their own, and children they fork."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap
import traceback
from typing import Any

from tests.support.server import ROOT

_FORK = '''
import asyncio, json, multiprocessing, os, signal, sys, threading, time
from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.errors import ForkedError
from lg_streaming.sinks import CallbackSink

PATIENCE = 20


def in_child(work):
    """What `work()` returns in a forked child, as JSON; an error or a child that hangs is a dict with `error`."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        try:
            result = work()
        except BaseException as error:
            result = {"error": repr(error)}
        os.write(theirs, json.dumps(result).encode())
        os._exit(0)
    os.close(theirs)
    data = b""
    while part := os.read(ours, 65_536):
        data += part
    os.close(ours)
    os.waitpid(pid, 0)
    return json.loads(data) if data else {"error": "the child hung"}


async def read_all(hub, execution_id, **wanted):
    async with asyncio.timeout(PATIENCE):
        return [update async for update in hub.subscribe(execution_id, **wanted)]


def run(streaming, execution_id, words=("a", "b")):
    """A run, and the updates that a reader then gets."""
    with streaming.execution(execution_id):
        for word in words:
            streaming.hub.emitter(execution_id).token(word)
    return asyncio.run(read_all(streaming.hub, execution_id))


def types(updates):
    return [update.type for update in updates]

'''


def run_program(program: str, *arguments: str, timeout: float = 60.0) -> Any:
    """The JSON that a Python program prints as its last line.

    Raises:
        AssertionError: If the program fails; the message is what it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class ForkingPrograms:
    """Runs programs that fork, each in a process of its own.

    One interpreter imports the library once and forks for each program, which takes milliseconds. It makes no object of
    the library itself.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, program: str, **names: object) -> Any:
        """The JSON that a program prints as its last line; `in_child(work)`, other helpers and `names` are at hand.

        Raises:
            AssertionError: If the program fails, or a child of it; the message is what it wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        source = _FORK + textwrap.dedent(program)
        self._process.stdin.write(json.dumps({"source": source, "names": names}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["status"] == 0, answer["output"]
        result = json.loads(answer["output"].splitlines()[-1])
        assert "error" not in result, result
        return result

    def close(self) -> None:
        """End the interpreter."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def _serve() -> None:
    for module in ("lg_streaming.module", "lg_streaming.sinks", "lg_streaming.client.sync", "lg_streaming.client.sse"):
        importlib.import_module(module)
    for line in sys.stdin:
        status, output = _run(**json.loads(line))
        sys.stdout.write(json.dumps({"status": status, "output": output}) + "\n")
        sys.stdout.flush()


def _run(source: str, names: dict[str, object]) -> tuple[int, str]:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.close(theirs)
        os.close(ours)
        status = 1
        try:
            exec(compile(source, "<program>", "exec"), {"__name__": "__main__", **names})
            status = 0
        except BaseException:  # noqa: BLE001 (it is what the test gets to see)
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        output = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


if __name__ == "__main__":
    _serve()
