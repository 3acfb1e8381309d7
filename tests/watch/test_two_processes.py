"""The page with a log on Redis: a run of one gateway is watched and controlled on the pages of another."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from playwright.async_api import expect

from lg_streaming import StreamingSettings
from lg_streaming.demo.prompts import DEFAULT_QUESTION
from lg_streaming.errors import RunCancelledError
from lg_streaming.settings import RedisSettings
from tests.support.redis_server import RedisServer
from tests.watch.support import LIVE, PATIENCE, Site, browser, has_ended, site, texts_on

pytestmark = pytest.mark.browser


@pytest.fixture
def places(shared_redis: RedisServer, redis_prefix: str) -> Generator[tuple[Site, Site]]:
    """Two gateways that share a log."""
    settings = StreamingSettings(log=shared_redis.url, redis=RedisSettings(prefix=redis_prefix))
    with site(settings) as first, site(settings) as second:
        yield first, second


async def test_a_run_of_another_process_is_watched_reloaded_and_cancelled(places: tuple[Site, Site]) -> None:
    here, there = places
    there.register(speed=LIVE, answer_timeout=600)
    run = await there.streaming.runs.start("research", {"question": DEFAULT_QUESTION}, execution_id="acme/exec-1")
    async with browser() as page, browser() as tab:
        await page.goto(f"{here.url}/watch/acme/exec-1")
        await expect(page.locator("#run-state")).to_have_text("running", timeout=PATIENCE)
        await expect(page.locator('.card[data-node="research"]')).to_have_count(3, timeout=PATIENCE)
        await page.goto(f"{there.url}/watch/acme/exec-1")  # as a balancer may do at a reload
        await tab.goto(f"{here.url}/watch/acme/exec-1")
        for each in (page, tab):
            await expect(each.locator(".prompt")).to_contain_text("Publish the report?", timeout=3 * PATIENCE)
        await tab.get_by_role("button", name="Cancel the run").click()
        await tab.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
        for each in (page, tab):
            await has_ended(each)
            await expect(each.locator("#run-state")).to_have_text("cancelled")
        in_log = await there.texts_in_the_log("acme/exec-1")
        assert await texts_on(page) == await texts_on(tab) == in_log
    with pytest.raises(RunCancelledError):
        await run
    await asyncio.sleep(0)


async def test_the_list_of_one_process_has_the_runs_of_all(places: tuple[Site, Site]) -> None:
    here, there = places
    async with browser() as page:
        await page.goto(f"{here.url}/watch/")
        await expect(page.locator("#connection")).to_have_text("live", timeout=PATIENCE)
        there.streaming.hub.open("there", metadata={"title": "A run of another process"})
        row = page.locator(".rows .row").filter(has_text="A run of another process")
        await expect(row).to_contain_text("running", timeout=PATIENCE)
        await there.streaming.hub.fail("there", "no more paper")
        await expect(row).to_contain_text("failed", timeout=PATIENCE)
