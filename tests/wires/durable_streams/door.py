"""A door for writers: the suite for servers makes its streams by PUT and POST, and reads them by this wire.

A stream is an execution, whose updates of the type `chunk` hold the bytes that were posted. Requests to read reach
the wire; the door turns the JSON messages of its answers into the content of the stream's type.
"""

import base64
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from lg_streaming import StreamingModule
from lg_streaming.events import Position
from lg_streaming.gateway.dialects.durable_streams.offsets import offset_of
from lg_streaming.hub import StreamHub

Send = Callable[[dict[str, Any]], Awaitable[None]]
HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "cross-origin"}
_CREATES = 201
_LINES = re.compile(r"\r\n|\r|\n")


@dataclass(slots=True)
class Stored:
    """A stream that was created."""

    content_type: str
    last_seq: str | None = None
    is_closed: bool = False

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        return self.media_type == "application/json"

    @property
    def is_text(self) -> bool:
        return self.is_json or self.media_type.startswith("text/")

    def chunks(self, body: bytes) -> list[str]:
        """Return a posted body as the data of updates. Raises ValueError."""
        if not self.is_json:
            return [base64.b64encode(body).decode()] if body else []
        found: Any = json.loads(body)
        items = cast("list[Any]", found if isinstance(found, list) else [found])
        return [json.dumps(each, separators=(",", ":")) for each in items]

    def body(self, items: list[dict[str, Any]]) -> bytes:
        """Return messages of the wire as the content of the stream."""
        data = [item["data"]["chunk"] for item in items]
        return f"[{','.join(data)}]".encode() if self.is_json else b"".join(map(base64.b64decode, data))

    def event(self, items: list[dict[str, Any]]) -> str:
        """Return messages of the wire as the lines of a data event."""
        body = self.body(items)
        text = body.decode(errors="replace") if self.is_text else base64.b64encode(body).decode()
        lines = _LINES.split(text)
        return "".join(f"data:{' ' if line.startswith(' ') else ''}{line}\n" for line in lines)


class Door:
    """The wire with a writers' side. Give it to a server as an ASGI application.

    Args:
        module: The module, before it is installed.
        path: The wire's path.
    """

    def __init__(self, module: StreamingModule, path: str) -> None:
        self._hub: StreamHub = module.hub
        self._path = path
        self._streams: dict[str, Stored] = {}
        self._app = FastAPI()
        module.install(self._app, wires=["durable-streams"])

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        app: Any = self._app
        if scope["type"] != "http" or not scope["path"].startswith(self._path):
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        id_ = scope["path"][len(self._path) + 1 :]
        stored = self._streams.get(id_)
        if request.method in {"GET", "HEAD"} and stored is not None:
            headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
            query = scope["query_string"] + (b"&" if scope["query_string"] else b"") + b"events=chunk"
            await app({**scope, "headers": headers, "query_string": query}, receive, _Shown(stored, send))
            return
        if request.method in {"PUT", "POST", "DELETE"}:
            response = await self._write(request, id_, stored)
        elif request.method == "OPTIONS":
            await app(scope, receive, send)
            return
        else:
            response = Response(status_code=404)
        response.headers.update(HEADERS)
        await response(scope, receive, send)  # pyright: ignore[reportArgumentType]

    async def _write(self, request: Request, id_: str, stored: Stored | None) -> Response:
        body = await request.body()
        closes = request.headers.get("stream-closed", "").lower() == "true"
        if request.method == "PUT":
            return await self._create(request, id_, stored, body, closes=closes)
        if stored is None:
            return Response(status_code=404)
        if request.method == "DELETE":
            del self._streams[id_]
            await self._hub.close(id_)
            await self._hub.log.drop(id_)
            return Response(status_code=204)
        return await self._append(request, id_, stored, body, closes=closes)

    async def _create(
        self, request: Request, id_: str, stored: Stored | None, body: bytes, *, closes: bool
    ) -> Response:
        content_type = request.headers.get("content-type") or "application/octet-stream"
        created = stored is None
        if stored is None:
            stored = Stored(content_type)
            try:
                chunks = stored.chunks(body) if body else []
            except ValueError:
                return Response(status_code=400)
            self._streams[id_] = stored
            self._publish(id_, chunks)  # an empty stream is an execution that has not begun
            if closes:
                stored.is_closed = True
                await self._end(id_)
        elif stored.media_type != Stored(content_type).media_type or stored.is_closed != closes:
            return Response(status_code=409)
        return await self._answer(
            id_,
            stored,
            _CREATES if created else 200,
            {"Content-Type": stored.content_type, **({"Location": str(request.url)} if created else {})},
        )

    async def _append(self, request: Request, id_: str, stored: Stored, body: bytes, *, closes: bool) -> Response:
        if stored.is_closed:
            return await self._answer(id_, stored, 204 if closes and not body else 409)
        if body or not closes:
            seq, content_type = request.headers.get("stream-seq"), request.headers.get("content-type")
            try:
                chunks = stored.chunks(body) if content_type else []
            except ValueError:
                chunks = []
            if content_type and Stored(content_type).media_type != stored.media_type:
                return Response(status_code=409)
            if not chunks:
                return Response(status_code=400)
            if seq is not None and stored.last_seq is not None and seq <= stored.last_seq:
                return Response(status_code=409)
            stored.last_seq = seq or stored.last_seq
            self._publish(id_, chunks)
        if closes:
            stored.is_closed = True
            await self._end(id_)
        return await self._answer(id_, stored, 204)

    async def _end(self, id_: str) -> None:
        self._hub.open(id_)
        await self._hub.close(id_)

    def _publish(self, id_: str, chunks: list[str]) -> None:
        if chunks:
            self._hub.open(id_)
        for chunk in chunks:
            self._hub.publish(id_, "chunk", {"chunk": chunk})

    async def _answer(self, id_: str, stored: Stored, status: int, headers: dict[str, str] | None = None) -> Response:
        state = await self._hub.log.state(id_)
        tail = None if state is None else Position(state.epoch, state.head)
        closed = {"Stream-Closed": "true"} if stored.is_closed else {}
        offset = {"Stream-Next-Offset": offset_of(tail)}
        return Response(status_code=status, headers={**offset, **closed, **(headers or {})})


class _Shown:
    """The wire's answer, as an answer of a stream of its content type."""

    def __init__(self, stored: Stored, send: Send) -> None:
        self._stored = stored
        self._send = send
        self._start: dict[str, Any] = {}
        self._is_events = False
        self._rest = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            types = [value for name, value in message["headers"] if name == b"content-type"]
            self._is_events = types == [b"text/event-stream"]
            if self._is_events and not self._stored.is_text:
                message["headers"].append((b"stream-sse-data-encoding", b"base64"))
            if self._is_events:
                await self._send(message)
            return
        self._rest += message.get("body", b"")
        more = message.get("more_body", False)
        if self._is_events:
            *events, self._rest = self._rest.split(b"\n\n")
            shown = "".join(self._event(each.decode()) for each in events).encode()
            await self._send({"type": "http.response.body", "body": shown, "more_body": more})
        elif not more:
            await self._answer()

    def _event(self, event: str) -> str:
        name, data = event.split("\n")
        if name != "event: data":
            return event + "\n\n"
        return f"{name}\n{self._stored.event(json.loads(data.removeprefix('data:')))}\n"

    async def _answer(self) -> None:
        start, body = self._start, self._rest
        if start["status"] == 200:
            body = self._stored.body(json.loads(body)) if body else b""
            headers = [pair for pair in start["headers"] if pair[0] not in {b"content-type", b"content-length"}]
            length = [(b"content-length", str(len(body)).encode())] if body else []
            start = {**start, "headers": [*headers, (b"content-type", self._stored.content_type.encode()), *length]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})
