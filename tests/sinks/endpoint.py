"""A receiver of webhooks on a real server, with a test's answers."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.server import Server, serve


@dataclass(slots=True)
class Delivery:
    """One request."""

    headers: Mapping[str, str]
    body: bytes
    at: float
    status: int

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def numbers(self) -> list[int]:
        return [update["metadata"]["sequence_number"] for update in self.json["updates"]]


@dataclass(slots=True)
class Endpoint:
    server: Server | None = None
    answers: deque[tuple[int, dict[str, str]]] = field(default_factory=deque[tuple[int, dict[str, str]]])
    """Status and headers of the next answers; then 204."""
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    silent: threading.Event = field(default_factory=threading.Event)
    """While it is set, no request is answered."""

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"{self.server.url}/hook?key=1"

    def answer(self, *statuses: int, **headers: str) -> None:
        self.answers.extend(
            (status, {name.replace("_", "-"): value for name, value in headers.items()}) for status in statuses
        )

    async def take(self, request: Request) -> Response:
        body = await request.body()
        silent = self.silent.is_set()
        status, headers = self.answers.popleft() if self.answers and not silent else (204, {})
        taken = 0 if silent else status
        self.deliveries.append(Delivery(dict(request.headers), body, asyncio.get_running_loop().time(), taken))
        while self.silent.is_set() and not await request.is_disconnected():
            await asyncio.sleep(0.01)
        return Response(status_code=status, headers=headers)

    def numbers(self) -> list[int]:
        """Of the updates in the batches that were taken, each batch once."""
        taken = {delivery.id: delivery.numbers for delivery in list(self.deliveries) if 200 <= delivery.status < 300}
        return [number for numbers in taken.values() for number in numbers]


@contextmanager
def endpoint() -> Generator[Endpoint]:
    place = Endpoint()
    with serve(Starlette(routes=[Route("/hook", place.take, methods=["POST"])])) as server:
        place.server = server
        yield place
        place.silent.clear()
