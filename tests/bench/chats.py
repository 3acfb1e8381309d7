"""A client in another process: `python -m tests.bench.chats PORT`. Each line of stdin starts a chat on a wire.

A line has the wire, the path of its routes, and the content coding: `ai-sdk /api/chat identity`. The server is ours, or
another one that speaks this protocol. It prints one line of JSON for each chat, with the bytes and the tokens of the
stream. `first_s` and `all_s` are the seconds from the request to the first token, and to the end.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

WORD: Final = re.compile(rb"word\d+ ")
FIRST: Final = b"word0 "
JSON: Final = {"Content-Type": "application/json"}
MODES: Final = ["messages-tuple", "values"]
CHANNELS: Final = ["values", "checkpoints", "lifecycle", "input", "messages", "tools"]

Connection = http.client.HTTPConnection


class Chat:
    """One chat of one client.

    Args:
        connection: A connection to the server.
        path: The path of the wire's routes.
        coding: The content coding of the stream.
    """

    end: bytes = b""
    """Bytes at which a stream that stays open has the whole run."""

    def __init__(self, connection: Connection, path: str, coding: str) -> None:
        self._connection = connection
        self._path = path
        self._coding = {"Accept-Encoding": coding}
        self._id = str(uuid.uuid4())

    def prepare(self) -> None:
        """Do what a page does before its first question."""

    def start(self) -> None:
        """Ask, so that the next response is the stream."""
        raise NotImplementedError

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer, as JSON."""
        self._connection.request("POST", path, json.dumps(body), JSON)
        return json.loads(self._connection.getresponse().read())

    def stream(self, path: str, body: Mapping[str, Any] | None) -> None:
        """Send the request whose response is the stream."""
        headers = {**JSON, **self._coding, "Accept": "text/event-stream"}
        content = json.dumps(body) if body is not None else None
        self._connection.request("POST" if body is not None else "GET", path, content, headers)


class Native(Chat):
    """Our own event stream."""

    def start(self) -> None:
        question = {"graph": "chat", "input": {"messages": "t"}}
        self.stream(self.post("/executions", question)["stream_url"], None)


class AiSdk(Chat):
    """`useChat`."""

    def start(self) -> None:
        message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "t"}]}
        self.stream(self._path, {"id": self._id, "messages": [message], "trigger": "submit-message"})


class AgUi(Chat):
    """`HttpAgent`."""

    def start(self) -> None:
        message = {"id": "u1", "role": "user", "content": "t"}
        body = {"threadId": self._id, "runId": str(uuid.uuid4()), "messages": [message], "protocolVersion": "1.0"}
        self.stream(self._path, {**body, "state": {}, "tools": [], "context": [], "forwardedProps": {}})


class LangGraph(Chat):
    """`useStream` of the LangGraph SDK, on a thread that was made before."""

    def prepare(self) -> None:
        self.post(f"{self._path}/threads", {"thread_id": self._id})

    def start(self) -> None:
        question = {"messages": [{"type": "human", "id": "u1", "content": "t"}]}
        body = {"assistant_id": "chat", "input": question, "stream_mode": MODES, "stream_resumable": True}
        self.stream(f"{self._path}/threads/{self._id}/runs/stream", {**body, "on_disconnect": "continue"})


class LangGraphEvents(Chat):
    """`useStream` of `@langchain/react`: a command, and a stream of the thread's events, which stays open."""

    end = b'"event":"completed"'

    def start(self) -> None:
        question = {"messages": [{"type": "human", "id": "u1", "content": "t"}]}
        params = {"assistant_id": "chat", "input": question, "config": {"configurable": {"thread_id": self._id}}}
        self.post(f"{self._path}/threads/{self._id}/commands", {"id": 1, "method": "run.start", "params": params})
        wanted: dict[str, Any] = {"channels": CHANNELS, "namespaces": [[]], "depth": 1}
        self.stream(f"{self._path}/threads/{self._id}/stream/events", wanted)


class DurableStreams(Chat):
    """A reader of Durable Streams; the run is started over our own route."""

    def start(self) -> None:
        question = {"graph": "chat", "input": {"messages": "t"}, "execution_id": self._id}
        self.post("/executions", question)
        self.stream(f"{self._path}/{self._id}?offset=-1&live=sse", None)


CHATS: Final[Mapping[str, type[Chat]]] = {
    "native": Native,
    "ai-sdk": AiSdk,
    "ag-ui": AgUi,
    "langgraph": LangGraph,
    "langgraph-events": LangGraphEvents,
    "durable-streams": DurableStreams,
}


def read(connection: Connection, begin: Callable[[], None], end: bytes) -> dict[str, Any]:
    """Start a chat, and read its stream to the end."""
    began = time.perf_counter()
    begin()
    response = connection.getresponse()
    packed = response.getheader("Content-Encoding") == "gzip"
    unpack = zlib.decompressobj(wbits=31).decompress if packed else bytes
    parts, first, size = bytearray(), 0.0, 0
    while data := response.read1(262_144):
        size += len(data)
        searched = len(parts)
        parts += unpack(data)
        if not first and FIRST in parts:
            first = time.perf_counter()
        if end and end in parts[max(0, searched - len(end)) :]:
            break
    ended = time.perf_counter()
    if not first:
        sys.exit(f"no token in a stream with status {response.status}: {bytes(parts[-1000:])!r}")
    tokens = len(set(WORD.findall(parts)))
    return {"first_s": first - began, "all_s": ended - began, "bytes": size, "tokens": tokens}


def chat(port: int, wire: str, path: str, coding: str) -> dict[str, Any]:
    """Chat once, on a new connection."""
    connection = Connection("127.0.0.1", port)
    try:
        one = CHATS[wire](connection, path if path != "/" else "", coding)
        one.prepare()
        return read(connection, one.start, one.end)
    finally:
        connection.close()


def main() -> None:
    """Chat for each line."""
    for line in sys.stdin:
        print(json.dumps(chat(int(sys.argv[1]), *line.split())), flush=True)


if __name__ == "__main__":
    main()
