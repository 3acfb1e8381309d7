"""Cards of nodes: open and folded, nested, parallel, failed, retried, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from playwright.async_api import Locator, Page, expect

from lg_streaming import StreamingSettings
from lg_streaming.errors import RunCancelledError
from tests.watch.graphs import agent, branches, failing, gated, retried, stuck, team
from tests.watch.support import PATIENCE, Site, browser, has_ended, longest_task, site

pytestmark = pytest.mark.browser

USER = {"messages": [("user", "Bergen?")]}


@pytest.fixture(scope="module")
def server() -> Generator[Site]:
    with site(StreamingSettings(capture="all")) as server:
        yield server


def card(page: Page, node: str, number: int = 0) -> Locator:
    return page.locator(f'.card[data-node="{node}"]').nth(number)


async def test_ended_nodes_are_lines_and_what_a_person_opens_stays_open(server: Site) -> None:
    await server.streaming.runs.run(agent(), USER, execution_id="agent")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/agent")
        await has_ended(page)
        heads = page.locator(".card-toggle")
        assert await heads.evaluate_all("(all) => all.map((one) => one.ariaExpanded)") == ["false"] * 3
        await expect(card(page, "model").locator(".gist")).to_have_text("look_up")
        await expect(card(page, "model")).to_contain_text(" tokens")

        await heads.nth(0).focus()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("ArrowRight")
        await expect(card(page, "tools").locator(".tool-name")).to_be_visible()
        server.streaming.hub.emitter("agent", node_id="later").event("node_start", {})
        await expect(heads.nth(1)).to_have_attribute("aria-expanded", "true")
        await page.keyboard.press("ArrowLeft")
        await expect(heads.nth(1)).to_have_attribute("aria-expanded", "false")

        await page.get_by_role("button", name="Expand all").click()
        thinking = card(page, "model", 1).locator(".thinking")
        await expect(thinking.locator("summary")).to_have_text("Reasoning · 7 characters")
        await expect(thinking).not_to_have_attribute("open", "")
        await expect(page.locator(".tool")).to_have_count(1)  # asked for in one node, run in another
        await expect(card(page, "model").locator(".called")).to_have_text("calls look_up")
        await page.locator(".tool summary").click()
        await expect(page.locator(".tool pre").first).to_have_text('{\n  "city": "Bergen"\n}')
        await expect(page.locator(".tool pre").last).to_have_text("rain in Bergen")
        await page.get_by_role("button", name="Collapse all").click()
        await expect(page.locator(".card.open")).to_have_count(0)


async def test_an_agent_behind_a_tool_is_inside_its_call(server: Site) -> None:
    await server.streaming.runs.run(team(), USER, execution_id="team")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/team")
        await has_ended(page)
        await page.get_by_role("button", name="Expand all").click()
        inside = card(page, "tools").locator('.call:has(.tool-name:text-is("ask_expert")) > .inside')
        await expect(inside.locator('.card[data-node="model"]')).to_have_count(2)
        await expect(inside.locator(".tool-name")).to_have_text("look_up")
        await expect(inside.locator(".token strong")).to_have_text("rains")


async def test_parallel_branches_wrap_and_a_crowd_stays_folded(server: Site) -> None:
    await server.streaming.runs.run(branches(50), {}, execution_id="crowd")
    async with browser(width=1280) as page:
        await page.goto(f"{server.url}/watch/crowd")
        await has_ended(page)
        row = page.locator(".row.crowd")
        await expect(row.locator(".card")).to_have_count(50)
        lefts = await row.locator(".card").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().left)")
        assert 3 <= len(set(lefts)) <= 5
        assert await page.evaluate("document.documentElement.scrollWidth") == 1280
        await expect(row.locator(".card").last).to_contain_text("#50")


async def test_retries_tell_the_earlier_error_and_visits_are_numbered(server: Site) -> None:
    await server.streaming.runs.run(retried(), {"count": 0}, execution_id="retried")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/retried")
        await has_ended(page)
        numbers = page.locator('.card[data-node="step"] .number')
        await expect(numbers).to_have_text(["#1", "#2", "#3"])
        await expect(card(page, "step").locator(".attempt")).to_have_text("attempt 2")
        await card(page, "step").locator(".card-toggle").click()
        failure = card(page, "step").locator(".failure")
        await expect(failure).to_contain_text("Attempt 1 failed: ConnectionError: the line was cut")


async def test_a_failure_has_its_type_and_cause_and_what_it_stopped_is_cancelled(server: Site) -> None:
    with pytest.raises(ValueError, match="no such city"):
        await server.streaming.runs.run(failing(), {}, execution_id="failed")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/failed")
        await has_ended(page)
        boom = card(page, "boom")
        await expect(boom.locator(".failure")).to_contain_text("ValueError: no such city")
        await expect(boom.locator(".cause")).to_have_text("caused by KeyError: 'city'")
        await expect(card(page, "wait")).to_have_attribute("data-state", "cancelled")
        await expect(page.locator("#run-error")).to_contain_text("caused by KeyError")


async def test_a_cancelled_run_cancels_its_nodes(server: Site) -> None:
    run = await server.streaming.runs.start(stuck(), {}, execution_id="stuck")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/stuck")
        await expect(card(page, "wait")).to_have_attribute("data-state", "running", timeout=PATIENCE)
        await run.cancel()
        await expect(card(page, "wait")).to_have_attribute("data-state", "cancelled")
        await expect(card(page, "wait").locator(".failure")).to_have_count(0)
    with pytest.raises(RunCancelledError):
        await run


async def test_a_pause_and_its_end_are_a_click_away(server: Site) -> None:
    gate = asyncio.Event()
    run = await server.streaming.runs.start(gated(gate), {}, execution_id="paused")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/paused")
        await page.get_by_role("button", name="Pause").click(timeout=PATIENCE)
        gate.set()
        await expect(page.locator("#run-state")).to_have_text("paused", timeout=PATIENCE)
        await page.get_by_role("button", name="Resume").click()
        await has_ended(page)
        await expect(card(page, "second")).to_have_attribute("data-state", "complete")
    await run


async def test_notes_sources_and_media_have_a_quiet_place(server: Site) -> None:
    hub = server.streaming.hub
    emitter = hub.emitter("notes", node_id="work")
    emitter.event("node_start", {})
    emitter.event("log", {"level": "warn", "message": "the index is old"})
    emitter.event("error", {"message": "a callback failed", "type": "ValueError"})
    emitter.event("custom", {"name": "rows", "data": {"count": 3}})
    emitter.event("source_documents", [{"page_content": "Rain.", "metadata": {"source": "https://a.example/rain"}}])
    cited = {"type": "citation", "url": "https://b.example/x", "title": "The rain", "cited_text": "It rains."}
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
    blocks = [
        {"type": "text", "text": "", "annotations": [cited]},
        {"type": "image", "base64": pixel, "mime_type": "image/png"},
        {"type": "image", "url": "https://far.example/i.png"},
    ]
    emitter.event("token", {"content": "It rains.", "blocks": blocks, "message_id": "m"})
    hub.emitter("notes").event("log", {"level": "info", "message": "of the run"})
    async with browser() as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        await page.goto(f"{server.url}/watch/notes")
        work = card(page, "work")
        await expect(work.locator(".notes summary").first).to_have_text(
            "Notes · 3, 1 of them an error", timeout=PATIENCE
        )
        await expect(work.locator(".sources li")).to_contain_text(["https://a.example/rain", "The rain"])
        await expect(work.locator(".media img")).to_have_count(1)
        await expect(work.locator(".media a")).to_have_attribute("href", "https://far.example/i.png")
        await expect(page.locator(".notes summary").last).to_have_text("Notes of the run · 1")
        assert [url for url in requests if not url.startswith((server.url, "data:"))] == []


async def test_a_run_of_ten_thousand_updates_is_drawn(server: Site) -> None:
    hub = server.streaming.hub
    for number in range(200):
        emitter = hub.emitter("long", node_id=f"node {number}", message_id=f"m{number}")
        emitter.event("node_start", {})
        for _ in range(48):
            emitter.token("word ")
        emitter.event("node_complete", {})
    await hub.close("long")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/long")
        await has_ended(page)
        await expect(page.locator(".card")).to_have_count(200, timeout=PATIENCE)
        await card(page, "node 199").locator(".card-toggle").click()
        await expect(page.locator(".card .prose")).to_have_count(0)  # shown above, and all others are folded
        await card(page, "node 5").locator(".card-toggle").click()
        await expect(card(page, "node 5").locator(".prose")).to_contain_text("word word")


@pytest.mark.soak
async def test_five_hundred_updates_a_second_stutter_nowhere(server: Site) -> None:
    hub = server.streaming.hub
    async with browser() as page:
        await page.goto(f"{server.url}/watch/busy")
        await expect(page.locator("#connection")).to_have_attribute("data-state", "connected", timeout=PATIENCE)
        chromium = page.context.browser
        assert chromium is not None
        await chromium.start_tracing(page=page, categories=["toplevel"])
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for step in range(1_000):
            emitter = hub.emitter("busy", node_id=f"node {step // 5}", message_id=f"m{step // 5}")
            if step % 5 == 0:
                emitter.event("node_start", {})
            for word in range(10):
                emitter.token(f"**word {word}** of a *text*\n\n" if word == 9 else f"word {word} ")
            if step % 5 == 4:
                emitter.event("node_complete", {})
            await asyncio.sleep(max(0.0, begun + (step + 1) * 0.02 - loop.time()))
        await hub.close("busy")
        await has_ended(page)
        longest = longest_task(await chromium.stop_tracing())
        assert 1 < longest < 50
