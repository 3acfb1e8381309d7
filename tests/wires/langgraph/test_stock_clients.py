"""The newest stock clients against our server: JavaScript, React and Python."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.wires.langgraph.places import check_all_passed, run_script
from tests.wires.langgraph.python_checks import ASYNC, SYNC, Place

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("script", ["lc_client.mjs", "lc_react.mjs"])
async def test_the_javascript_clients(script: str, place: Place) -> None:
    found = await run_script(script, place)
    check_all_passed(found, least=10)


@pytest.mark.filterwarnings("ignore:Reconnecting")
async def test_the_python_client(place: Place) -> None:
    async def result(check: Callable[[Place], Awaitable[None]]) -> str | None:
        try:
            await check(place)
        except Exception as error:
            error.add_note(check.__name__)
            raise

    done = await asyncio.gather(
        *map(result, ASYNC), *(asyncio.to_thread(check, place) for check in SYNC), return_exceptions=True
    )
    assert not (wrong := [each for each in done if each is not None]), wrong
