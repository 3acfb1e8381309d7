"""The pages of `examples/front_ends` in chromium, from another origin than their server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import expect

from tests.wires.pages.driving import KINDS, PATIENCE_MS, Chat, Kind, chat

pytestmark = [pytest.mark.wires, pytest.mark.browser]

Opened = Callable[..., Any]
Lines = Callable[..., list[str]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, recorded: Callable[[Kind], None]) -> Kind:
    kind = KINDS[request.param]
    recorded(kind)
    return kind


@pytest.fixture
def lines(server: ModuleType) -> Lines:
    """Return the assistant's texts about a place; `end` is the name of the last one."""

    def get(place: str, end: str | None = None) -> list[str]:
        texts = [server.PLAN.format(place=place), server.CARD.format(place=place)]
        return texts + ([getattr(server, end)] if end else [])

    return get


async def until_state(shown: Chat, server: str, wanted: str) -> None:
    """Wait until the execution that the page's address names is in a state."""
    (name,) = [value for values in parse_qs(urlsplit(shown.page.url).query).values() for value in values]
    state = ""
    async with asyncio.timeout(PATIENCE_MS / 1000), httpx.AsyncClient() as client:
        while state != wanted:
            state = (await client.get(f"{server}/executions/{name}")).raise_for_status().json()["state"]
            await asyncio.sleep(0.02)


async def test_text_streams_tools_run_and_the_approval_is_answered(opened: Opened, kind: Kind, lines: Lines) -> None:
    with opened(kind) as place:
        async with chat(place.page, kind) as shown:
            await shown.ask("Porto")
            await expect(shown.tool("look_up_weather")).to_contain_text("fog until ten", timeout=PATIENCE_MS)
            await shown.until_asked()
            assert await shown.growth() > 5
            await shown.until_texts(*lines("Porto"))
            await shown.answer("Post it")
            await expect(shown.page.get_by_role("progressbar")).to_be_visible(timeout=PATIENCE_MS)
            await shown.until_texts(*lines("Porto", "POSTED"))
            await expect(shown.tool("post_card")).to_have_attribute("data-state", "done")

            await shown.until_free()
            await shown.ask("Bergen")
            await shown.until_asked()
            await shown.answer("Keep it")
            await shown.until_texts(*lines("Porto", "POSTED"), *lines("Bergen", "KEPT"))
            await expect(shown.questions).to_have_text(["Porto", "Bergen"])
            await until_state(shown, place.server, "completed")


async def test_stop_ends_the_run_and_the_next_question_is_answered(opened: Opened, kind: Kind, lines: Lines) -> None:
    with opened(kind, delay=0.03) as place:
        async with chat(place.page, kind) as shown:
            await shown.ask("Porto")
            await shown.until_writing()
            await shown.stop()
            await until_state(shown, place.server, "cancelled")
            await shown.until_free()
            assert "Come soon" not in await shown.page.inner_text("body")
            await expect(shown.page.get_by_role("button", name="Post it")).to_have_count(0)
            await shown.ask("Bergen")
            await shown.until_asked()
            await expect(shown.card.filter(has_text="Bergen")).to_have_text(lines("Bergen")[-1], use_inner_text=True)


async def test_reloads_in_mid_answer_and_at_the_approval_lose_and_double_nothing(
    opened: Opened, kind: Kind, lines: Lines
) -> None:
    with opened(kind, delay=0.03) as place:
        async with chat(place.page, kind) as shown:
            await shown.ask("Porto")
            await shown.until_writing()
            await shown.page.reload()
            await shown.until_writing()
            await shown.until_asked()
            assert await shown.growth() > 5
            await shown.until_texts(*lines("Porto"))
            await shown.page.reload()
            await shown.until_asked()
            await shown.until_texts(*lines("Porto"))
            await shown.answer("Post it")
            await shown.until_texts(*lines("Porto", "POSTED"))
            await expect(shown.questions).to_have_text(["Porto"])
            await shown.until_free()
            await shown.page.reload()
            await shown.until_texts(*lines("Porto", "POSTED"))


async def test_a_second_tab_shows_the_same_text_once(opened: Opened, kind: Kind, lines: Lines) -> None:
    with opened(kind, delay=0.05) as place:
        async with chat(place.page, kind) as first:
            await first.ask("Porto")
            await first.until_writing()
            async with first.second_tab() as second:
                for tab in (first, second):
                    await tab.until_asked()
                    await tab.until_texts(*lines("Porto"))
                assert await second.growth() > 2
                await second.answer("Post it")
                await second.until_texts(*lines("Porto", "POSTED"))
                if not kind.follows:
                    await first.page.reload()
                await first.until_texts(*lines("Porto", "POSTED"))
