"""CopilotKit 1.75.0: its pages' core through its own runtime, and straight at the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.npm import Checks, installed, run_checks

if TYPE_CHECKING:
    from tests.wires.agui.place import Place
    from tests.wires.results import Tested

pytestmark = pytest.mark.wires
JS = Path(__file__).parent / "js"
VERSION = "1.75.0"
PACKAGES = {"@copilotkit/runtime": VERSION, "@copilotkit/core": VERSION, "@ag-ui/client": "0.0.59"}
WAYS = {"direct": "direct", "single": "single route", "runtime": "its runtime"}
CHECKS = (
    *("info", "text, token by token", "a tool of the server", "a tool of the page", "an interrupt and its answer"),
    *("a reload in the middle", "a reload after the end", "an unknown thread", "stop", "a failure, then a good run"),
)


@pytest.fixture(scope="module")
def results(running: Place) -> dict[str, Checks]:
    """Results of the page's core, on each way."""
    packages = installed(f"copilotkit-{VERSION}", PACKAGES)

    async def run() -> list[Checks]:
        return [await run_checks(JS / "copilotkit.mjs", running.server.url, way, packages=packages) for way in WAYS]

    return dict(zip(WAYS, asyncio.run(run()), strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("check", [*CHECKS, "the script ends"])
def test_copilotkit(results: dict[str, Checks], check: str, way: str, tested: Tested) -> None:
    found = results[way][check]
    tested("ag-ui", "@copilotkit/core", f"{VERSION} {WAYS[way]}", found)
    assert found.passed, f"{found.detail}\n{results[way].output[-2000:]}"
