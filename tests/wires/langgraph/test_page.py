"""The server and the clients of the guide run as they are written."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.docs.fences import blocks_of
from tests.support.node import node_executable
from tests.support.server import serve
from tests.wires.langgraph.places import JS

PAGE = Path(__file__).resolve().parents[3] / "docs/guide/front-ends/langgraph-sdk.md"
ADDRESS = "http://127.0.0.1:8000"


def test_the_server_and_the_clients_of_the_page() -> None:
    server_code, js, python = [block.code for block in blocks_of(PAGE)]
    names: dict[str, Any] = {"__name__": "langgraph_app"}
    exec(compile(server_code, str(PAGE), "exec", dont_inherit=True), names)
    with serve(names["app"], log_config=None) as server:
        commands = {
            "js": [node_executable(), "--input-type=module", "--eval", js.replace(ADDRESS, server.url)],
            "python": [sys.executable, "-c", python.replace(ADDRESS, server.url)],
        }
        for name, command in commands.items():
            done = subprocess.run(
                command,
                cwd=JS,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert (name, done.stdout, done.returncode) == (name, "Rain is water that falls from clouds.", 0), (
                done.stderr
            )
