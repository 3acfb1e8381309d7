"""The library without Linux: every module is imported, and everything in process runs, without POSIX's own parts.

The parts are hidden from this library alone, in a separate process. Other packages are imported before; they have
their own code for each platform.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.support.forks import run_program
from tests.support.server import ROOT

BLOCKED = ["fcntl", "termios", "resource", "pwd", "grp", "pty", "tty", "syslog", "posix", "crypt", "spwd", "uvloop"]

ELSEWHERE = """
import asyncio, builtins, importlib, json, os, pkgutil, signal, socket, sys, threading

def names():
    import lg_streaming
    found = [each.name for each in pkgutil.walk_packages(lg_streaming.__path__, "lg_streaming.")]
    return ["lg_streaming", *[name for name in found if "__main__" not in name]]

for name in names():
    importlib.import_module(name)  # and with it what others bring
for name in [name for name in sys.modules if name.partition(".")[0] == "lg_streaming"]:
    del sys.modules[name]

BLOCKED = set(@BLOCKED@)
real_import = builtins.__import__

def without(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if importer.partition(".")[0] == "lg_streaming" and level == 0 and name.partition(".")[0] in BLOCKED:
        raise ModuleNotFoundError(f"no module named {name!r} on this platform", name=name)
    return real_import(name, globals, locals, fromlist, level)

builtins.__import__ = without
for module, attributes in {
    os: ["fork", "register_at_fork", "pidfd_open", "killpg", "getpgid", "setsid", "pread", "pwrite", "geteuid", "uname",
         "set_blocking", "getuid", "sched_getaffinity", "posix_spawn", "fchmod", "mkfifo"],
    signal: ["SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "pthread_kill", "alarm", "setitimer"],
    socket: ["TCP_USER_TIMEOUT", "TCP_NOTSENT_LOWAT", "SO_REUSEPORT", "TCP_KEEPIDLE", "sethostname"],
}.items():
    for attribute in attributes:
        if hasattr(module, attribute):
            delattr(module, attribute)

def unsupported(*_):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = unsupported

imported = names()
for name in imported:
    importlib.import_module(name)
""".replace("@BLOCKED@", repr(BLOCKED))


def elsewhere(program: str) -> Any:
    return run_program(ELSEWHERE + program)


def test_every_module_is_imported() -> None:
    found = elsewhere("print(json.dumps(imported))")
    assert {"lg_streaming.gateway.hooks.server", "lg_streaming.activity.subprocess", "lg_streaming.cli.serve"} < set(
        found
    )
    assert len(found) > 100


def test_modules_that_are_missing_altogether() -> None:
    """As a program on such a system finds it: the first import of the process is this one."""
    missing = sorted(set(BLOCKED) - {"posix", "pwd", "grp"})  # which the standard library itself needs here
    code = (
        f"import sys; sys.modules |= dict.fromkeys({missing!r}); from lg_streaming import StreamingModule, stream_token"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_in_process_part_works() -> None:
    seen = elsewhere(
        """
import logging, pathlib, tempfile
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict
from lg_streaming import StreamingModule, StreamingSettings, stream_all
from lg_streaming.sinks import CallbackSink, JsonLinesSink, LoggingSink, QueueSink
from lg_streaming.testing import ScriptedChatModel

class State(TypedDict):
    text: str

model = ScriptedChatModel(answers=["Hello, world"])

@stream_all
async def write(state):
    return {"text": (await model.ainvoke(state["text"])).text}

def graph():
    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    builder.add_edge("write", END)
    return builder.compile()

async def main():
    out = {}
    async with StreamingModule(StreamingSettings(log_events=True)) as streaming:
        hub, called, observed = streaming.hub, [], []
        path = pathlib.Path(tempfile.mkdtemp()) / "updates.jsonl"
        hub.attach("e", CallbackSink(lambda update: called.append(update.type)))
        hub.attach("e", LoggingSink())
        jsonl = hub.attach("e", JsonLinesSink(path))
        queue = QueueSink()
        hub.attach("e", queue)
        hub.observe("e").subscribe(lambda update: observed.append(update.type))
        result = await graph().ainvoke({"text": "?"}, streaming.config(execution_id="e"))
        out["read"] = [update.type async for update in hub.subscribe("e")]
        out["queue"] = [update.type async for update in queue]
        await hub.sinks.flush("e")
        await jsonl.wait()
        lines = path.read_bytes()
        out["lines"] = [json.loads(line)["type"] for line in lines.splitlines()]
        out["carriage"] = lines.count(b"\\r")
        state = await hub.describe("e")
        out["resumes"] = str(JsonLinesSink.resume(path)[1]) == f"{state.epoch}:{state.head}"
        out["called"], out["observed"], out["text"] = called, observed, result["text"]
    return out

print(json.dumps(asyncio.run(main())))
"""
    )
    assert seen["text"] == "Hello, world"
    assert seen["read"][0] == "workflow_start"
    assert seen["read"][-1] == "workflow_complete"
    assert "token" in seen["read"]
    assert seen["queue"] == seen["called"] == seen["observed"] == seen["lines"] == seen["read"]
    assert (seen["carriage"], seen["resumes"]) == (0, True)


def test_a_server_and_its_clients_work() -> None:
    seen = elsewhere(
        """
import uvicorn
from fastapi import FastAPI
from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.client import SSEClient, SocketIOClient, SyncClient

streaming = StreamingModule(StreamingSettings(auth={"enabled": False}))
app = FastAPI()
streaming.install(app)
sock = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{sock.getsockname()[1]}"

async def main():
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", loop="asyncio"))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    with streaming.execution("e"):
        streaming.hub.emitter("e").token("x")
    out = {}
    for make in (SSEClient, SocketIOClient):
        async with make(url) as client:
            out[make.__name__] = [update.type async for update in client.subscribe("e")]
    def script():
        with SyncClient(url) as client:
            return [update.type for update in client.subscribe("e")]
    out["SyncClient"] = await asyncio.to_thread(script)
    out["memory"] = streaming.gateway.statistics().peak_memory_bytes
    server.should_exit = True
    await serving
    return out

print(json.dumps(asyncio.run(main())))
"""
    )
    for name in ("SSEClient", "SocketIOClient", "SyncClient"):
        assert seen[name] == ["workflow_start", "token", "workflow_complete"], name
    assert seen["memory"] == 0


def test_what_needs_linux_says_so() -> None:
    seen = elsewhere(
        """
from lg_streaming import StreamingModule
from lg_streaming.activity import AgentStream
from lg_streaming.errors import UnsupportedPlatformError

def tried(call):
    try:
        call()
    except UnsupportedPlatformError as error:
        return str(error)

streaming = StreamingModule()
with streaming.execution("e"), AgentStream(streaming.hub.emitter("e"), "tester") as agent:
    out = [
        tried(lambda: agent.capture_output_sync(["true"])),
        tried(lambda: asyncio.run(agent.capture_output(["true"]))),
    ]
print(json.dumps(out))
"""
    )
    assert all(line and "needs Linux" in line for line in seen), seen
