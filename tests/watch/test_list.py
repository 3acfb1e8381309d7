"""The list of runs in Chromium: live changes, filters, order, keyboard, and thousands of runs."""

import re
from collections.abc import AsyncGenerator, Generator
from typing import Any, cast

import pytest
from playwright.async_api import Page, expect

from lg_streaming import StreamingSettings
from lg_streaming.publisher import RunOutcome
from tests.gateway.test_lists import fill
from tests.support.browser import chromium_page
from tests.support.redis_server import RedisServer
from tests.watch.support import PATIENCE, Site, browser, site

MANY = 1_250


@pytest.fixture
def place() -> Generator[Site]:
    with site() as running:
        yield running


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    async with browser() as opened:
        opened.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield opened


def start(place: Site, execution_id: str, title: str | None = None, **options: Any) -> None:
    place.streaming.hub.runs.join_run(execution_id, title=title, **options)


async def opened(page: Page, place: Site, query: str = "") -> None:
    await page.goto(f"{place.url}/watch/{query}")
    await expect(page.locator("#connection")).to_have_text("live")


async def titles(page: Page) -> list[str]:
    return await page.locator(".rows .title").all_text_contents()


async def test_runs_appear_and_change_as_they_happen(page: Page, place: Site) -> None:
    hub = place.streaming.hub
    await opened(page, place)
    await expect(page.locator(".empty")).to_contain_text("There are no runs yet.")
    await expect(page.locator(".empty code")).to_contain_text(f"{place.url}/executions")
    start(place, "run-1", "Why is the sky blue?", owner="alice", name="research")
    row = page.locator(".rows .row")
    await expect(row).to_have_count(1)
    await expect(row.locator(".title")).to_have_text("Why is the sky blue?")
    for name, text in {"state": "running", "graph": "research", "owner": "alice", "started": "just now"}.items():
        await expect(row.locator(f".cell.{name}")).to_have_text(text)
    hub.publish("run-1", "workflow_progress", {"progress": 40, "total_nodes": 2, "completed_nodes": 1})
    hub.emitter("run-1").usage(1_000, 234, cost=0.05)
    await expect(row.locator("progress")).to_have_js_property("value", 40)
    await expect(row.locator(".tokens")).to_have_text("1,234")
    await expect(row.locator(".cost")).to_have_text("0.05")
    run_id = hub.runs.current_run_id("run-1")
    assert run_id is not None
    hub.runs.leave_run("run-1", run_id, RunOutcome("workflow_interrupted", {"interrupts": [{"id": "q", "value": "?"}]}))
    await expect(row.locator(".state")).to_have_text("waits for you")
    await hub.close("run-1")
    await expect(row.locator(".state")).to_have_text("completed")
    start(place, "run-2", "And the sea?")
    await expect(page.locator(".rows .title")).to_have_text(["And the sea?", "Why is the sky blue?"])
    await page.locator(".rows .title").first.click()
    await expect(page).to_have_url(f"{place.url}/watch/run-2")


async def test_who_has_scrolled_keeps_the_place_until_the_new_ones_are_asked_for(page: Page, place: Site) -> None:
    for number in range(40):
        start(place, f"run-{number:02}")
    await opened(page, place)
    await page.evaluate("scrollTo(0, 600)")
    await page.wait_for_function("scrollY === 600")
    read = page.locator('.row[data-id="run-25"]')
    await expect(read).to_be_visible()
    place_of = "document.querySelector('.row[data-id=\"run-25\"]').getBoundingClientRect().top"
    before = await page.evaluate(place_of)
    for number in range(40, 43):
        start(place, f"run-{number:02}")
    await place.streaming.hub.close("run-25")
    fresh = page.get_by_role("button", name="3 new")
    await expect(fresh).to_be_visible()
    await expect(read.locator(".state")).to_have_text("completed")
    assert await page.evaluate(place_of) == before
    await fresh.click()
    await expect(page.locator(".rows .title").first).to_have_text("run-42")
    await expect(fresh).to_be_hidden()
    assert await page.evaluate("scrollY") == 0


async def test_the_filter_is_in_the_address(page: Page, place: Site) -> None:
    for number in range(6):
        start(place, f"run-{number}", f"Question {number}", owner=["alice", "bob"][number % 2])
    for number in range(3):
        await place.streaming.hub.close(f"run-{number}")
    await opened(page, place)
    rows = page.locator(".rows .title")
    await page.get_by_role("button", name="completed").click()
    await expect(rows).to_have_text(["Question 2", "Question 1", "Question 0"])
    await page.get_by_label("Owner").fill("alice")
    await expect(rows).to_have_text(["Question 2", "Question 0"])
    await expect(page).to_have_url(re.compile(r"state=completed&owner=alice"))
    await page.reload()
    await expect(rows).to_have_text(["Question 2", "Question 0"])
    await expect(page.get_by_label("Owner")).to_have_value("alice")
    await page.go_back()
    await expect(rows).to_have_text(["Question 2", "Question 1", "Question 0"])
    await page.go_back()
    await expect(rows).to_have_count(6)
    await page.go_forward()
    await expect(page.get_by_role("button", name="completed")).to_have_attribute("aria-pressed", "true")
    await expect(rows).to_have_count(3)
    await page.get_by_label("Search").fill("nothing like it")
    await expect(page.locator(".empty")).to_contain_text("No run matches these filters.")
    await page.get_by_role("button", name="Clear the filters").click()
    await expect(rows).to_have_count(6)
    # A run that no longer matches goes, and one that matches comes.
    await page.get_by_role("button", name="running").click()
    await expect(rows).to_have_text(["Question 5", "Question 4", "Question 3"])
    await place.streaming.hub.close("run-4")
    await expect(rows).to_have_text(["Question 5", "Question 3"])


async def test_the_loaded_runs_are_sorted(page: Page, place: Site) -> None:
    for number, (tokens, cost) in enumerate([(30, 0.1), (10, 0.3), (20, None)]):
        start(place, f"run-{number}")
        place.streaming.hub.emitter(f"run-{number}").usage(tokens, 0, cost=cost)
    await opened(page, place)
    await expect(page.locator(".rows .title")).to_have_text(["run-2", "run-1", "run-0"])
    await page.get_by_role("button", name="Tokens").click()
    await expect(page.locator(".rows .title")).to_have_text(["run-0", "run-2", "run-1"])
    await page.get_by_role("button", name="Tokens").click()
    await expect(page.locator(".rows .title")).to_have_text(["run-1", "run-2", "run-0"])
    await expect(page.get_by_role("columnheader", name="Tokens")).to_have_attribute("aria-sort", "ascending")
    await page.get_by_role("button", name="Cost").click()
    await expect(page.locator(".rows .title")).to_have_text(["run-1", "run-0", "run-2"])
    await page.reload()
    await expect(page.locator(".rows .title")).to_have_text(["run-1", "run-0", "run-2"])


async def test_the_keyboard_is_enough(page: Page, place: Site) -> None:
    for number in range(60):
        start(place, f"run-{number:02}")
    await opened(page, place)
    await page.get_by_role("button", name="Duration").focus()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="run-59")).to_be_focused()
    for _ in range(30):
        await page.keyboard.press("ArrowDown")
    focused = page.locator('.row[data-id="run-29"] a')
    await expect(focused).to_be_focused()
    await expect(focused).to_be_in_viewport()
    await page.keyboard.press("End")
    await expect(page.get_by_role("link", name="run-10")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Load more")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".table")).to_have_attribute("aria-rowcount", "61")
    await page.get_by_role("link", name="run-10").focus()
    await page.keyboard.press("Home")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{place.url}/watch/run-59")


async def test_a_column_that_is_empty_in_all_runs_has_no_place(page: Page, place: Site) -> None:
    start(place, "run-1")
    await opened(page, place)
    columns = page.locator(".head .cell:visible")
    await expect(columns).to_have_text(["State", "Run", "Started", "Duration"])
    place.streaming.hub.emitter("run-1").usage(1, 2, cost=0.05)
    await expect(columns).to_have_text(["State", "Run", "Started", "Duration", "Tokens", "Cost"])
    for width in (320, 390, 768, 1024):
        await page.set_viewport_size({"width": width, "height": 700})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


async def test_texts_of_a_run_stay_text(page: Page, place: Site) -> None:
    markup = "<img src=x onerror=\"document.title='attacked'\"><b>bold</b>"
    start(place, "run-1", markup, owner="<i>eve</i>")
    start(place, "run-2", "كيف حالك")
    start(place, "run-3", "Longwordwithoutspaces" * 5)
    for width in (320, 1280):
        await page.set_viewport_size({"width": width, "height": 700})
        await opened(page, place)
        await expect(page.locator(".rows .title")).to_have_text(["Longwordwithoutspaces" * 5, "كيف حالك", markup])
        assert await page.title() == "Runs"
        assert await page.evaluate("document.querySelectorAll('.rows img, .rows b, .rows i').length") == 0
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (
            await page.evaluate("getComputedStyle(document.querySelector('[data-id=run-2] .title')).direction") == "rtl"
        )


async def test_a_server_that_is_away_is_told_and_waited_for() -> None:
    async with chromium_page() as page:  # its console has the lost connection
        await _lose_the_server(page)


async def _lose_the_server(page: Page) -> None:
    with site() as first:
        start(first, "run-1")
        await opened(page, first)
        port = int(first.url.rsplit(":", 1)[1])
    await expect(page.locator("#connection")).not_to_have_text("live")
    await expect(page.locator(".rows .title")).to_have_text(["run-1"])
    await page.locator(".filters input").first.fill("run")
    await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    with site(port=port) as second:
        start(second, "run-2")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".rows .title")).to_have_text(["run-2"])
        await expect(page.locator("#connection")).to_have_text("live")


async def test_the_list_is_live_where_websockets_are_blocked(page: Page, place: Site) -> None:
    await page.add_init_script("delete window.WebSocket")
    await page.goto(f"{place.url}/watch/")
    await expect(page.locator("#connection")).to_have_text("live, by polling")
    start(place, "run-1")
    await expect(page.locator(".rows .title")).to_have_text(["run-1"])
    await place.streaming.hub.close("run-1")
    await expect(page.locator(".rows .state")).to_have_text("completed")


@pytest.fixture
def redis_place(shared_redis: RedisServer, redis_prefix: str) -> Generator[Site]:
    settings = StreamingSettings.model_validate({"log": shared_redis.url, "redis": {"prefix": redis_prefix}})
    with site(settings) as running:
        yield running


async def test_a_list_on_redis_is_live(page: Page, redis_place: Site) -> None:
    await fill(redis_place.streaming, 100)
    await opened(page, redis_place)
    await expect(page.locator(".rows .title").first).to_have_text("Question 99")
    start(redis_place, "run-1", "A new one")
    await expect(page.locator(".rows .title").first).to_have_text("A new one")
    redis_place.streaming.hub.emitter("run-1").usage(5, 6)
    await expect(page.locator(".rows .tokens").first).to_have_text("11")


async def test_thousands_of_runs_scroll_smoothly(page: Page, place: Site) -> None:
    await fill(place.streaming, MANY)
    await opened(page, place)
    more, table = page.get_by_role("button", name="Load more"), page.locator(".table")
    for loaded in range(250, MANY + 200, 200):
        await more.click()
        await expect(table).to_have_attribute("aria-rowcount", str(min(loaded, MANY) + 1))
    await expect(more).to_be_hidden()
    metrics = await page.context.new_cdp_session(page)
    await metrics.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time

    async def busy() -> float:
        found = cast("Any", await metrics.send("Performance.getMetrics"))
        values: dict[str, float] = {each["name"]: each["value"] for each in found["metrics"]}
        return values["TaskDuration"]

    before = await busy()
    await page.evaluate(
        """async () => {
            const frame = () => new Promise(requestAnimationFrame);
            for (let step = 1; step <= 20; step += 1) { scrollTo(0, step * 600); await frame(); }
        }"""
    )
    assert (await busy() - before) / 20 < 0.05
    assert await page.locator(".rows .row").count() < 60
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    await expect(page.locator(".rows .title").last).to_have_text("Question 0")
