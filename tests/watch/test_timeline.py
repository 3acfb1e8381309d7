"""The Timeline tab of real runs on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from lg_streaming.errors import RunCancelledError
from tests.watch.journeys import journey, run_journey
from tests.watch.support import PATIENCE, Site, browser, has_ended, site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Generator[Site]:
    with site() as running:
        yield running


async def bars(page: Page, name: str) -> list[list[object]]:
    """The bars of a row: kind, state, and place and width in percent of the track."""
    row = page.get_by_role("row").filter(has=page.locator(f'.timeline-name:text-is("{name}")'))
    return await row.locator(".timeline-bars > span").evaluate_all(
        """(all) => all.map(({ className, dataset, style }) =>
            [className, dataset.state, parseFloat(style.left), parseFloat(style.width)])"""
    )


async def test_the_tree_of_a_run_by_keyboard(server: Site) -> None:
    await run_journey(server, "done")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/done?view=timeline")
        await has_ended(page)
        grid = page.get_by_role("treegrid")
        await expect(grid.get_by_role("row").first).to_be_visible(timeout=PATIENCE)
        assert [kind for kind, *_ in await bars(page, "flaky")] == ["timeline-rest", *["timeline-bar"] * 3]
        assert [state for _, state, *_ in await bars(page, "flaky")][1:] == ["failed", "failed", "complete"]
        await expect(page.locator(".timeline-first").first).to_be_attached()
        await expect(page.locator(".timeline-totals")).to_contain_text("Own code")

        first = grid.get_by_role("row").first
        await first.focus()
        count = int(await grid.get_attribute("aria-rowcount") or 0)
        await page.keyboard.press("ArrowLeft")
        await expect(grid).to_have_attribute("aria-rowcount", "1")
        await expect(first).to_have_attribute("aria-expanded", "false")
        await page.keyboard.press("ArrowRight")
        await expect(grid).to_have_attribute("aria-rowcount", str(count))
        await page.keyboard.press("End")
        focused = page.locator(".timeline-row:focus")
        await expect(focused).to_contain_text("last")
        await expect(page.locator(".timeline-detail")).to_contain_text("last · node, complete · starts at")
        before = await bars(page, "last")
        await page.keyboard.press("+")
        await expect(focused).to_be_in_viewport()
        after = await bars(page, "last")
        assert float(str(after[0][3])) > float(str(before[0][3]))
        await page.keyboard.press("0")
        assert await bars(page, "last") == before
        await page.get_by_role("link", name="Show its node").click()
        await expect(page.locator('#panel-run [data-node="last"]')).to_be_in_viewport(timeout=PATIENCE)


async def test_a_link_shows_its_card_while_a_slow_machine_draws_those_above(server: Site) -> None:
    await run_journey(server, "slow")
    async with browser(height=500) as page:
        await page.goto(f"{server.url}/watch/slow?view=timeline")
        await has_ended(page)
        await page.get_by_role("treegrid").get_by_role("row").first.focus()
        await page.keyboard.press("End")
        session = await page.context.new_cdp_session(page)
        await session.send("Emulation.setCPUThrottlingRate", {"rate": 20})
        await page.get_by_role("link", name="Show its node").click()
        card = page.locator('#panel-run [data-node="last"]')
        await expect(card).to_be_in_viewport(timeout=PATIENCE)
        await asyncio.sleep(1)  # all cards are drawn
        await expect(card).to_be_in_viewport(timeout=1)


async def test_hours_of_waiting_are_cut_and_the_open_wait_grows(server: Site) -> None:
    run = await server.streaming.runs.start(journey(), {}, execution_id="waiting")
    async with browser(width=390) as page:
        await page.goto(f"{server.url}/watch/waiting?view=timeline")
        await expect(page.locator('.timeline-row[data-kind="wait"]')).to_be_visible(timeout=PATIENCE)
        await page.clock.set_system_time(time.time() + 7200)
        await expect(page.locator(".timeline-cut")).to_have_text("2 h cut", timeout=PATIENCE)
        plan = await bars(page, "plan")
        await expect(page.locator(".timeline-totals")).to_contain_text("Waiting2 h")
        await page.get_by_role("button", name="Cut long waits").click()
        await expect(page.locator(".timeline-cut")).to_have_count(0)
        assert float(str((await bars(page, "plan"))[0][2])) < 1 < float(str(plan[0][2]))
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        await run.cancel()
        await has_ended(page)
        await expect(page.locator('.timeline-row[data-kind="wait"]')).to_have_attribute("data-state", "closed")
    with pytest.raises(RunCancelledError):
        await run


async def test_a_part_of_the_ruler_is_selected_with_the_mouse(server: Site) -> None:
    await run_journey(server, "brush")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/brush?view=timeline")
        await has_ended(page)
        box = await page.locator(".timeline-scale").bounding_box()
        assert box is not None
        _, _, left, width = (await bars(page, "ask"))[0]
        middle = box["x"] + box["width"] * (float(str(left)) + float(str(width)) / 2) / 100
        await page.mouse.move(middle - 40, box["y"] + 10)
        await page.mouse.down()
        await page.mouse.move(middle + 40, box["y"] + 10, steps=3)
        await page.mouse.up()
        assert float(str((await bars(page, "ask"))[0][3])) > float(str(width)) * 3
        await page.get_by_role("button", name="Fit").click()
        assert (await bars(page, "ask"))[0][3] == width


def publish_spans(server: Site, execution_id: str, count: int) -> None:
    """Publish the updates of a number of nodes, each with a call of a model in it."""
    hub = server.streaming.hub
    for number in range(count // 2):
        emitter = hub.emitter(execution_id, node_id="node", namespace=f"node:{number}")
        emitter.event("node_start", {})
        emitter.event("llm_start", {"model": "model"})
        emitter.event("llm_complete", {"model": "model"})
        emitter.event("node_complete", {})


async def test_of_1000_spans_only_the_visible_rows_have_elements(server: Site) -> None:
    await asyncio.to_thread(publish_spans, server, "many", 1000)
    await server.streaming.hub.close("many")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/many?view=timeline")
        await has_ended(page)
        grid = page.get_by_role("treegrid")
        await expect(grid).to_have_attribute("aria-rowcount", "1001", timeout=PATIENCE)
        await grid.evaluate("(grid) => { grid.scrollTop = grid.scrollHeight / 2; }")
        await expect(page.locator('.timeline-row[aria-rowindex="501"]')).to_be_attached()
        assert await page.locator(".timeline-row").count() < 60


@pytest.mark.soak
async def test_5000_spans_scroll_with_little_work_for_each_frame(server: Site) -> None:
    await asyncio.to_thread(publish_spans, server, "scrolled", 5000)
    await server.streaming.hub.close("scrolled")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/scrolled?view=timeline")
        await has_ended(page)
        await expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", "5001", timeout=PATIENCE)
        control: Any = await page.context.new_cdp_session(page)
        await control.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time

        async def seconds_of_work() -> float:
            answer = await control.send("Performance.getMetrics")
            return next(metric["value"] for metric in answer["metrics"] if metric["name"] == "TaskDuration")

        before = await seconds_of_work()
        frames = await page.get_by_role("treegrid").evaluate(
            """async (grid) => {
                let frames = 0;
                for (let top = 0; top < grid.scrollHeight; top += 400, frames += 1) {
                    grid.scrollTop = top;
                    await new Promise(requestAnimationFrame);
                }
                return frames;
            }"""
        )
        assert (await seconds_of_work() - before) / frames < 0.025
