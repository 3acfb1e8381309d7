"""A server with runs to watch, and the commands as functions."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typer.testing import CliRunner

from lg_streaming import human_prompt, stream_all
from lg_streaming.cli.main import app
from lg_streaming.client import SyncClient
from lg_streaming.testing import ScriptedChatModel
from tests.gateway.starts import StartSite, State, bearer, make_graphs, may_start, one_node, start_site
from tests.support import warm

ALICE = bearer("alice", may_start("**", executions=("alice/*",)))
BOB = bearer("bob", may_start("**", executions=("bob/*",)))
PATIENCE = 30.0


@stream_all()
async def _write(state: State) -> State:
    answer = await ScriptedChatModel(answers=["The sea is salty.\nRivers carry minerals.\n"]).ainvoke("why")
    return {"text": answer.text}


async def _publish(state: State) -> State:
    return {"answer": str(interrupt("Publish the essay?"))}


async def _choose(state: State) -> State:
    return {"answer": str(await human_prompt("Publish?", choices=["publish", "revise"]))}


@stream_all()
async def _endless(state: State) -> State:
    await asyncio.Event().wait()
    return {}


async def _fail(state: State) -> State:
    raise ValueError("broken [red]\x1b[2J")


def essay() -> Any:
    builder = StateGraph(State)
    builder.add_node("write", _write)
    builder.add_node("publish", stream_all()(_publish))
    builder.add_edge(START, "write")
    builder.add_edge("write", "publish")
    return builder.compile(checkpointer=InMemorySaver(), name="essay")


@contextmanager
def cli_site(**settings: Any) -> Generator[StartSite]:
    graphs = {
        **make_graphs(),
        "essay": essay(),
        "choose": one_node("choose", _choose),
        "endless": one_node("endless", _endless),
        "fail": one_node("fail", _fail),
        "write": one_node("write", _write),
    }
    with start_site(graphs=graphs, **settings) as site:
        yield site


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def cli(*arguments: str, token: str | None = ALICE, stdin: str = "", env: Mapping[str, str] | None = None) -> Done:
    """Run a command in this process, with the token in the environment."""
    variables = {"COLUMNS": "200", "LG_STREAMING_TOKEN": token or None, **(env or {})}
    done = CliRunner().invoke(app, list(arguments), input=stdin, env=variables)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def new_id(owner: str = "alice") -> str:
    return f"{owner}/{uuid4().hex[:8]}"


def start(site: StartSite, graph: str, input: Any = None, *, execution_id: str | None = None, until: str = "") -> str:
    """Start a run of alice, wait for the first update of a type (by default its end), and return the execution."""
    execution_id = execution_id or new_id()
    with SyncClient(site.url, token=ALICE) as client:
        run = client.start(graph, input or {"text": "hi"}, execution_id=execution_id)
        with run.updates(timeout=PATIENCE) as updates:
            for update in updates:
                if until and update.type == until:
                    break
    return execution_id


@dataclass(frozen=True, slots=True)
class Command:
    """A command in a separate process."""

    process: warm.Program | subprocess.Popen[str]

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def read_until(self, text: str) -> str:
        """The next line with `text`."""
        seen: list[str] = []
        while text not in (line := self.read_line()):
            seen.append(line)
            assert line, f"{text!r} never came: {''.join(seen)}{self.read_errors()}"
        return line

    def read_to_end(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()

    def read_error_line(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def read_errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@contextmanager
def running(*arguments: str) -> Generator[Command]:
    """A command of alice; it is killed at the end unless it has ended."""
    env = {**os.environ, "LG_STREAMING_TOKEN": ALICE}
    with warm.start("-m", "lg_streaming", *arguments, env=env) as process:
        limit = threading.Timer(2 * PATIENCE, process.kill)  # a test that waits for a line fails then
        limit.start()
        try:
            yield Command(process)
        finally:
            limit.cancel()
            limit.join()
            process.kill()
