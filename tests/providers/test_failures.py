"""A model call that fails in the middle of its answer: its text is void, and what is tried next counts."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from lg_streaming import stream_all, stream_token
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Run, State, Update, graph_of, read
from tests.providers.models import ANTHROPIC, CHAT, MISTRAL, PACKAGES, RESPONSES, WAYS, Package
from tests.providers.runs import Seen, decorated, node_of, plain, run_node
from tests.providers.server import serving
from tests.providers.turns import RAIN, Turn

STREAMS = [package for package in PACKAGES if package not in MISTRAL.values()]
"""Packages that notice an error event in a stream; Mistral's passes it over."""
TEXT = "It rains in the mountains."

BROKEN = replace(RAIN, text=("It r", "ains in ", "the "), id="broken")
EVENTS = {"chat": 4, "responses": 6, "anthropic": 4, "mistral": 4}
"""Number of events after which some text was streamed."""


def broken(package: Package, fault: Any) -> Turn:
    return replace(BROKEN, fault=fault, events=EVENTS[package.name.split()[0]])


each_stream = pytest.mark.parametrize("package", STREAMS, ids=lambda package: package.name)
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def assert_void(run: Run) -> None:
    """Each message of which something was sent before a failure ends with an error that names it."""
    ids = list(run.texts(by=lambda update: update.metadata.message_id))
    assert ids
    assert [update.metadata.message_id for update in run.of("llm_error")] == ids
    assert run.types.index("llm_error") > run.types.index("token")


@pytest.mark.parametrize("decorate", [stream_token, decorated], ids=["token", "token and event"])
@pytest.mark.parametrize("way", ["invoke", "astream"])
@each_stream
async def test_an_error_event_in_the_middle(
    streaming: StreamingModule, package: Package, way: str, decorate: Any
) -> None:
    with serving(package.dialect, broken(package, "error")) as provider:
        node = decorate(node_of(WAYS[way], package.make(provider.url)))
        with pytest.raises(Exception) as raised:  # noqa: PT011  (each package has its own exceptions)
            await graph_of(node, names=("node",)).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert_void(run)
    assert run.one("llm_error").data["error"]["message"] in str(raised.value)
    assert run.final == "workflow_error"


@pytest.mark.parametrize("decorate", [stream_token, stream_all], ids=["token", "all"])
@pytest.mark.parametrize("way", ["ainvoke", "stream"])
@each_package
async def test_a_dropped_connection_and_a_second_try(
    streaming: StreamingModule, package: Package, way: str, decorate: Any
) -> None:
    with serving(package.dialect, broken(package, "drop"), RAIN) as provider:
        model = package.make(provider.url).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        if way == "stream":  # a stream that has begun is not tried again; the call as a whole is
            found = await run_node(streaming, provider, decorate(_twice(package.make(provider.url))))
        else:
            found = await run_node(streaming, provider, decorate(node_of(WAYS[way], model)))
    assert found.message.text == TEXT
    assert found.texts() == {found.message.id: TEXT}
    assert_void(Run(found.run.updates[: found.run.types.index("llm_error") + 1]))
    expected = await plain(package, WAYS["ainvoke"], RAIN)
    assert (found.message.text, found.message.usage_metadata) == (expected[0].text, expected[0].usage_metadata)


def _twice(model: Any) -> Any:
    def node(state: State) -> Update:
        for _ in range(2):
            try:
                chunks = list(model.stream("go"))
            except Exception as error:  # noqa: BLE001  (each package has its own exceptions)
                logging.getLogger(__name__).debug("tried again: %s", error)
            else:
                whole = chunks[0]
                for chunk in chunks[1:]:
                    whole += chunk
                return {"messages": [whole]}
        raise AssertionError("both tries failed")

    return node


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "abatch"])
@each_stream
async def test_a_fallback(streaming: StreamingModule, package: Package, way: str) -> None:
    other = ANTHROPIC["v0"] if package is CHAT else CHAT
    with serving(package.dialect, broken(package, "error")) as first, serving(other.dialect, RAIN) as second:
        model = package.make(first.url).with_fallbacks([other.make(second.url)])
        found = await run_node(streaming, second, stream_token(node_of(WAYS[way], model)))
    assert {message.text for message in found.messages} == {TEXT}
    assert set(found.texts().values()) == {TEXT} or found.texts() == {found.messages[0].id: TEXT * 2}
    assert len(found.run.of("llm_error")) == len(found.messages)


@pytest.mark.parametrize("way", ["ainvoke", "stream"])
@pytest.mark.parametrize("package", [CHAT, RESPONSES["v1"], ANTHROPIC["v0"]], ids=lambda package: package.name)
async def test_the_packages_own_retries(streaming: StreamingModule, package: Package, way: str) -> None:
    """Clients retry before any text was streamed: no text is void."""
    refused = Turn(status=500, headers={"retry-after-ms": "1"})
    with serving(package.dialect, refused, RAIN) as provider:
        model = package.make(provider.url, max_retries=1)
        found = await run_node(streaming, provider, decorated(node_of(WAYS[way], model)))
    assert len(provider.requests) == 2
    assert found.texts() == {found.message.id: TEXT}
    assert found.run.of("llm_error") == []


@pytest.mark.parametrize("status", [400, 429, 500])
@each_package
async def test_a_refused_request_raises_what_it_raises_without_decorators(
    streaming: StreamingModule, package: Package, status: int
) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011
        await plain(package, WAYS["ainvoke"], Turn(status=status))
    with serving(package.dialect, Turn(status=status)) as provider:
        node = stream_token(node_of(WAYS["ainvoke"], package.make(provider.url)))
        with pytest.raises(type(expected.value)) as raised:
            await graph_of(node, names=("node",)).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    assert type(raised.value) is type(expected.value)
    assert (await read(streaming, "e")).of("llm_error", "token") == []


@each_package
async def test_a_reader_that_stops_early_voids_nothing(streaming: StreamingModule, package: Package) -> None:
    async def node(state: State) -> Update:
        model: Any = package.make(provider.url)
        stream = model.astream("go")
        async for chunk in stream:
            if chunk.text:
                break
        await stream.aclose()
        return {}

    with serving(package.dialect, RAIN) as provider:
        found = Seen([], await _run(streaming, decorated(node)), provider)
    assert found.run.of("llm_error") == []
    assert "".join(found.texts().values()) == "It rains"
    assert found.run.one("llm_complete").data["cancelled"] is True
    assert found.run.final == "workflow_complete"


async def test_a_call_that_is_cancelled_voids_nothing(streaming: StreamingModule) -> None:
    package = CHAT

    async def node(state: State) -> Update:
        model: Any = package.make(provider.url)
        seen = asyncio.Event()

        async def ask() -> None:
            async for chunk in model.astream("go"):
                if chunk.text:
                    seen.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(ask())
        await seen.wait()
        task.cancel()
        await asyncio.wait([task])
        return {}

    with serving(package.dialect, RAIN) as provider:
        run = await _run(streaming, decorated(node))
    assert run.of("llm_error") == []
    assert run.texts() == {"node": "It rains"}


async def _run(streaming: StreamingModule, node: Any) -> Run:
    await graph_of(node, names=("node",)).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    return await read(streaming, "e")
