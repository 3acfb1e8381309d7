"""Watch an execution on every wire as its updates come: in pages, over cuts and new connections, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from starlette.applications import Starlette

from lg_streaming import StreamingModule
from lg_streaming.log import Batch, PendingUpdate
from lg_streaming.log.base import StoredUpdate
from lg_streaming.types import WireName
from tests.wires.conversation import Conversation
from tests.wires.readers.ag_ui import AgUiReader
from tests.wires.readers.ai_sdk import AiSdkReader
from tests.wires.readers.langgraph import EventReader, ModeReader
from tests.wires.readers.updates import DurableReader, NativeReader
from tests.wires.recordings import EXECUTION

__all__ = ["VIEWERS", "Plan", "Viewer", "watch"]

SETTINGS: dict[str, Any] = {
    "auth": {"enabled": False},
    "gateway": {"frame_interval": 0.0},
    "limits": {"messages_per_second": None, "connects_per_address": None},
    "retention": {"max_updates": 1_000_000, "max_bytes": 2**30},
}
TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in which the updates come, and the connection is lost.

    Each step appends updates up to a number, and gives the server some turns of the event loop. Then it loses the
    connection after so many thousandths of the bytes that came; None keeps it.
    """

    steps: Sequence[tuple[int, int, int | None]]
    late: int = 0
    """Updates that are in the log before the reader connects."""
    kept: int | None = None
    """Updates that the log keeps."""

    def steps_for(self, records: Sequence[StoredUpdate]) -> Iterator[tuple[int, int, int | None]]:
        """The steps; one ends where a run, or a part of it, begins or ends, so that a reader has each."""
        bounds = [index for index, each in enumerate(records, 1) if begins(each) or ends(each)]
        done = 0
        for upto, turns, cut in sorted(
            [*self.steps, *((bound, 1, None) for bound in bounds)], key=lambda step: step[0]
        ):
            if max(done, self.late - 1) < upto <= len(records):
                yield upto, turns, None if upto in bounds else cut
                done = upto


def begins(record: StoredUpdate) -> bool:
    """Return whether a run begins, or goes on after it has waited."""
    return record.type == "workflow_start" or (record.type == "status" and b'"resumed"' in record.json)


def ends(record: StoredUpdate) -> bool:
    """Return whether a run ends, or waits for a human."""
    return record.is_final or record.type == "workflow_interrupted"


@dataclass
class Response:
    """The response of an ASGI application, as far as it has come."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    read: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()

    def take(self, thousandths: int = 1000) -> bytes:
        """The bytes that were not read yet, or a part of them."""
        upto = self.read + (len(self.body) - self.read) * thousandths // 1000
        part, self.read = bytes(self.body[self.read : upto]), upto
        return part

    async def leave(self) -> None:
        """Close the connection."""
        self.left.set()
        if self.task is not None:
            with suppress(ConnectionError):  # how a stream is broken off without a server
                await asyncio.wait_for(self.task, TIMEOUT)


async def request(app: Any, method: str, path: str, headers: dict[str, str], body: Any = None) -> Response:
    """Begin a request, and return when its status has come."""
    response, started = Response(), asyncio.Event()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode()}
        await response.left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            response.status = message["status"]
            response.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            started.set()
        else:
            response.body += message.get("body", b"")

    raw, _, query = path.partition("?")
    listed = {**headers, **({"content-type": "application/json"} if body is not None else {}), "host": "test"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in listed.items()],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    response.task = asyncio.create_task(app(scope, receive, send))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({waiting, response.task}, return_when=asyncio.FIRST_COMPLETED, timeout=TIMEOUT)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return response


class Viewer:
    """A client on one wire: how it connects, and what it makes of all responses."""

    wire: WireName | None = None
    stays_open: bool = False
    """True if a stream goes on after a run has ended."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.response: Response | None = None

    async def open(self) -> Response:
        """Send the request of a client that connects, or connects again."""
        raise NotImplementedError

    def feed(self, part: bytes) -> None:
        """Read a part of the response."""
        raise NotImplementedError

    @property
    def conversation(self) -> Conversation:
        """All that was read."""
        raise NotImplementedError

    def has(self, records: Sequence[StoredUpdate]) -> bool:
        """Return whether a stream that stays open has sent all of these."""
        return False

    async def connect(self) -> None:
        """Connect unless the client is connected. A stream may have ended, as that of a run that waits for a human."""
        if self.response is not None and self.response.ended:
            await self.lose(1000)
        if self.response is None:
            response = await self.open()
            if response.status == 204:
                await response.leave()
                return
            assert response.status == 200, (response.status, bytes(response.body))
            self.response = response

    def read(self, thousandths: int = 1000) -> None:
        """Read what has come."""
        if self.response is not None and (part := self.response.take(thousandths)):
            self.feed(part)

    async def lose(self, thousandths: int) -> None:
        """Lose the connection, with a part of what came last."""
        if self.response is not None:
            self.read(thousandths)
            await self.response.leave()
            self.response = None

    async def read_to_end(self, records: Sequence[StoredUpdate]) -> None:
        """Read all that these updates make, to the end of a stream that ends with its run."""
        async with asyncio.timeout(TIMEOUT):
            while self.response is not None:
                ended = self.response.ended
                self.read()
                if ended:
                    await self.response.leave()
                    self.response = None
                elif self.stays_open and self.has(records):
                    return
                await asyncio.sleep(0)


class Updates(Viewer):
    """Our own event stream."""

    stays_open = True

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.reader = NativeReader()

    async def open(self) -> Response:
        self.reader.connect()
        headers = {"last-event-id": self.reader.position} if self.reader.position else {}
        return await request(self.app, "GET", f"/executions/{EXECUTION}/stream?follow=true", headers)

    def feed(self, part: bytes) -> None:
        self.reader.feed(part)

    @property
    def conversation(self) -> Conversation:
        return self.reader.conversation

    def has(self, records: Sequence[StoredUpdate]) -> bool:
        updates = self.reader.updates
        return bool(updates) and updates[-1].metadata.sequence_number >= len(records)


class Durable(Updates):
    """Durable Streams."""

    wire = "durable-streams"

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.reader = DurableReader()  # pyright: ignore[reportAttributeAccessIssue] (it has the same members)

    async def open(self) -> Response:
        self.reader.connect()
        query = f"offset={self.reader.position or '-1'}&live=sse&follow=true"
        return await request(self.app, "GET", f"/v1/stream/{EXECUTION}?{query}", {})


class AiSdk(Viewer):
    """`useChat` with `resume`: each run is a message, which a resumed stream begins again."""

    wire = "ai-sdk"

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.messages: dict[str, AiSdkReader] = {}
        self.reader = AiSdkReader()

    async def open(self) -> Response:
        self.reader = AiSdkReader()
        return await request(self.app, "GET", f"/api/chat/{EXECUTION}/stream", {})

    def feed(self, part: bytes) -> None:
        self.reader.feed(part)
        if self.reader.message_id:
            self.messages[self.reader.message_id] = self.reader

    @property
    def conversation(self) -> Conversation:
        parts = [each.conversation for each in self.messages.values()]
        for number, part in enumerate(parts):
            part.texts = {f"{number}.{id_}": text for id_, text in part.texts.items()}
        return _joined(parts)


class AgUi(Viewer):
    """A page of CopilotKit that is loaded anew at each connection."""

    wire = "ag-ui"

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.runs: list[AgUiReader] = []

    async def open(self) -> Response:
        body: dict[str, Any] = {
            "threadId": EXECUTION,
            "runId": "page",
            "messages": [],
            "state": {},
            "tools": [],
            "context": [],
        }
        self.runs.append(AgUiReader())
        return await request(self.app, "POST", "/copilotkit/agent/chat/connect", {}, {**body, "protocolVersion": "1.0"})

    def feed(self, part: bytes) -> None:
        self.runs[-1].feed(part)

    @property
    def conversation(self) -> Conversation:
        return _joined([each.conversation for each in self.runs])


class Modes(Viewer):
    """`useStream` of the LangGraph SDK, which joins the thread's newest run."""

    wire = "langgraph"

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.reader = ModeReader()
        self.run_id = ""

    async def open(self) -> Response:
        listed = await request(self.app, "GET", f"/threads/{EXECUTION}/runs?limit=1", {})
        await listed.leave()
        (run,) = json.loads(listed.body)
        self.reader.connect()
        position, self.run_id = (self.reader.position if run["run_id"] == self.run_id else "-1"), run["run_id"]
        modes = "&".join(f"stream_mode={mode}" for mode in ("messages-tuple", "values", "custom"))
        path = f"/threads/{EXECUTION}/runs/{self.run_id}/stream?{modes}&stream_subgraphs=true"
        return await request(self.app, "GET", path, {"last-event-id": position or "-1"})

    def feed(self, part: bytes) -> None:
        self.reader.feed(part)

    @property
    def conversation(self) -> Conversation:
        return self.reader.conversation


class Events(Viewer):
    """`client.threads.stream`, whose stream of the thread stays open."""

    wire = "langgraph"
    stays_open = True

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.reader = EventReader()

    async def open(self) -> Response:
        self.reader.connect()
        channels = ["values", "checkpoints", "messages", "tools", "lifecycle", "input", "custom"]
        body = {"channels": channels, **({"since": self.reader.position} if self.reader.position >= 0 else {})}
        return await request(self.app, "POST", f"/threads/{EXECUTION}/stream/events", {}, body)

    def feed(self, part: bytes) -> None:
        self.reader.feed(part)

    @property
    def conversation(self) -> Conversation:
        return self.reader.conversation

    def has(self, records: Sequence[StoredUpdate]) -> bool:
        return self.reader.ends >= sum(map(ends, records))


def _joined(parts: Sequence[Conversation]) -> Conversation:
    whole = Conversation()
    for part in parts:
        whole.texts.update(part.texts)
        whole.calls.update(part.calls)
        whole.end = part.end
    return whole


VIEWERS: dict[str, type[Viewer]] = {
    "native": Updates,
    "durable-streams": Durable,
    "ai-sdk": AiSdk,
    "ag-ui": AgUi,
    "langgraph": Modes,
    "langgraph-events": Events,
}


class Server:
    """Our server in this event loop, with a log that the test writes.

    Args:
        wire: The wire that it serves.
        kept: Updates that the log keeps; None for all.
    """

    def __init__(self, wire: WireName | None, kept: int | None) -> None:
        retention = SETTINGS["retention"] if kept is None else {"max_updates": kept}
        self.module = StreamingModule({**SETTINGS, "retention": retention})
        self.module.graphs["chat"] = _idle_graph()
        self.app = Starlette()
        self.module.install(self.app, wires=[wire] if wire else [])
        self._number = 0

    def append(self, records: Sequence[StoredUpdate]) -> None:
        """Append updates as another process does."""
        self._number += 1
        updates = [
            PendingUpdate(
                each.type,
                each.scope,
                each.priority,
                each.timestamp,
                each.json[: each.json.rindex(b',"sequence_number"')],
            )
            for each in records
        ]
        self.module.hub.log.append(Batch(EXECUTION, updates, "test", self._number))


def _idle_graph() -> Any:
    async def write(state: MessagesState) -> dict[str, Any]:
        return {}

    builder = StateGraph(MessagesState).add_node("write", write).add_edge(START, "write")
    return builder.compile(checkpointer=InMemorySaver())


def _is_open(records: Sequence[StoredUpdate]) -> bool:
    """Return whether a run works, or has just ended: a page that shows it is connected."""
    last = next((each for each in reversed(records[:-1]) if begins(each) or ends(each)), None)
    return last is None or not ends(last) or begins(records[-1])


async def watch(name: str, records: Sequence[StoredUpdate], plan: Plan) -> Conversation:
    """Watch an execution on a wire, and return what its client has at the end."""
    server = Server(VIEWERS[name].wire, plan.kept)
    viewer = VIEWERS[name](server.app)
    done = 0
    try:
        for upto, turns, cut in plan.steps_for(records):
            server.append(records[done:upto])
            done = upto
            if viewer.stays_open or _is_open(records[:upto]):
                await viewer.connect()
            for _ in range(turns):
                await asyncio.sleep(0)
            if ends(records[upto - 1]):
                await viewer.read_to_end(records[:upto])
            elif cut is not None:
                await viewer.lose(cut)
                await viewer.connect()  # before the run ends: some clients cannot read a run that has ended
    finally:
        if viewer.response is not None:
            await viewer.response.leave()
        await server.module.aclose()
    return viewer.conversation
