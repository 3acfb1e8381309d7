"""Versions of the stock event clients, over both transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wires.langgraph.places import check_all_passed, record, run_script
from tests.wires.langgraph.python_checks import Place
from tests.wires.langgraph_events.test_stock_clients import JS, TRANSPORTS

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = [pytest.mark.anyio, pytest.mark.wires]

SDKS = {"@langchain/langgraph-sdk": "1.15.0", "sdk-1.11.2": "1.11.2", "sdk-1.11.0": "1.11.0"}


async def check(client: str, version: str, script: str, place: Place, tested: Tested, **options: str) -> None:
    """Run a script, and record the outcome of each of its checks."""
    found = await run_script(str(JS / script), place, **options)
    record(tested, client, version, found)
    check_all_passed(found, least=17)


@TRANSPORTS
@pytest.mark.parametrize("sdk", SDKS)
async def test_the_client(sdk: str, transport: str, place: Place, tested: Tested) -> None:
    client = "@langchain/langgraph-sdk, threads.stream"
    await check(client, SDKS[sdk], "lc_events.mjs", place, tested, sdk=sdk, transport=transport)


@TRANSPORTS
async def test_the_hook(transport: str, place: Place, tested: Tested) -> None:
    await check("@langchain/react", "1.1.0", "lc_react2.mjs", place, tested, transport=transport)
