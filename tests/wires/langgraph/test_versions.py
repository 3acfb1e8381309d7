"""Older stock clients against our server; and LangChain's own server, which has to pass the checks, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.wires.langgraph.places import check_all_passed, record, run_script
from tests.wires.langgraph.python_checks import ASYNC, SYNC, Place
from tests.wires.langgraph.reference import reference_server
from tests.wires.langgraph.test_stock_clients import CLIENTS

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = [pytest.mark.anyio, pytest.mark.wires]

SCRIPTS = pytest.mark.parametrize("script", CLIENTS)
SDKS = ["@langchain/langgraph-sdk", "sdk-1.11.2", "sdk-1.11.0"]


@pytest.fixture(scope="module")
async def reference(gates: Path) -> AsyncGenerator[Place]:
    async with reference_server(gates) as url:
        yield Place(url, gates, is_reference=True)


def options_of(sdk: str) -> dict[str, object]:
    """Clients before 1.15 take a tidy end of a stream for the end of the run."""
    return {"sdk": sdk, "tidyEndsCut": "1.11" in sdk}


Check = Callable[[Place], Awaitable[None] | None]


async def done(check: Check, place: Place) -> None:
    """Do a check of the Python client, a sync one in a thread."""
    if (waiting := await asyncio.to_thread(check, place)) is not None:
        await waiting


@SCRIPTS
@pytest.mark.parametrize("sdk", SDKS[1:])
async def test_an_older_client(script: str, sdk: str, place: Place, tested: Tested) -> None:
    found = await run_script(script, place, **options_of(sdk))
    record(tested, CLIENTS[script], sdk.removeprefix("sdk-"), found)
    check_all_passed(found, least=10)


@SCRIPTS
@pytest.mark.parametrize("sdk", SDKS)
async def test_the_reference_passes(script: str, sdk: str, reference: Place) -> None:
    check_all_passed(await run_script(script, reference, **options_of(sdk)))


@pytest.mark.filterwarnings("ignore:Reconnecting")
@pytest.mark.parametrize("check", [*ASYNC, *SYNC], ids=lambda check: check.__name__)
async def test_the_reference_passes_in_python(check: Check, reference: Place) -> None:
    await done(check, reference)


@SCRIPTS
async def test_a_log_on_redis(script: str, on_redis: Place) -> None:
    check_all_passed(await run_script(script, on_redis))


@pytest.mark.filterwarnings("ignore:Reconnecting")
@pytest.mark.parametrize("check", [*ASYNC, *SYNC], ids=lambda check: check.__name__)
async def test_a_log_on_redis_in_python(check: Check, on_redis: Place) -> None:
    await done(check, on_redis)
