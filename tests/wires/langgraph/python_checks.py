"""Checks with the stock Python client of the LangGraph SDK, async and sync. Each takes what it needs from a `Place`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.support.tcp_proxy import TcpProxy, tcp_proxy
from tests.wires.langgraph.graphs import open_gate

__all__ = ["ASYNC", "SYNC", "Place", "client_of", "human", "only_text", "read", "stream_text", "until"]

TUPLES: Any = ["values", "messages-tuple"]


@dataclass(frozen=True, slots=True)
class Place:
    """A server.

    Attributes:
        url: Its URL.
        gates: The folder of its gates.
        is_reference: Whether it is LangChain's own.
    """

    url: str
    gates: Path
    is_reference: bool = False

    def gate(self) -> str:
        """The name of a new gate."""
        return uuid4().hex

    def open(self, gate: str) -> None:
        """Open a gate."""
        open_gate(self.gates, gate)


@asynccontextmanager
async def client_of(url: str, headers: dict[str, str] | None = None) -> AsyncGenerator[Any]:
    """A client, closed at the end. Its results have too many types to name."""
    async with get_client(url=url, api_key=None, headers=headers) as client:
        yield client


def sync_client_of(url: str) -> AbstractContextManager[Any]:
    """The sync client."""
    return get_sync_client(url=url, api_key=None)


def human(text: str) -> Any:
    """Input with a message of the user."""
    return {"messages": [{"type": "human", "content": text, "id": uuid4().hex}]}


async def read(stream: AsyncIterator[Any], act: Callable[[str], object] | None = None) -> list[Any]:
    """The frames of a stream; `act` gets the text so far after each."""
    frames: list[Any] = []
    async for frame in stream:
        frames.append(frame)
        if act is not None and frame.event == "messages":
            act(only_text(frames))
    return frames


def only_text(frames: list[Any]) -> str:
    """The streamed text of the mode `messages-tuple`."""
    return "".join(frame.data[0]["content"] for frame in frames if frame.event == "messages")


async def stream_text(client: Any, thread: str, text: str, act: Callable[[str], object] | None = None) -> str:
    """The streamed text of a new run, to its end."""
    stream = client.runs.stream(thread, "agent", input=human(text), stream_mode=TUPLES, stream_resumable=True)
    return only_text(await read(stream, act))


async def until(condition: Callable[[], Awaitable[object]], timeout: float = 10.0) -> Any:
    """Wait until a condition holds, and return what it returned."""
    async with asyncio.timeout(timeout):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
        return found


async def new_thread(client: Any) -> str:
    return (await client.threads.create())["thread_id"]


def once(text: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Act when a text has come, once."""
    waiting = [act]

    def look(so_far: str) -> None:
        if waiting and text in so_far:
            waiting.pop()()

    return look


async def tokens(place: Place) -> None:
    async with client_of(place.url) as client:
        thread = await new_thread(client)
        created: list[Any] = []
        stream = client.runs.stream(
            thread, "agent", input=human("say Hello there."), stream_mode=TUPLES, on_run_created=created.append
        )
        frames = await read(stream)
        assert only_text(frames) == "Hello there."
        assert [frame.event for frame in frames[:2]] == ["metadata", "values"]
        assert created == [{"run_id": frames[0].data["run_id"], "thread_id": thread}]
        assert frames[-1].data["messages"][-1]["content"] == "Hello there." or frames[-1].event == "end"
        assert (await client.runs.get(thread, created[0]["run_id"]))["status"] == "success"


async def second_version(place: Place) -> None:
    """Parts of the second version are `{type, ns, data}`."""
    async with client_of(place.url) as client:
        thread = await new_thread(client)
        stream = client.runs.stream(
            thread,
            "agent",
            input=human("child a b"),
            stream_mode=[*TUPLES, "updates"],
            stream_subgraphs=True,
            version="v2",
        )
        parts: list[Any] = [part async for part in stream]
        assert parts[0]["type"] == "metadata"
        below = [part for part in parts if part["ns"]]
        assert {part["type"] for part in below} == {"messages", "updates", "values"}
        assert below[0]["ns"][0].startswith("child:")
        assert "".join(part["data"][0]["content"] for part in below if part["type"] == "messages") == "a b"


async def asks(place: Place) -> None:
    async with client_of(place.url) as client:
        thread = await new_thread(client)
        values = await client.runs.wait(thread, "agent", input=human("ask"))
        assert values["__interrupt__"][0]["value"] == {"question": "Go on?"}
        state = await client.threads.get_state(thread)
        assert list(state["next"]) == ["ask"]
        assert state["tasks"][0]["interrupts"][0]["id"] == values["__interrupt__"][0]["id"]
        values = await client.runs.wait(thread, "agent", command={"resume": {"any": ["json", 1]}})
        assert values["messages"][-1]["content"] == "answer: {'any': ['json', 1]}"
        history = await client.threads.get_history(thread, limit=20)
        assert list(history[0]["next"]) == []
        at = await client.threads.get_state(thread, checkpoint=history[1]["checkpoint"])
        assert list(at["next"]) == ["ask"]
        await client.threads.update_state(thread, {"note": "mine"})
        assert (await client.threads.get_state(thread))["values"]["note"] == "mine"


async def errors(place: Place) -> None:
    async with client_of(place.url) as client:
        unknown = str(uuid4())
        with pytest.raises(NotFoundError):
            await client.threads.get(unknown)
        with pytest.raises(NotFoundError):
            await read(client.runs.stream(unknown, "agent", input=human("say x")))
        thread = await new_thread(client)
        with pytest.raises(ConflictError):
            await client.threads.create(thread_id=thread)
        with pytest.raises(UnprocessableEntityError):
            await client.runs.create(thread, "no-such-graph", input={})
        with pytest.raises(Exception, match="boom"):
            await client.runs.wait(thread, "agent", input=human("fail x"))
        frames = await read(client.runs.stream(thread, "agent", input=human("fail x"), stream_mode="values"))
        error = frames[-1]
        assert (error.event, error.data["error"], error.data["message"]) == ("error", "ValueError", "boom")


async def joins(place: Place) -> None:
    async with client_of(place.url) as client:
        thread, gate = await new_thread(client), place.gate()
        run = await client.runs.create(
            thread,
            "agent",
            input=human(f"say one two |{gate}| three"),
            stream_mode=TUPLES,
            stream_resumable=True,
        )
        first = client.runs.join_stream(thread, run["run_id"], last_event_id="-1")
        frames = await read(first, once("two", lambda: place.open(gate)))
        assert only_text(frames) == "one two three"
        again = await read(client.runs.join_stream(thread, run["run_id"], last_event_id=frames[2].id))
        assert again == frames[3:]
        values = await client.runs.join(thread, run["run_id"])
        assert values["messages"][-1]["content"] == "one two three"
        assert [each["run_id"] for each in await client.runs.list(thread)] == [run["run_id"]]


async def cancels(place: Place) -> None:
    async with client_of(place.url) as client:
        thread = await new_thread(client)
        for action in ("interrupt", "rollback"):
            run = await client.runs.create(thread, "agent", input=human(f"say x |{place.gate()}| y"))

            async def is_running(run: Any = run) -> bool:
                return (await client.runs.get(thread, run["run_id"]))["status"] == "running"

            await until(is_running)
            await client.runs.cancel(thread, run["run_id"], wait=True, action=action)
            if action == "interrupt":
                assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"

        async def is_gone() -> bool:
            try:
                await client.runs.get(thread, run["run_id"])
            except NotFoundError:
                return True
            return False

        await until(is_gone)


async def cut(place: Place) -> None:
    """A connection that is cut in the middle of an answer."""
    async with broken(place, TcpProxy.reset) as text:
        assert text == "one two three"


async def early_end(place: Place) -> None:
    """A response that ends as if complete, in the middle of an answer."""
    async with broken(place, TcpProxy.complete) as text:
        assert text == "one two three"


@asynccontextmanager
async def broken(place: Place, fault: Callable[[TcpProxy], None]) -> AsyncGenerator[str]:
    """The text that a client gets if a fault strikes in the middle of its answer."""
    port = int(place.url.rpartition(":")[2])
    async with tcp_proxy(port) as proxy, client_of(f"http://127.0.0.1:{proxy.port}") as client:
        thread, gate = await new_thread(client), place.gate()

        def look(data: bytes) -> bytes:
            if b'"running"' in data or b"text/event-stream" in data:
                place.open(gate)
            return data

        def strike() -> None:
            fault(proxy)
            if fault is TcpProxy.complete:  # the client asks for the run's status, or comes back
                proxy.new_filter = lambda: look
            else:
                place.open(gate)

        yield await stream_text(client, thread, f"say one two |{gate}| three", once("two", strike))


async def strategies(place: Place) -> None:
    async with client_of(place.url) as client:
        thread, gate = await new_thread(client), place.gate()
        run = await client.runs.create(thread, "agent", input=human(f"say x |{gate}| y"))
        with pytest.raises(ConflictError):
            await client.runs.create(thread, "agent", input=human("say no"), multitask_strategy="reject")
        queued = await client.runs.create(thread, "agent", input=human("say z"), multitask_strategy="enqueue")
        assert queued["status"] == "pending"
        place.open(gate)
        await client.runs.join(thread, run["run_id"])
        values = await client.runs.join(thread, queued["run_id"])
        assert [each["content"] for each in values["messages"]][1::2] == ["x y", "z"]


async def others(place: Place) -> None:
    """Assistants, search, threads without a run, runs without a thread."""
    async with client_of(place.url) as client:
        found = await client.assistants.search()
        assert {each["graph_id"] for each in found} == {"agent", "other"}
        assert (await client.assistants.get(found[0]["assistant_id"]))["graph_id"] == found[0]["graph_id"]
        tag = uuid4().hex
        thread = await client.threads.create(metadata={"tag": tag}, graph_id="agent")
        assert [each["thread_id"] for each in await client.threads.search(metadata={"tag": tag})] == [
            thread["thread_id"]
        ]
        await client.threads.update(thread["thread_id"], metadata={"more": True})
        metadata = (await client.threads.get(thread["thread_id"]))["metadata"]
        assert metadata["tag"] == tag
        assert metadata["more"]
        await client.threads.delete(thread["thread_id"])
        assert await client.threads.search(metadata={"tag": tag}) == []
        stream = client.runs.stream(None, "agent", input=human("say alone"), stream_mode="messages-tuple")
        assert only_text(await read(stream)) == "alone"
        values = await client.runs.wait(None, "agent", input=human("say alone"))
        assert values["messages"][-1]["content"] == "alone"


def sync_tokens(place: Place) -> None:
    with sync_client_of(place.url) as client:
        thread = client.threads.create()["thread_id"]
        gate, created = place.gate(), list[Any]()
        stream = client.runs.stream(
            thread,
            "agent",
            input=human(f"say one two |{gate}| three"),
            stream_mode=TUPLES,
            on_run_created=created.append,
        )
        frames = list[Any]()
        for frame in stream:
            frames.append(frame)
            if "two" in only_text(frames):
                place.open(gate)
        assert only_text(frames) == "one two three"
        assert client.runs.get(thread, created[0]["run_id"])["status"] == "success"
        asked = client.runs.wait(thread, "agent", input=human("ask"))
        assert asked["__interrupt__"][0]["value"] == {"question": "Go on?"}
        values = client.runs.wait(thread, "agent", command={"resume": "ok"})
        assert values["messages"][-1]["content"] == "answer: ok"
        assert len(client.threads.get_history(thread, limit=2)) == 2


def sync_errors(place: Place) -> None:
    with sync_client_of(place.url) as client:
        thread = client.threads.create()["thread_id"]
        with pytest.raises(ConflictError):
            client.threads.create(thread_id=thread)
        with pytest.raises(Exception, match="boom"):
            client.runs.wait(thread, "agent", input=human("fail x"))
        run = client.runs.create(thread, "agent", input=human(f"say x |{place.gate()}| y"))
        client.runs.cancel(thread, run["run_id"], wait=True)
        assert client.runs.get(thread, run["run_id"])["status"] == "interrupted"
        client.threads.delete(thread)
        with pytest.raises(NotFoundError):
            client.threads.get(thread)


async def sync_cut(place: Place) -> None:
    """A connection of the sync client that is cut in the middle of an answer."""
    async with tcp_proxy(int(place.url.rpartition(":")[2])) as proxy:
        loop, gate = asyncio.get_running_loop(), place.gate()

        def work(client: Any) -> str:
            thread = client.threads.create()["thread_id"]
            stream = client.runs.stream(
                thread,
                "agent",
                input=human(f"say one two |{gate}| three"),
                stream_mode=TUPLES,
                stream_resumable=True,
            )
            frames, cuts = list[Any](), [proxy.reset]
            for frame in stream:
                frames.append(frame)
                if cuts and "two" in only_text(frames):
                    loop.call_soon_threadsafe(cuts.pop())
                    place.open(gate)
            return only_text(frames)

        def all_of_it() -> str:
            with sync_client_of(f"http://127.0.0.1:{proxy.port}") as client:
                return work(client)

        assert await asyncio.to_thread(all_of_it) == "one two three"


ASYNC: list[Callable[[Place], Awaitable[None]]] = [
    tokens,
    second_version,
    asks,
    errors,
    joins,
    cancels,
    cut,
    early_end,
    strategies,
    others,
    sync_cut,
]
SYNC: list[Callable[[Place], None]] = [sync_tokens, sync_errors]
