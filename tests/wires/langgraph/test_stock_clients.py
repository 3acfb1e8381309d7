"""The newest stock clients against our server: JavaScript, React and Python."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.wires.langgraph.places import check_all_passed, record, run_script
from tests.wires.langgraph.python_checks import ASYNC, SYNC, Place

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = pytest.mark.anyio

CLIENTS = {
    "lc_client.mjs": "@langchain/langgraph-sdk, runs.stream",
    "lc_react.mjs": "@langchain/langgraph-sdk/react, useStream",
}


@pytest.mark.parametrize("script", ["lc_client.mjs", "lc_react.mjs"])
async def test_the_javascript_clients(script: str, place: Place, tested: Tested) -> None:
    found = await run_script(script, place)
    record(tested, CLIENTS[script], "1.15.0", found)
    check_all_passed(found, least=10)


@pytest.mark.filterwarnings("ignore:Reconnecting")
async def test_the_python_client(place: Place, tested: Tested) -> None:
    async def result(check: Callable[[Place], Awaitable[None]]) -> str | None:
        try:
            await check(place)
        except Exception as error:
            error.add_note(check.__name__)
            raise

    done = await asyncio.gather(
        *map(result, ASYNC), *(asyncio.to_thread(check, place) for check in SYNC), return_exceptions=True
    )
    found = {check.__name__: str(error) if error else None for check, error in zip([*ASYNC, *SYNC], done, strict=True)}
    record(tested, "langgraph_sdk (Python), runs.stream", version("langgraph_sdk"), found)
    assert not (wrong := [each for each in done if each is not None]), wrong
