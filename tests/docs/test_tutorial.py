"""The tutorial's server, page and programs, taken from its text and used as it describes."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from playwright.async_api import expect

from tests.docs.fences import blocks_of
from tests.support.browser import chromium_page
from tests.support.node import JS
from tests.support.server import Server, serve

PAGE = Path(__file__).resolve().parents[2] / "docs/tutorial.md"
ANSWER = "Rain is water that falls from clouds."
SHOWN = ["[workflow_start]", "[status]", "[node_start]", f"{ANSWER}[node_complete]", "[workflow_complete]"]
ADDRESS = "http://127.0.0.1:8000"
PATIENCE = 20.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tutorial's files, under the names it gives them, in the current folder."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for block in blocks_of(PAGE):
        _, _, name = lines[block.line - 2].partition('title="')
        if name:
            (tmp_path / name.rstrip('"')).write_text(block.code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    spec = importlib.util.spec_from_file_location("tutorial_app", folder / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app: FastAPI = module.app
    with serve(app) as server:
        yield server


@pytest.mark.browser
async def test_the_page_shows_the_answer_and_survives_a_reload(server: Server) -> None:
    async with chromium_page() as page:
        await page.goto(server.url)
        await page.get_by_role("button").click()
        await expect(page.locator("p")).to_have_text("Rain", timeout=PATIENCE * 1000)
        await page.reload()
        await expect(page.locator("p")).to_have_text(ANSWER, timeout=PATIENCE * 1000)


async def test_the_program_shows_the_answer_live_and_afterwards(server: Server, folder: Path) -> None:
    program = folder / "watch.mjs"
    text = program.read_text(encoding="utf-8")
    assert ADDRESS in text
    print_id = "\nconsole.log(execution_id);\n"
    program.write_text(text.replace(ADDRESS, server.url) + print_id, encoding="utf-8")
    (folder / "node_modules").symlink_to(JS / "node_modules")
    execution_id, live = (await node(program)).split("\n", 1)
    assert live.splitlines() == SHOWN
    assert (await node(program, execution_id)).splitlines() == [execution_id, *SHOWN]


async def test_the_python_program_shows_the_answer(server: Server, folder: Path) -> None:
    program = folder / "watch.py"
    text = program.read_text(encoding="utf-8")
    assert ADDRESS in text
    program.write_text(text.replace(ADDRESS, server.url), encoding="utf-8")
    async with httpx2.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/ask", params={"question": "What is rain?"})
    assert (await ran(sys.executable, program, answer.json()["execution_id"])).splitlines() == SHOWN


async def node(*arguments: object) -> str:
    """Return the output of a program of Node that ends well."""
    command = shutil.which("node")
    assert command, "node is not installed: `make test` installs it"
    return await ran(command, *arguments)


async def ran(command: str, *arguments: object) -> str:
    """Return the output of a program that ends well."""
    process = await asyncio.create_subprocess_exec(
        command, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()
