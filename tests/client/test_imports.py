"""Imports of a client: no part of the server, and not much time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.server import ROOT

SERVER_PARTS = {
    "fastapi",
    "starlette",
    "uvicorn",
    "langgraph",
    "langchain_core",
    "reactivex",
    "pydantic_settings",
    "jwt",
}
OUR_SERVER = {"hub", "gateway", "pipeline", "capture", "module", "log", "decorators", "emitter", "settings"}

LIST = """
import json, sys, time
began = time.process_time()
{imports}
took = time.process_time() - began
print(json.dumps([took, sorted(sys.modules)]))
"""


def imported(imports: str) -> tuple[float, set[str]]:
    """Processor time that the imports took in a process of their own, and all modules that are there then."""
    done = subprocess.run(
        [sys.executable, "-c", LIST.format(imports=imports)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


@pytest.mark.parametrize("names", ["SSEClient, SyncClient, Disconnected, StreamClient", "SocketIOClient"])
def test_a_client_imports_no_part_of_the_server(names: str) -> None:
    _, modules = imported(f"from lg_streaming.client import {names}")
    assert not {module.partition(".")[0] for module in modules} & SERVER_PARTS
    assert not {module.split(".")[1] for module in modules if module.startswith("lg_streaming.")} & OUR_SERVER
    assert ("aiohttp" in modules) is (names == "SocketIOClient")
    assert ("socketio" in modules) is (names == "SocketIOClient")


def test_a_client_is_imported_in_half_the_time_of_a_server() -> None:
    client = min(imported("from lg_streaming.client import SSEClient")[0] for _ in range(2))
    server, _ = imported("from lg_streaming import StreamingModule")
    assert client < 0.5 * server


@pytest.mark.parametrize(("package", "name"), [("httpx2", "SSEClient"), ("aiohttp", "SocketIOClient")])
def test_a_missing_extra_is_named(package: str, name: str) -> None:
    program = f"""
import sys
sys.modules["{package}"] = None
try:
    from lg_streaming.client import {name}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install 'lg-streaming[client]'" in done.stdout


def test_every_public_name_is_there() -> None:
    _, modules = imported("import lg_streaming.client as c\nfor name in c.__all__: getattr(c, name)")
    assert "lg_streaming.client.sync" in modules
