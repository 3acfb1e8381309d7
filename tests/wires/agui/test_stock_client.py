"""The protocol's own client, versions 1.0.0 and 0.0.59."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.npm import Checks, run_checks

if TYPE_CHECKING:
    from tests.wires.agui.place import Place
    from tests.wires.results import Tested

JS = Path(__file__).parent / "js"
CLIENTS = {"@ag-ui/client": "1.0.0", "client059": "0.0.59"}
CHECKS = (
    *("text, state, steps, result", "a second run doubles nothing", "a tool of the server", "a tool of the page"),
    *("reasoning", "an interrupt and its answer", "answers that are false, empty, zero or null"),
    *("two interrupts at once", "an interrupt that the page cancels", "the older way to answer"),
    *("a page that was reloaded is asked again", "a page that was reloaded, without a replay"),
    *("a run that fails, then a good one", "abortRun, then the next run", "a server that stops"),
    *("a connection that breaks", "HTTP errors", "a second run at once is refused", "a reload in the middle"),
    *("a reload at an interrupt", "an unknown thread is empty", "connectAgent is empty", "an edited message"),
    *("an answer again", "the page's state", "a conversation that the server does not have", "the script ends"),
)


@pytest.fixture(scope="module")
def results(running: Place) -> dict[str, Checks]:
    """Results of both clients, at once, against one server."""

    async def run() -> list[Checks]:
        scripts = [run_checks(JS / "checks.mjs", running.server.url, client, timeout=60) for client in CLIENTS]
        return await asyncio.gather(*scripts)

    return dict(zip(CLIENTS, asyncio.run(run()), strict=True))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("check", CHECKS)
def test_the_stock_client(results: dict[str, Checks], client: str, check: str, tested: Tested) -> None:
    found = results[client][check]
    tested("ag-ui", "@ag-ui/client", CLIENTS[client], found)
    assert found.passed, found.detail
