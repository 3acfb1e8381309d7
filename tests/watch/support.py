"""A server with the watch page, and Chromium for its tests."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI
from playwright.async_api import Page, expect

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.demo.graph import build_graph
from lg_streaming.demo.offline import offline_model
from lg_streaming.demo.prompts import DEFAULT_QUESTION
from lg_streaming.demo.tools import demo_tools
from tests.support.browser import chromium_page
from tests.support.server import serve

__all__ = ["LIVE", "PATIENCE", "QUICK", "Site", "browser", "has_ended", "longest_task", "show_all", "site", "texts_on"]

LIVE = 3.0
"""Pace of a run that the browser is to see in the middle of."""
QUICK = 100.0
"""Pace of a run whose end is what matters."""
PATIENCE = 20_000.0
"""Milliseconds for something to appear on a loaded machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A running server with the page, and the module behind it."""

    streaming: StreamingModule
    url: str

    def register(self, *, speed: float, answer_timeout: float) -> None:
        """Let pages start the assistant."""
        model, tools = offline_model(speed=speed), demo_tools(pause=0.9 / speed)
        self.streaming.graphs["research"] = build_graph(model, tools, answer_timeout=answer_timeout)

    async def run_the_assistant(
        self, execution_id: str, *, speed: float, answer_timeout: float = 0.05
    ) -> dict[str, Any]:
        self.register(speed=speed, answer_timeout=answer_timeout)
        return await self.streaming.runs.run("research", {"question": DEFAULT_QUESTION}, execution_id=execution_id)

    async def texts_in_the_log(self, execution_id: str) -> dict[str, str]:
        """The text that every reader has in the end, message by message."""
        texts: defaultdict[str, str] = defaultdict(str)
        async for update in self.streaming.hub.subscribe(execution_id):
            if update.type == "token":
                # A researcher calls a graph whose nodes are not captured: its text is the researcher's.
                node = str(update.metadata.namespace).partition("|")[0]
                texts[f"{node} {update.metadata.message_id}"] += update.data["content"]
        return dict(texts)


@contextmanager
def site(
    settings: StreamingSettings | None = None,
    *,
    port: int = 0,
    wrap: Callable[[Any], Any] = lambda app: app,
    **options: Any,
) -> Generator[Site]:
    streaming = StreamingModule(settings, **options)
    app = FastAPI()
    streaming.install(app, ui=True)
    with serve(wrap(app), port=port) as server:
        yield Site(streaming=streaming, url=server.url)


@asynccontextmanager
async def browser(
    *, width: int = 1280, height: int = 800, scheme: Literal["light", "dark"] = "light"
) -> AsyncGenerator[Page]:
    """A page that fails the test on any error in its console, other than a refused request."""
    errors: list[str] = []
    async with chromium_page(width=width, height=height) as page:
        await page.emulate_media(color_scheme=scheme)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        yield page
    assert [error for error in errors if "Failed to load resource" not in error] == []


async def show_all(page: Page) -> None:
    """Open all cards, and show all texts as they were written."""
    await page.get_by_role("button", name="Expand all").click()
    plain = page.get_by_role("button", name="Plain text")
    if await plain.get_attribute("aria-pressed") == "false":
        await plain.click()
    await expect(page.locator(".prose:not(.plain):visible")).to_have_count(0)


async def texts_on(page: Page) -> dict[str, str]:
    """Return the texts of all messages, which the page shows once: as the answer, or in the card of a node."""
    await show_all(page)
    return await page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".token:has(.prose)")].map((text) => [
            `${(text.dataset.key ?? text.closest(".card").dataset.key).split("|")[0]} ${text.dataset.message}`,
            text.textContent]))"""
    )


async def has_ended(page: Page) -> None:
    await expect(page.locator("#connection")).to_have_attribute("data-state", "ended", timeout=PATIENCE)


def longest_task(trace: bytes) -> float:
    """Return the longest task of a page's main thread, in milliseconds of the processor, without other programs."""
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event for event in events if (event["pid"], event["tid"]) in mains and "RunTask" in event["name"]]
    return max(event.get("tdur", 0) for event in tasks) / 1000
