"""A page of `examples/front_ends` in chromium, driven as a person would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from playwright.async_api import Locator, Page, expect

from tests.support.browser import chromium_page
from tests.wires.results import Wire

PATIENCE_MS: Final = 20_000

# Notes the lengths that the card's text had: a text that streams had many.
_WATCH: Final = """(selector) => {
    window.lengths = new Set();
    const look = () => {
        for (const element of document.querySelectorAll(selector)) {
            if (element.textContent.startsWith("Greetings")) window.lengths.add(element.textContent.length);
        }
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
}"""


@dataclass(frozen=True)
class Kind:
    """Differences between the pages.

    Attributes:
        wire: Name of the wire that the page reads.
        client: Package that makes the page's requests.
        page: Name of the folder.
        file: Of the page, in its folder.
        text: Selector of the assistant's texts.
        question: Selector of the field for the question.
        stop: Selector of the button that ends the answer.
        free: Selector of the button that sends, with an empty field, while no answer is under way.
        user: Selector of the user's messages.
        follows: Whether a waiting page shows what another tab answers, without a reload.
    """

    wire: Wire
    client: str
    page: str
    file: str = ""
    text: str = ".message > .text"
    question: str = "form input"
    stop: str = "form button:text('Stop')"
    free: str = "form button:text('Send')"
    user: str = ".messages > .user"
    follows: bool = False


KINDS: Final = {
    "ai-sdk": Kind("ai-sdk", "ai", "ai-sdk"),
    "use-stream": Kind("langgraph", "@langchain/react", "use-stream", follows=True),
    "use-stream-classic": Kind("langgraph", "@langchain/langgraph-sdk", "use-stream", "classic.html"),
    "copilotkit": Kind(
        "ag-ui",
        "@copilotkit/react-core",
        "copilotkit",
        text="[data-testid=copilot-assistant-message] > .cpk\\:prose",
        question="[data-testid=copilot-chat-textarea]",
        stop="[data-testid=copilot-send-button]",
        free="[data-testid=copilot-send-button]:disabled",
        user="[data-testid=copilot-user-message] > .cpk\\:prose",
    ),
}


@dataclass
class Troubles:
    """Errors of a page."""

    console: list[str] = field(default_factory=list[str])
    requests: list[str] = field(default_factory=list[str])

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("console", lambda line: self.console.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("response", lambda it: self.requests.append(f"{it.status} {it.url}") if it.status >= 400 else None)
        page.on(
            "requestfailed",
            # A reload and a stop abort what is under way.
            lambda it: self.requests.append(f"{it.failure} {it.url}") if it.failure != "net::ERR_ABORTED" else None,
        )


class Chat:
    """A page that shows a conversation."""

    def __init__(self, page: Page, kind: Kind, troubles: Troubles) -> None:
        self.page = page
        self.kind = kind
        self._troubles = troubles

    @classmethod
    async def open(cls, page: Page, address: str, kind: Kind, troubles: Troubles) -> Chat:
        """Open a conversation in a page."""
        troubles.watch(page)
        await page.add_init_script(f"({_WATCH})({kind.text!r})")
        await page.goto(address)
        return cls(page, kind, troubles)

    @asynccontextmanager
    async def second_tab(self) -> AsyncGenerator[Chat]:
        """Open the same conversation in another tab of the same browser."""
        page = await self.page.context.new_page()
        try:
            yield await Chat.open(page, self.page.url, self.kind, self._troubles)
        finally:
            await page.close()

    @property
    def texts(self) -> Locator:
        return self.page.locator(self.kind.text)

    @property
    def questions(self) -> Locator:
        return self.page.locator(self.kind.user)

    @property
    def card(self) -> Locator:
        """The text that takes long to write."""
        return self.texts.filter(has_text="Greetings from")

    def tool(self, name: str) -> Locator:
        return self.page.get_by_role("region", name=name, exact=True)

    async def ask(self, place: str) -> None:
        """Send a question. A page that is still connecting leaves it in its field, for another try."""
        field = self.page.locator(self.kind.question)
        await field.fill(place, timeout=PATIENCE_MS)
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while await field.input_value():
                await field.press("Enter")
                with suppress(AssertionError):
                    await expect(field).to_have_value("", timeout=500)

    async def answer(self, words: str) -> None:
        await self.page.get_by_role("button", name=words).click(timeout=PATIENCE_MS)

    async def stop(self) -> None:
        await self.page.locator(self.kind.stop).click(timeout=PATIENCE_MS)

    async def until_writing(self, text: str = "The morning began") -> None:
        """Wait until the middle of the card's text."""
        await expect(self.card).to_contain_text(text, timeout=PATIENCE_MS)

    async def until_asked(self) -> None:
        await expect(self.page.get_by_role("button", name="Post it")).to_be_visible(timeout=PATIENCE_MS)

    async def until_free(self) -> None:
        """Wait until the page takes the next question."""
        await expect(self.page.locator(self.kind.free)).to_be_visible(timeout=PATIENCE_MS)

    async def until_texts(self, *texts: str) -> None:
        """Wait until the assistant's texts are these."""
        await expect(self.texts).to_have_text(list(texts), use_inner_text=True, timeout=PATIENCE_MS)

    async def growth(self) -> int:
        """Return how many lengths the card's text had so far."""
        return await self.page.evaluate("() => window.lengths.size")


@asynccontextmanager
async def chat(
    address: str, kind: Kind, *, troubles: Troubles | None = None, width: int = 1280
) -> AsyncGenerator[Chat]:
    """Open a page; fail on an error or warning in its console, and a failed request, unless `troubles` takes them."""
    found = troubles or Troubles()
    async with chromium_page(width=width) as page:
        yield await Chat.open(page, address, kind, found)
    if troubles is None:
        assert found == Troubles()
