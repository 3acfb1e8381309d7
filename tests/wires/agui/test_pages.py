"""The programs of the pages about AG-UI and CopilotKit, each client against the server of the page."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.fences import blocks_of
from tests.support.node import node_executable
from tests.support.npm import installed
from tests.support.server import Server, serve
from tests.wires.agui.test_copilotkit import PACKAGES, VERSION

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "docs" / "guide" / "front-ends" / name for name in ("ag-ui.md", "copilotkit.md")]
JS = Path(__file__).parent / "js"


def program(title: str) -> str:
    """The block of this title."""
    found: list[str] = []
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        found += [each.code for each in blocks_of(page) if f'title="{title}"' in lines[each.line - 2]]
    assert len(found) == 1, title
    return found[0]


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    namespace: dict[str, Any] = {}
    exec(compile(program("agui_app.py"), "agui_app.py", "exec"), namespace)
    with serve(namespace["app"], log_config=None) as it:
        yield it


async def run(title: str, server: Server, folder: Path, *, more: str = "") -> str:
    """Run a block as a module of a folder whose packages it imports; return what it prints."""
    text = program(title).replace("http://127.0.0.1:8000", server.url) + more
    process = await asyncio.create_subprocess_exec(
        *(node_executable(), "--input-type=module", "-"),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(text.encode()), 60)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_client_of_ag_ui(server: Server) -> None:
    assert (await run("agui-client.mjs", server, JS)).split("\n")[:2] == ["It rains in Oslo.2", ""]


async def test_the_answer_to_an_interrupt(server: Server) -> None:
    more = "\nawait answer(true)\nconsole.log(agent.messages.length)"
    assert (await run("agui-answer.mjs", server, JS, more=more)).strip()


@pytest.mark.wires
async def test_the_client_of_copilotkit(server: Server) -> None:
    packages = installed(f"copilotkit-{VERSION}", PACKAGES)
    assert (await run("copilotkit-client.mjs", server, packages)).strip().endswith("It rains in Oslo.")


@pytest.mark.wires
async def test_the_runtime_of_copilotkit(server: Server) -> None:
    packages = installed(f"copilotkit-{VERSION}", PACKAGES)
    more = """
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
const answer = await fetch(`http://127.0.0.1:${server.address().port}/api/copilotkit/info`)
console.log(Object.keys((await answer.json()).agents))
process.exit()"""
    assert "chat" in await run("copilotkit-runtime.mjs", server, packages, more=more)
