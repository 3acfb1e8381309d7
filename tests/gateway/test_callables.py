"""Functions that the application gives to the gateway, and what becomes of everybody else when they go wrong."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from lg_streaming.observability.events import GatewayEvent
from tests.gateway.contract.adapters import (
    READERS,
    Readers,
    WebSocketReader,
    numbers,
    readers_of,
    until_over,
    updates_in,
)
from tests.gateway.site import Site, site


class OddError(BaseException):
    """An error that `except Exception` does not catch."""


ERRORS: list[BaseException] = [RuntimeError("mine"), OddError("odd"), SystemExit(1), asyncio.CancelledError()]


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: object) -> Any:
        raise error

    return function


def raising_later(error: BaseException) -> Callable[..., Awaitable[Any]]:
    async def function(*_: object) -> Any:
        raise error

    return function


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> BaseException:
    return request.param


@contextmanager
def logged(caplog: pytest.LogCaptureFixture, text: str) -> Generator[None]:
    """The log has the failures, and only them."""
    yield
    wrong = [record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert wrong
    assert [message for message in wrong if text not in message] == []
    caplog.clear()


@pytest.fixture(params=[raising, raising_later], ids=["sync", "async"])
def wrong(request: pytest.FixtureRequest, error: BaseException) -> Callable[..., Any]:
    """A function that raises, at once or when it is awaited."""
    return request.param(error)


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


async def alive(place: Site) -> None:
    """Check that the server still serves, and has no client left."""
    async with httpx2.AsyncClient(timeout=10) as http:
        assert (await http.get(f"{place.url}/health")).status_code == 200
    async with asyncio.timeout(10):
        while place.gateway.connections or place.hub.statistics().subscriptions:
            await asyncio.sleep(0.01)


async def test_initial_data(wrong: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog, "initial_data failed"), site(initial_data=wrong) as place:
        async with httpx2.AsyncClient(timeout=10) as http:
            answer = await http.get(f"{place.url}/executions/e/stream")
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, 5000)
        await alive(place)


async def test_observer(readers: Readers, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def observer(event: GatewayEvent) -> None:
        told.append(event.name)
        raise SystemExit(1)

    with site(observer=observer) as place:
        place.tokens("e", 3)
        await place.hub.close("e")
        reader = readers(place.server)
        await reader.subscribe("e")
        assert numbers(updates_in(await until_over(reader))) == [1, 2, 3, 4, 5]
        await reader.aclose()
        await alive(place)
    assert bool(told) is reader.lasting
    caplog.clear()


async def test_handlers(wrong: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog, "a handler of execution 'e' failed"), site(limits={"cancel_grace": 0.1}) as place:
        place.hub.publish("e", "human_prompt", {"prompt_id": "p", "prompt": "?", "type": "input"})
        place.hub.on_cancel("e", wrong)
        place.hub.on_response("e", wrong)
        async with readers_of(WebSocketReader) as readers:
            reader = readers(place.server)
            assert isinstance(reader, WebSocketReader)
            await reader.subscribe("e")
            assert (await reader.ask("respond", {"execution_id": "e", "prompt_id": "p", "response": 1}))["ok"]
            assert (await reader.ask("cancel_execution", {"execution_id": "e"}))["ok"]
            types = [update["type"] for update in updates_in(await until_over(reader))]
        assert types == ["workflow_start", "human_prompt", "human_response", "workflow_cancelled"]
        await alive(place)
        assert len([record for record in caplog.records if record.exc_info]) == 2


async def test_redact(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def redact(type: str, data: Any) -> Any:
        if type in {"note", "human_response"}:
            raise error
        return data

    with logged(caplog, "redact raised on an update"), site(redact=redact) as place:
        place.hub.publish("e", "human_prompt", {"prompt_id": "p", "prompt": "?", "type": "input"})
        place.hub.publish("e", "note", {"secret": 1})
        async with httpx2.AsyncClient(base_url=place.url, timeout=10) as http:
            answer = await http.post("/executions/e/responses", json={"prompt_id": "p", "response": "secret"})
            assert answer.status_code == 200
            page = (await http.get("/executions/e/updates?events=note,human_response")).json()
        withheld = {"message": "withheld: redaction failed"}
        assert [update["data"] for update in page["updates"]] == [withheld, withheld]
        await alive(place)


async def test_what_never_answers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("lg_streaming.gateway.http.event_stream._INITIAL_DATA_TIMEOUT", 0.1)
    ended: list[str] = []

    async def endless(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("")

    with logged(caplog, "initial_data failed"), site(initial_data=endless, limits={"cancel_grace": 0.1}) as place:
        place.hub.open("e")
        place.hub.on_cancel("e", endless)
        async with httpx2.AsyncClient(base_url=place.url, timeout=10) as http:
            assert (await http.get("/executions/e/stream")).status_code == 500
            assert (await http.delete("/executions/e")).status_code == 202
            page = (await http.get("/executions/e/updates?events=workflow_cancelled&wait=10")).json()
        assert len(page["updates"]) == 1
        await alive(place)
        assert len(ended) == 1
    async with asyncio.timeout(10):
        while len(ended) < 2:
            await asyncio.sleep(0.001)
