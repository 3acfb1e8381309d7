"""Run Python programs in forks of one interpreter that has imported the large third-party packages.

Each program gets a process of its own and imports lg_streaming itself, so a missing import still fails. It saves the
second of processor time that LangGraph and FastAPI take to import.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

PRELOADED = (
    "aiohttp",
    "cryptography.fernet",
    "fastapi",
    "httpx2",
    "jwt",
    "langchain_core.language_models.chat_models",
    "langgraph.graph",
    "pydantic_settings",
    "reactivex",
    "socketio",
    "uvicorn",
)


class WarmError(Exception):
    """The interpreter ended, or did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Exit code (negative for a signal, as in `subprocess`) and output of a program."""

    code: int
    output: str


class WarmPython:
    """Interpreter that runs one program at a time, each in a fork of itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, program: Path, *, page: Path, folder: Path, seconds: int) -> Outcome:
        """Run a program as `__main__`; `await` is allowed at its top level, as in a notebook.

        Args:
            program: File with the code.
            page: File that tracebacks name.
            folder: Current folder of the program.
            seconds: Time after which SIGALRM ends it.

        Raises:
            WarmError: If the interpreter has ended.
        """
        output = program.with_suffix(".out")
        order = {
            "program": str(program),
            "page": str(page),
            "folder": str(folder),
            "output": str(output),
            "seconds": seconds,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            msg = f"the interpreter ended with {self._process.wait()}"
            raise WarmError(msg)
        return Outcome(code=json.loads(answer), output=output.read_text(encoding="utf-8"))


@contextmanager
def warm_python(environment: Mapping[str, str]) -> Generator[WarmPython]:
    """Start an interpreter with these environment variables; end it with the context."""
    with subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield WarmPython(process)  # Popen's context closes stdin, which ends the interpreter, and waits for it


def _serve() -> None:
    """Answer each order on stdin with the exit code of its program; in a fork, return after running the program."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # otherwise each fork collects, and so copies, all that was imported when it ends
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**order)
            return
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def _become(*, program: str, page: str, folder: str, output: str, seconds: int) -> None:
    signal.alarm(seconds)
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, descriptor in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, descriptor)
    os.close(nothing)
    os.close(written)
    sys.argv = [page]
    sys.path[0] = ""
    code = compile(
        Path(program).read_text(encoding="utf-8"), page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    module = types.ModuleType("__main__")
    module.__file__ = page
    sys.modules["__main__"] = module
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(types.FunctionType(code, module.__dict__)())
    else:
        exec(code, module.__dict__)


if __name__ == "__main__":
    _serve()
