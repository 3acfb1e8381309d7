"""Clients of every kind on one execution, each with the numbers of all updates that it got."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Page, Route

from lg_streaming.client import SocketIOClient, SSEClient
from tests.browser.place import watch
from tests.docs.fences import blocks_of
from tests.support.browser import chromium_page
from tests.support.node import JS, NodeClient
from tests.support.server import ROOT

__all__ = ["Client", "NodeSocket", "Report", "browser_clients", "python_clients"]

GUIDE = ROOT / "docs/guide/clients/browser.md"

# `apply` of the page gets every update, also one that it drops because it came before.
NOTES = """
window.noted = { updates: [], types: [], gaps: [], times: [] };
const { apply, clear } = Transcript.prototype;
Transcript.prototype.apply = function (update) {
    noted.updates.push(update.metadata.sequence_number);
    noted.types.push(update.type);
    noted.times.push(Date.now() / 1000);
    return apply.call(this, update);
};
Transcript.prototype.clear = function () {
    noted.gaps.push("cleared");
    return clear.call(this);
};
"""

TICKETS = """async ([path, token]) => {
    const { open } = await import("/ticket.js");
    window.noted = { updates: [], types: [], gaps: [], times: [] };
    let after;
    const again = () => {
        open(path, token, { after, lost: () => setTimeout(again, 100) }).then(listen, () => setTimeout(again, 100));
    };
    function listen(source) {
        const note = (event) => {
            const { type, metadata } = JSON.parse(event.data);
            after = event.lastEventId;
            noted.updates.push(metadata.sequence_number);
            noted.types.push(type);
            noted.times.push(Date.now() / 1000);
        };
        for (const type of ["workflow_start", "token", "workflow_complete"]) source.addEventListener(type, note);
        source.addEventListener("gap", (event) => noted.gaps.push(event.data));
        source.addEventListener("end", () => source.close());
    }
    again();
}"""


@dataclass(kw_only=True)
class Report:
    """Updates of a client so far.

    Attributes:
        numbers: Sequence numbers of the execution, as they came.
        last: Type of the last update.
        gaps: Gaps and errors.
        times: When they came, in seconds since 1970; empty if the client does not note it.
    """

    numbers: list[int] = field(default_factory=list[int])
    last: str | None = None
    gaps: list[Any] = field(default_factory=list[Any])
    times: list[float] = field(default_factory=list[float])


class Client(ABC):
    """One client."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def newest(self) -> int:
        """The number of the newest update; 0 before the first."""

    @abstractmethod
    async def report(self) -> Report: ...


class NodeSocket(Client):
    """A socket of the official client in Node."""

    def __init__(self, node: NodeClient, name: str) -> None:
        super().__init__(name)
        self._node = node

    async def whole(self) -> dict[str, Any]:
        await self._node.send("report", name=self.name)
        return await self._node.take(lambda line: line["type"] == "report")

    async def newest(self) -> int:
        await self._node.send("newest", name=self.name)
        return (await self._node.take(lambda line: line["type"] == "newest"))["newest"]

    async def report(self) -> Report:
        found = await self.whole()
        numbers = [number for connection in found["numbers"] for _, number in connection]
        return Report(
            numbers=numbers, last=found["last"], gaps=[*found["gaps"], *found["errors"]], times=found["times"]
        )


class PageClient(Client):
    """A script of a page."""

    def __init__(self, page: Page, name: str, place: str = "noted") -> None:
        super().__init__(name)
        self._page = page
        self._place = place

    async def newest(self) -> int:
        return await self._page.evaluate(f"{self._place}.updates.at(-1) ?? 0")

    async def report(self) -> Report:
        text = await self._page.evaluate(f"(({{ subscription, ...noted }}) => JSON.stringify(noted))({self._place})")
        found = json.loads(text)
        return Report(
            numbers=found["updates"],
            last=found["types"][-1] if found["types"] else None,
            gaps=found["gaps"],
            times=found.get("times", []),
        )


class PythonClient(Client):
    """A client of this library."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._report = Report()

    async def newest(self) -> int:
        return self._report.numbers[-1] if self._report.numbers else 0

    async def report(self) -> Report:
        return self._report

    async def run(self, client: SSEClient | SocketIOClient, execution_id: str) -> None:
        async for update in client.subscribe(execution_id, on_gap="fail"):
            self._report.numbers.append(update.metadata.sequence_number)
            self._report.last = str(update.type)
            self._report.times.append(time.time())


@asynccontextmanager
async def python_clients(url: str, execution_id: str, token: str) -> AsyncGenerator[list[Client]]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        made: list[Client] = []
        for kind in (SSEClient, SocketIOClient):
            client = await stack.enter_async_context(kind(url, token=token))
            reader = PythonClient(kind.__name__)
            tasks.create_task(reader.run(client, execution_id))
            made.append(reader)
        yield made


def _files() -> dict[str, str]:
    """The files of the guide by their names."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    titles = ((block, lines[block.line - 2].partition('title="')[2].rstrip('"')) for block in blocks_of(GUIDE))
    files = {name: block.code for block, name in titles if name}
    files["transcript.js"] += NOTES
    socketio = JS / "node_modules/socket.io-client/dist/socket.io.esm.min.js"
    return {**files, "socket.io.esm.min.js": socketio.read_text(encoding="utf-8"), "blank.html": "<p></p>"}


@asynccontextmanager
async def _page(url: str, name: str, execution_id: str, token: str) -> AsyncGenerator[Page]:
    """A page of the guide on the gateway's origin. Only its own files do not come from the gateway."""
    files = {**_files(), "my-token": token}

    async def answer(route: Route) -> None:
        file = route.request.url.rsplit("/", 1)[1]
        await route.fulfill(body=files[file], content_type="text/javascript" if file.endswith(".js") else "text/plain")

    errors: list[str] = []
    async with chromium_page() as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        for file in files:
            await page.route(f"**/{file}", answer)
        await page.context.add_cookies([{"name": "lg_streaming_token", "value": token, "url": url}])
        await page.goto(f"{url}/health?execution={execution_id}")
        await page.set_content(files[name])  # a page that a route answers may not open a WebSocket to loopback
        yield page
    assert errors == []


@asynccontextmanager
async def browser_clients(url: str, execution_id: str, token: str) -> AsyncGenerator[list[Client]]:
    """The pages of the guide with `EventSource`, `socket.io-client` and tickets, and the library's own module."""
    async with AsyncExitStack() as stack:
        made: list[Client] = [
            PageClient(await stack.enter_async_context(_page(url, name, execution_id, token)), name)
            for name in ("stream.html", "socketio.html")
        ]
        tickets = await stack.enter_async_context(_page(url, "blank.html", execution_id, token))
        await tickets.context.clear_cookies()
        await tickets.evaluate(TICKETS, [f"/executions/{execution_id}/stream", token])
        made.append(PageClient(tickets, "ticket.js"))
        module = await stack.enter_async_context(_page(url, "blank.html", execution_id, token))
        for transport in ("websocket", "sse"):
            await watch(module, transport, execution_id=execution_id, name=transport, token=token)
            made.append(PageClient(module, f"lg-streaming.js, {transport}", transport))
        yield made
