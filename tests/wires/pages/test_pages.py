"""The pages of `examples/front_ends` in chromium, from another origin than their server."""

from __future__ import annotations

import re
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


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def lines(server: ModuleType) -> Callable[..., list[str]]:
    """Return the assistant's texts about a place; `end` is the name of the last one."""

    def get(place: str, end: str | None = None) -> list[str]:
        texts = [server.PLAN.format(place=place), server.CARD.format(place=place)]
        texts += [getattr(server, end)] if end else []
        return [re.sub(r"\s+", " ", text) for text in texts]

    return get


async def state(shown: Chat, server: str) -> str:
    """Return the state of the execution that the page's address names."""
    (name,) = [value for values in parse_qs(urlsplit(shown.page.url).query).values() for value in values]
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{server}/executions/{name}")).raise_for_status().json()["state"]


async def test_text_streams_tools_run_and_the_approval_is_answered(
    opened: Opened, kind: Kind, lines: Callable[..., list[str]]
) -> None:
    with opened(kind) as place:
        async with chat(place.page, kind) as shown:
            await shown.ask("Porto")
            await expect(shown.tool("look_up_weather")).to_contain_text("fog until ten", timeout=PATIENCE_MS)
            await shown.until_asked()
            assert await shown.growth() > 5
            assert await shown.all_texts() == lines("Porto")
            await shown.answer("Post it")
            await expect(shown.page.get_by_role("progressbar")).to_be_visible(timeout=PATIENCE_MS)
            await shown.until_says("It is in the post")
            await expect(shown.tool("post_card")).to_have_attribute("data-state", "done")
            assert await shown.all_texts() == lines("Porto", "POSTED")

            await shown.until_free()
            await shown.ask("Bergen")
            await shown.until_asked()
            await shown.answer("Keep it")
            await shown.until_says("Then it stays here")
            assert await shown.all_texts() == lines("Porto", "POSTED") + lines("Bergen", "KEPT")
            assert await shown.page.locator(kind.user).all_inner_texts() == ["Porto", "Bergen"]
            assert await state(shown, place.server) == "completed"


async def test_stop_ends_the_run_and_the_next_question_is_answered(
    opened: Opened, kind: Kind, lines: Callable[..., list[str]]
) -> None:
    with opened(kind, delay=0.05) as place:
        async with chat(place.page, kind) as shown:
            await shown.ask("Porto")
            await shown.until_writing()
            await shown.stop()
            await shown.until_free()
            await expect(shown.page.get_by_role("button", name="Post it")).to_have_count(0)
            assert await state(shown, place.server) == "cancelled"
            await shown.ask("Bergen")
            await shown.until_asked()
            assert (await shown.all_texts())[-2:] == lines("Bergen")


async def test_a_reload_in_mid_answer_and_one_at_the_approval_lose_and_double_nothing(
    opened: Opened, kind: Kind, lines: Callable[..., list[str]]
) -> None:
    with opened(kind, delay=0.04) as place:
        async with chat(place.page, kind) as shown:
            await shown.ask("Porto")
            await shown.until_writing()
            await shown.page.reload()
            await shown.until_writing()
            await shown.until_asked()
            assert await shown.growth() > 5
            assert await shown.all_texts() == lines("Porto")
            await shown.page.reload()
            await shown.until_asked()
            assert await shown.all_texts() == lines("Porto")
            await shown.answer("Post it")
            await shown.until_says("It is in the post")
            assert await shown.all_texts() == lines("Porto", "POSTED")
            assert await shown.page.locator(kind.user).all_inner_texts() == ["Porto"]
            await shown.until_free()
            await shown.page.reload()
            await shown.until_says("It is in the post")
            assert await shown.all_texts() == lines("Porto", "POSTED")


async def test_a_second_tab_shows_the_same_text_once(
    opened: Opened, kind: Kind, lines: Callable[..., list[str]]
) -> None:
    with opened(kind, delay=0.04) as place:
        async with chat(place.page, kind) as first:
            await first.ask("Porto")
            await first.until_writing()
            async with first.second_tab() as second:
                await second.until_asked()
                await first.until_asked()
                assert await second.growth() > 5
                assert await first.all_texts() == await second.all_texts() == lines("Porto")
                await second.answer("Post it")
                await second.until_says("It is in the post")
                assert await second.all_texts() == lines("Porto", "POSTED")
