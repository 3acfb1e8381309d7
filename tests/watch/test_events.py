"""The panel of events: a table of raw updates that scrolls, filters, opens, copies and saves."""

import json
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.graph import START, StateGraph
from playwright.async_api import Page, expect
from typing_extensions import TypedDict

from lg_streaming import StreamingSettings
from lg_streaming.sinks import JsonLinesSink
from tests.watch.support import PATIENCE, QUICK, Site, browser, has_ended, site

pytestmark = pytest.mark.browser

MANY = 10_000
FRAMES = 40
SCROLLED = f"""() => new Promise((done) => {{
    const scroller = document.querySelector(".events-scroller");
    let step = 0;
    const scroll = () => {{
        scroller.scrollTop = (270_000 * (step % 20)) / 20;
        step += 1;
        if (step < {FRAMES}) requestAnimationFrame(scroll);
        else done();
    }};
    scroll();
}})"""
"""Scrolls through all rows: each frame shows other ones."""
ROWS = ".events-space .event-row:not([hidden])"


class State(TypedDict, total=False):
    text: str
    key: str


async def fail(state: State) -> State:
    raise ValueError("no luck") from KeyError("luck")


def hide(type: str, data: Any) -> Any:
    """Remove the key from states."""
    return {"values": {**data["values"], "key": "hidden"}} if type == "state" else data


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site(StreamingSettings(debug=True), redact=hide) as server:
        builder = StateGraph(State).add_node("fail", fail).add_edge(START, "fail")
        server.streaming.graphs["failing"] = builder.compile()
        yield server


@pytest.fixture(scope="module")
async def assistant(place: Site) -> str:
    await place.run_the_assistant("assistant", speed=QUICK)
    return "assistant"


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    async with browser(width=1280, height=900) as page:
        yield page


async def work_in(page: Page, script: str) -> float:
    """Return the seconds for which the page's thread works during a script, without those of other programs."""
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    worked: list[float] = []
    for _ in range(2):
        metrics = cast("dict[str, Any]", await session.send("Performance.getMetrics"))
        worked.append(next(each["value"] for each in metrics["metrics"] if each["name"] == "TaskDuration"))
        if len(worked) == 1:
            await page.evaluate(script)
    return worked[1] - worked[0]


async def opened(page: Page, place: Site, execution_id: str) -> None:
    await page.goto(f"{place.url}/watch/{execution_id}?view=events")
    await expect(page.locator(ROWS).first).to_be_visible(timeout=PATIENCE)


async def test_a_filter_shows_only_what_passes(page: Page, place: Site, assistant: str) -> None:
    updates = [update async for update in place.streaming.hub.subscribe(assistant)]
    await opened(page, place, assistant)
    await has_ended(page)
    count = page.locator(".events-count")
    await expect(count).to_have_text(f"{len(updates)} updates")
    await page.get_by_label("Type").select_option("tool_start")
    tools = [update for update in updates if update.type == "tool_start"]
    await expect(count).to_have_text(f"{len(tools)} of {len(updates)} updates")
    assert set(await page.locator(f"{ROWS} .event-type").all_text_contents()) == {"tool_start"}
    await page.get_by_label("Type").select_option("")
    await page.get_by_label("Node").select_option("write")
    written = sum(update.metadata.node_id == "write" for update in updates)
    await expect(count).to_have_text(f"{written} of {len(updates)} updates")
    await page.get_by_label("Text in the update").fill("ASPHALT")
    with_text = sum(update.metadata.node_id == "write" and "asphalt" in update.to_json().lower() for update in updates)
    await expect(count).to_have_text(f"{with_text} of {len(updates)} updates")
    await page.get_by_label("Text in the update").fill("nothing of this kind")
    await expect(page.locator("lg-events .empty")).to_be_visible()


async def test_rows_are_opened_by_keyboard_and_click_and_copied(page: Page, place: Site, assistant: str) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await opened(page, place, assistant)
    await has_ended(page)
    grid = page.get_by_role("grid", name="Updates")
    await grid.focus()
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    first = [update async for update in place.streaming.hub.subscribe(assistant)][1]
    detail = page.locator(".event-detail")
    await expect(detail.get_by_role("heading")).to_have_text(f"Update 2: {first.type}")
    await page.keyboard.press("Enter")  # the button "Copy" has the focus
    await expect(detail.get_by_role("button", name="Copied")).to_be_visible()
    assert json.loads(await page.evaluate("navigator.clipboard.readText()")) == json.loads(first.to_json())
    assert json.loads(await detail.locator("pre").text_content() or "") == json.loads(first.to_json())
    await page.keyboard.press("Escape")
    await expect(detail).to_be_hidden()
    assert await grid.evaluate("(grid) => grid === document.activeElement")
    await page.keyboard.press("End")
    await page.locator(ROWS).filter(has_text="workflow_complete").click()
    await expect(detail).to_contain_text("workflow_complete")


async def test_the_download_has_the_lines_of_a_file_sink(
    page: Page, place: Site, assistant: str, tmp_path: Path
) -> None:
    path = tmp_path / "sink.jsonl"
    await place.streaming.hub.attach(assistant, JsonLinesSink(path)).wait()
    await opened(page, place, assistant)
    await has_ended(page)
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Download as JSONL").click()
    download = await saving.value
    assert download.suggested_filename == "assistant.jsonl"
    saved = tmp_path / "page.jsonl"
    await download.save_as(saved)
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [json.loads(line) for line in saved.read_text().splitlines()] == written


async def test_ten_thousand_updates_scroll_without_a_long_task(page: Page, place: Site) -> None:
    emitter = place.streaming.hub.emitter("many", node_id="write")
    for number in range(MANY - 1):
        emitter.event("custom", {"number": number, "text": "some words of a line"})
    await opened(page, place, "many")
    await expect(page.locator(".events-count")).to_have_text(f"{MANY:,} updates", timeout=PATIENCE)
    work = await work_in(page, SCROLLED)
    assert work / FRAMES < 0.05
    assert await page.locator(".events-space .event-row").count() < 100
    await page.locator(".events-scroller").evaluate("(scroller) => { scroller.scrollTop = 0; }")
    await expect(page.locator(ROWS).filter(has_text="workflow_start")).to_be_visible()
    emitter.event("custom", {"last": True})
    await expect(page.locator(".events-count")).to_have_text(f"{MANY + 1:,} updates", timeout=PATIENCE)
    assert await page.locator(".events-scroller").evaluate("(scroller) => scroller.scrollTop") == 0
    await page.get_by_role("button", name="Follow the newest").click()
    await expect(page.locator(ROWS).filter(has_text="last: true")).to_be_visible()
    emitter.event("custom", {"further": True})
    await expect(page.locator(ROWS).filter(has_text="further: true")).to_be_visible(timeout=PATIENCE)
    await place.streaming.hub.close("many")


async def test_an_error_has_type_cause_and_the_input_of_its_node(page: Page, place: Site) -> None:
    run = await place.streaming.runs.start("failing", {"text": "x" * 40_000, "key": "k3y"}, execution_id="failing")
    with pytest.raises(ValueError, match="no luck"):
        await run
    await opened(page, place, "failing")
    row = page.locator(ROWS).filter(has_text="node_error")
    await expect(row.locator(".event-gist")).to_have_text("no luck")
    await row.click()
    shown: dict[str, Any] = json.loads(await page.locator(".event-json").text_content() or "")
    data = shown["data"]
    assert (data["error"]["type"], data["error"]["causes"][0]["type"]) == ("ValueError", "KeyError")
    assert data["input"]["key"] == "hidden"
    assert 1_000 < len(data["input"]["text"]) < 16_384
    assert data["truncated"]["input"] > 40_000
