"""Programs whose last line is JSON, and children they fork."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from tests.support import warm

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
    done = warm.run("-c", textwrap.dedent(program), *arguments, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_forking(program: str, **names: object) -> Any:
    """The JSON that a program prints as its last line; `in_child(work)`, other helpers and `names` are at hand.

    Raises:
        AssertionError: If the program fails, or a child of it; the message is what it wrote.
    """
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    result = run_program(_FORK + given + textwrap.dedent(program))
    assert "error" not in result, result
    return result
