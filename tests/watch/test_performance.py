"""Sizes and speeds that the watch page has to bear, in Chromium. Times of tasks are the processor's."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import cast

import pytest
from playwright.async_api import Page, expect

from lg_streaming import StreamHub, StreamingSettings
from lg_streaming.settings import LimitSettings, RetentionSettings
from tests.support.redis_server import RedisServer
from tests.watch.support import PATIENCE, Site, browser, has_ended, longest_task, site

pytestmark = [pytest.mark.browser, pytest.mark.soak]

KEPT = 10_000
RATE, SECONDS = 500, 20
RETENTION = RetentionSettings(max_updates=4 * KEPT, max_bytes=64 * 1024 * 1024)
LONGEST_TASK = 50.0
"""Milliseconds."""
FIRST_PAINT = 1_000.0
"""Milliseconds."""
MANY = 5_000


WHEN_SHOWN = """
new MutationObserver((_, observer) => {
  if (document.querySelector("#connection")?.dataset.state !== "ended") return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("shown")));
}).observe(document, { subtree: true, childList: true, attributes: true });
"""


def publish(hub: StreamHub, execution_id: str, first: int, count: int) -> None:
    """Publish updates of nodes that write 48 pieces of text each, of two messages."""
    for number in range(first, first + count):
        node, place = divmod(number, 50)
        emitter = hub.emitter(execution_id, node_id=f"node {node}", message_id=f"m{node}-{place // 25}")
        if place == 0:
            emitter.event("node_start", {})
        elif place == 49:
            emitter.event("node_complete", {})
        else:
            emitter.token("**bold** words.\n\n" if place % 12 == 0 else f"word {place} ")


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Generator[Site]:
    redis: RedisServer = request.getfixturevalue("shared_redis")
    log = "memory://" if request.param == "memory" else redis.url
    limits = LimitSettings(messages_per_second=None)
    with site(StreamingSettings(log=log, retention=RETENTION, limits=limits)) as running:
        yield running


async def test_a_long_run_grows_without_a_stutter_and_is_forgotten(place: Site) -> None:
    hub = place.streaming.hub
    hub.open("busy")
    publish(hub, "busy", 0, KEPT)
    async with browser() as page:
        await page.goto(f"{place.url}/watch/nothing-yet")
        before = await heap_of(page)
        await page.goto(f"{place.url}/watch/busy")
        await expect(page.locator("#updates")).to_have_text(f"{KEPT + 1:,}", timeout=PATIENCE)
        chromium = page.context.browser
        assert chromium is not None
        await chromium.start_tracing(page=page, categories=["toplevel"])
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for step in range(RATE * SECONDS // 10):
            publish(hub, "busy", KEPT + step * 10, 10)
            await asyncio.sleep(max(0.0, begun + (step + 1) * 10 / RATE - loop.time()))
        await hub.close("busy")
        await has_ended(page)
        longest = longest_task(await chromium.stop_tracing())
        await expect(page.locator("#updates")).to_have_text(f"{KEPT + RATE * SECONDS + 2:,}")
        await page.goto(f"{place.url}/watch/nothing-yet")
        left = await heap_of(page) - before
        print(f"longest task {longest:.0f} ms of the processor, {left / 1e6:.1f} MB more after leaving")
        assert 1 < longest < LONGEST_TASK
        assert left < 5_000_000


@pytest.mark.parametrize("tab", ["run", "timeline", "events", "graph"])
async def test_a_finished_run_of_ten_thousand_updates_appears_at_once(place: Site, tab: str) -> None:
    hub = place.streaming.hub
    if not await hub.log.executions() or await hub.describe("done") is None:
        hub.open("done")
        publish(hub, "done", 0, KEPT - 2)
        await hub.close("done")
    async with browser() as page:
        await page.goto(f"{place.url}/watch/")  # most people come from the list
        await page.add_init_script(WHEN_SHOWN)
        await page.goto(f"{place.url}/watch/done?view={tab}")
        await has_ended(page)
        shown = await page.wait_for_function("() => performance.getEntriesByName('shown')[0]?.startTime")
        at = float(await shown.json_value())
        print(f"{tab}: all of a finished run is shown after {at:.0f} ms")
        assert 0 < at < FIRST_PAINT


async def test_five_thousand_executions_are_listed(place: Site) -> None:
    hub = place.streaming.hub
    for number in range(MANY):
        hub.runs.join_run(f"many/{number:05}", title=f"Question {number}")
        if number % 500 == 499:
            await asyncio.sleep(0.1)
    async with browser() as page:
        page.set_default_timeout(PATIENCE)
        await page.goto(f"{place.url}/watch/?text=many/")
        await expect(page.locator(".rows .row").first).to_be_visible(timeout=PATIENCE)
        more, table = page.get_by_role("button", name="Load more"), page.locator(".table")
        while await more.is_visible():
            rows = await table.get_attribute("aria-rowcount")
            await more.click()
            await expect(table).not_to_have_attribute("aria-rowcount", str(rows), timeout=PATIENCE)
        await expect(table).to_have_attribute("aria-rowcount", str(MANY + 1))
        chromium = page.context.browser
        assert chromium is not None
        await chromium.start_tracing(page=page, categories=["toplevel"])
        await page.evaluate(
            """async () => {
                const frame = () => new Promise(requestAnimationFrame);
                for (let step = 1; step <= 120; step += 1) { scrollTo(0, step * 2000); await frame(); }
            }"""
        )
        longest = longest_task(await chromium.stop_tracing())
        print(f"5,000 rows: longest task while scrolling {longest:.0f} ms")
        assert longest < LONGEST_TASK


async def heap_of(page: Page) -> float:
    """Bytes of JavaScript objects of a page, without garbage."""
    session = await page.context.new_cdp_session(page)
    for _ in range(3):
        await session.send("HeapProfiler.collectGarbage")
    found = cast("dict[str, float]", await session.send("Runtime.getHeapUsage"))
    await session.detach()
    return found["usedSize"]
