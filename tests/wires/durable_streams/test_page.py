"""The server and the client of the guide run as they are written."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

from tests.docs.fences import blocks_of
from tests.support.node import node_executable
from tests.support.server import serve
from tests.wires.durable_streams.conftest import JS

PAGE = Path(__file__).resolve().parents[3] / "docs/guide/front-ends/durable-streams.md"


def test_the_server_and_the_client_of_the_page() -> None:
    blocks = {block.language: block.code for block in blocks_of(PAGE)}
    names: dict[str, Any] = {}
    exec(compile(blocks["python"], str(PAGE), "exec"), names)
    with serve(names["app"], log_config=None) as server:
        hub = names["streaming"].hub
        hub.publish("acme/run-1", "token", {"content": "Hello "})
        hub.publish("acme/run-1", "token", {"content": "world"})
        asyncio.run(hub.close("acme/run-1"))
        client = blocks["js"].replace("http://127.0.0.1:8000", server.url)
        command = [node_executable(), "--input-type=module", "--eval", client]
        done = subprocess.run(command, cwd=JS, capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.returncode) == ("Hello world", 0), done.stderr
