"""The panel of states: steps, changes, whole values, and forks."""

import operator
from collections.abc import AsyncGenerator, Generator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from playwright.async_api import Page, expect

from lg_streaming import StreamingSettings
from lg_streaming.settings import AuthSettings
from tests.gateway.site import SECRET
from tests.gateway.starts import bearer
from tests.watch.support import PATIENCE, Site, browser, has_ended, site

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=document.title=1>"


class State(TypedDict, total=False):
    notes: Annotated[list[str], operator.add]
    draft: str
    tone: str


async def plan(state: State) -> State:
    return {"notes": [HOSTILE]}


async def write(state: State) -> State:
    return {"draft": f"{state.get('tone', 'plain')} {len(state.get('notes', []))}"}


async def grow(state: State) -> State:
    return {"draft": "x" * 300_000}


def graph(*names: str, checkpointer: Any, **nodes: Any) -> Any:
    builder, before = StateGraph(State), START
    for name in names:
        builder.add_node(name, nodes[name])
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=checkpointer)


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site() as server:
        server.streaming.graphs["report"] = graph("plan", "write", checkpointer=InMemorySaver(), plan=plan, write=write)
        server.streaming.graphs["large"] = graph("grow", checkpointer=InMemorySaver(), grow=grow)
        server.streaming.graphs["loose"] = graph("plan", checkpointer=None, plan=plan)
        yield server


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    async with browser(width=1280, height=900) as page:
        yield page


async def opened(page: Page, place: Site, graph: str, execution_id: str) -> None:
    await place.streaming.runs.run(graph, {"notes": ["input"]}, execution_id=execution_id)
    await page.goto(f"{place.url}/watch/{execution_id}?view=state")
    await has_ended(page)


async def test_steps_changes_and_values(page: Page, place: Site) -> None:
    await opened(page, place, "report", "exec-1")
    items = page.locator(".state-item")
    await expect(items).to_have_count(4, timeout=PATIENCE)
    assert await items.locator(".state-step").all_text_contents() == ["Step 2", "Step 1", "Step 0", "Step -1"]
    assert await items.locator(".state-next").all_text_contents() == [
        "end",
        "next: write",
        "next: plan",
        "next: __start__",
    ]
    changes = page.locator(".change")
    await expect(changes).to_have_count(1)
    await expect(changes).to_contain_text("draft")
    await expect(changes).to_have_class("change added")
    await items.nth(1).click()
    await expect(page.locator(".state-title")).to_have_text("Step 1")
    await expect(changes).to_have_count(1)
    await expect(changes.locator(".change-path")).to_have_text("notes[1]")
    await expect(changes.locator(".tree-value")).to_have_text(f'"{HOSTILE}"')
    assert await page.locator("main img").count() == 0
    branch = page.locator(".tree-branch .tree-branch")
    await branch.locator("summary").click()
    await expect(branch.locator(".tree-leaf")).to_have_count(2)
    await expect(branch.locator(".tree-leaf").first).to_contain_text('"input"')


async def test_a_large_state_is_loaded_whole(page: Page, place: Site) -> None:
    await opened(page, place, "large", "exec-2")
    await page.get_by_role("button", name="Show the whole state").click(timeout=PATIENCE)
    await expect(page.get_by_role("button", name="Show the whole state")).to_be_hidden()


async def test_a_fork_opens_its_own_page(page: Page, place: Site) -> None:
    await opened(page, place, "report", "exec-3")
    await page.locator(".state-item").nth(1).click(timeout=PATIENCE)
    values = page.get_by_label("Update of the state")
    await values.fill("{tone: 1}")
    await page.get_by_role("button", name="Fork from here").click()
    await expect(page.locator(".fork-form .error")).to_contain_text("no JSON")
    await values.fill('{"nope": 1}')
    await page.get_by_role("button", name="Fork from here").click()
    await expect(page.locator(".fork-form .error")).to_contain_text("no field 'nope'")
    await values.fill('{"tone": "formal"}')
    await page.get_by_role("button", name="Fork from here").click()
    await page.wait_for_url(lambda url: "exec-3" not in url, timeout=PATIENCE)
    await has_ended(page)
    fork_id = page.url.rpartition("/")[2]
    state = await place.streaming.runs.state(fork_id)
    assert state.values["draft"] == "formal 2"
    assert (await place.streaming.runs.state("exec-3")).values["draft"] == "plain 2"
    await page.goto(f"{place.url}/watch/{fork_id}?view=state")
    await page.locator(".state-item").first.click(timeout=PATIENCE)
    options = await page.get_by_label("As if made by").locator("option").all_text_contents()
    assert options[1:] == ["plan", "write"]


async def test_a_graph_without_a_checkpointer_says_what_to_do(page: Page, place: Site) -> None:
    await opened(page, place, "loose", "exec-4")
    await expect(page.locator("lg-state .empty")).to_contain_text("no checkpointer", timeout=PATIENCE)
    await expect(page.locator("lg-state .empty")).to_contain_text("compile()")


async def test_in_a_replay_the_state_of_the_moment_is_shown(page: Page, place: Site) -> None:
    await opened(page, place, "report", "exec-5")
    await expect(page.locator(".state-item")).to_have_count(4, timeout=PATIENCE)
    slider = page.get_by_label("Shown updates")
    await slider.focus()
    await page.keyboard.press("Home")
    await expect(page.locator(".state-title")).to_have_text("Step -1")
    await page.keyboard.press("End")
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(page.locator(".state-title")).to_have_text("Step 2")


async def test_a_reader_sees_states_and_no_form() -> None:
    settings = StreamingSettings(auth=AuthSettings(secret=SECRET))  # pyright: ignore[reportArgumentType]
    reader = bearer("bob", {"actions": ["read"], "executions": ["**"]})
    with site(settings) as server:
        server.streaming.graphs["report"] = graph("plan", checkpointer=InMemorySaver(), plan=plan)
        await server.streaming.runs.run("report", {}, execution_id="exec-1", owner="alice")
        async with browser() as page:
            await page.set_extra_http_headers({"Authorization": f"Bearer {reader}"})
            await page.goto(f"{server.url}/watch/exec-1?view=state")
            await expect(page.locator(".state-item")).to_have_count(3, timeout=PATIENCE)
            await expect(page.locator(".fork-form")).to_contain_text("You may not fork this run")
            await expect(page.get_by_role("button", name="Fork from here")).to_have_count(0)
