"""Reads a stream as the EventSource of a browser does, by the rules of the HTML standard."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass(slots=True)
class Event:
    type: str
    data: str
    last_event_id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass(slots=True)
class EventSource:
    """The events of one address; `last_event_id` and `retry` live over reconnects."""

    client: httpx2.AsyncClient
    url: str
    params: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    last_event_id: str = ""
    retry: int | None = None
    attached: dict[str, Any] | None = None
    """The first event's data: `connection_status`."""
    comments: list[str] = field(default_factory=list[str])
    status: int = 0
    greeted: bool = True
    """True if `connection_status` is stored in `attached`; else it comes like every other event."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncGenerator[Event]]:
        """One connection."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **self.headers}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        async with self.client.stream("GET", self.url, params=self.params, headers=headers) as response:
            self.status = response.status_code
            yield self.events_of(response)

    async def events_of(self, response: httpx2.Response) -> AsyncGenerator[Event]:
        kind, data, identity = "", list[str](), self.last_event_id
        async for line in response.aiter_lines():
            if not line:
                self.last_event_id = identity
                if self.greeted and kind == "connection_status":
                    self.attached = json.loads("\n".join(data))
                elif data:
                    yield Event(kind or "message", "\n".join(data), identity)
                kind, data = "", list[str]()
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    self.comments.append(value)
                case "event":
                    kind = value
                case "data":
                    data.append(value)
                case "id" if "\0" not in value:
                    identity = value
                case "retry" if value.isascii() and value.isdigit():
                    self.retry = int(value)
                case _:
                    pass
