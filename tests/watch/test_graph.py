"""The Graph tab, and the small graph of the Run tab, of real runs on a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from typing import Literal

import pytest
from playwright.async_api import Locator, Page, expect

from tests.watch.hostile import HOSTILE, hostile_run
from tests.watch.journeys import chain, functional, journey, prompt_of, run_journey
from tests.watch.support import PATIENCE, Site, browser, has_ended, site
from tests.watch.test_safety import AXE, HIDDEN, watched

pytestmark = pytest.mark.browser

X = "\N{MULTIPLICATION SIGN}"
"""Sign before the number of visits, and before that of an edge."""


@pytest.fixture(scope="module")
def server() -> Generator[Site]:
    with site() as running:
        yield running


def node(page: Page, path: str) -> Locator:
    return page.locator(f'#panel-graph .graph-node:has(> [data-id="{path}"])')


async def edges(page: Page) -> list[tuple[str, str]]:
    """The state of each edge, and its text on the drawing."""
    found = await page.locator("#panel-graph .graph-edge").evaluate_all(
        """(all) => all.map((edge) => [edge.dataset.state, edge.querySelector("text").textContent])"""
    )
    return [(state, text) for state, text in found]


async def test_nodes_light_up_while_a_run_goes_through_them(server: Site) -> None:
    gate = asyncio.Event()
    graph = journey(gate=gate)
    async with browser() as page:
        await page.goto(f"{server.url}/watch/live?view=graph")
        await expect(page.locator("#panel-graph .empty")).to_be_visible(timeout=PATIENCE)
        run = await server.streaming.runs.start(graph, {}, execution_id="live")
        await expect(node(page, "work").locator(".graph-words")).to_have_text(
            f"1 of 4 running · {X}4", timeout=PATIENCE
        )
        await expect(node(page, "work")).to_have_attribute("data-state", "running")
        await expect(node(page, "flaky")).to_have_attribute("data-state", "complete")
        await expect(node(page, "draft").locator(".graph-words")).to_have_text("not yet")
        await expect(page.locator(".graph-step")).to_have_text("Step 3 · work")
        gate.set()
        await expect(node(page, "ask").locator(".graph-words")).to_have_text("waits for a person", timeout=PATIENCE)
        await expect(node(page, "review").locator(".graph-words")).to_have_text(f"complete · {X}3")
        await server.streaming.hub.respond("live", await prompt_of(run), "yes")
        await has_ended(page)
        for path in ("team", "team/look", "team/tell", "helper/model", "helper/tools", "last"):
            await expect(node(page, path)).to_have_attribute("data-state", "complete")
        drawn = await edges(page)
        assert {text for _, text in drawn} >= {f"{X}4", f"{X}3", f"again {X}2", "done"}
        assert {state for state, _ in drawn} == {"taken"}
        await expect(page.locator(".graph-node.terminal").filter(has_text="End").last).to_have_attribute(
            "data-state", "complete"
        )
        await run


async def test_a_node_opens_its_visits_and_leads_to_its_card(server: Site) -> None:
    await run_journey(server, "broken", is_broken=True)
    async with browser() as page:
        await page.goto(f"{server.url}/watch/broken?view=graph")
        await has_ended(page)
        last = node(page, "last")
        await expect(last).to_have_attribute("data-state", "failed", timeout=PATIENCE)
        await last.get_by_role("button").press("Enter")
        sheet = page.get_by_role("complementary", name="Visits of the node")
        await expect(sheet.get_by_role("heading", name="last")).to_be_focused()
        await expect(sheet).to_contain_text("no luck")
        await page.keyboard.press("Escape")
        await expect(sheet).to_be_hidden()
        await expect(last.get_by_role("button")).to_be_focused()
        await node(page, "flaky").get_by_role("button").click()
        await expect(sheet.get_by_role("listitem")).to_contain_text("3 attempts")
        await node(page, "review").get_by_role("button").click()
        await expect(sheet.get_by_role("listitem")).to_have_count(3)
        link = sheet.get_by_role("link", name="Visit 1")
        address = await link.get_attribute("href") or ""
        await link.click()
        card = page.locator('#panel-run [data-node="review"]').first
        await expect(card).to_be_in_viewport(timeout=PATIENCE)
        await page.goto(f"{server.url}/watch/broken{address}")
        await expect(card).to_be_in_viewport(timeout=PATIENCE)


async def test_subgraphs_collapse_and_a_table_says_the_same(server: Site) -> None:
    await run_journey(server, "table")
    async with browser(width=390) as page:
        await page.goto(f"{server.url}/watch/table?view=graph")
        await has_ended(page)
        toggle = page.get_by_role("button", name="Nodes inside team")
        await toggle.press("Enter")
        await expect(node(page, "team/look")).to_have_count(0)
        await expect(toggle).to_be_focused()
        await expect(toggle).to_have_attribute("aria-expanded", "false")
        region = page.get_by_role("group", name="Graph.")
        scale = "(region) => Number(/scale\\((.*)\\)/.exec(region.querySelector('.graph-canvas').style.transform)[1])"
        before = await region.evaluate(scale)
        await region.press("+")
        assert await region.evaluate(scale) > before
        await region.press("0")
        bounds = await region.evaluate(
            "(region) => [region.scrollWidth, region.clientWidth, region.scrollHeight, region.clientHeight]"
        )
        assert bounds[0] <= bounds[1]
        assert bounds[2] <= bounds[3]
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        await page.get_by_role("button", name="As a table").click()
        row = page.get_by_role("row").filter(has=page.get_by_role("button", name="draft"))
        await expect(row).to_contain_text(f"complete · {X}3")
        await expect(row.get_by_role("cell").last).to_have_text(f"work, review {X}2")
        await expect(page.get_by_role("row").filter(has_text=re.compile("^helper .* (model|tools)"))).to_have_count(2)


async def test_a_graph_that_the_server_does_not_know_is_drawn_from_the_updates(server: Site) -> None:
    hub = server.streaming.hub
    for name in ("plan", "<b>write</b>", "plan"):
        emitter = hub.emitter("unknown", node_id=name)
        emitter.event("node_start", {})
        emitter.event("node_complete", {})
    await hub.close("unknown")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/unknown?view=graph")
        await has_ended(page)
        await expect(page.locator(".graph-note")).to_contain_text("does not know the graph", timeout=PATIENCE)
        assert await page.locator(".graph-name").all_text_contents() == ["plan", "<b>write</b>"]
        await expect(page.locator(".graph-edge")).to_have_count(2)
        await expect(node(page, "plan").locator(".graph-words")).to_have_text(f"complete · {X}2")


async def test_a_functional_graph_shows_its_tasks(server: Site) -> None:
    await (await server.streaming.runs.start(functional, "rain", execution_id="tasks"))
    async with browser() as page:
        await page.goto(f"{server.url}/watch/tasks?view=graph")
        await has_ended(page)
        await expect(page.locator(".graph-note")).to_contain_text("tasks", timeout=PATIENCE)
        await expect(node(page, "shout_thrice/shout").locator(".graph-words")).to_have_text(f"complete · {X}3")


async def test_a_graph_of_200_nodes_with_long_names_is_drawn_within_its_region(server: Site) -> None:
    names = ["a name that is much too long for a node of the graph " * 3, "بحث عن المصادر", *map(str, range(198))]
    graph = chain(names)
    await (await server.streaming.runs.start(graph, {}, execution_id="long", config={"recursion_limit": 300}))
    async with browser(width=768) as page:
        await page.goto(f"{server.url}/watch/long?view=graph")
        await has_ended(page)
        await expect(page.locator(".graph-button")).to_have_count(200, timeout=PATIENCE)
        assert await page.evaluate("document.documentElement.scrollWidth") == 768
        widths = await page.locator("#panel-graph .graph-node").evaluate_all(
            "(all) => all.map((one) => one.offsetWidth)"
        )
        assert max(widths) <= 260


async def test_a_small_graph_stands_beside_the_nodes_of_a_wide_page(server: Site) -> None:
    await run_journey(server, "wide")
    async with browser(width=1440) as page:
        await page.goto(f"{server.url}/watch/wide")
        await has_ended(page)
        aside = page.get_by_role("complementary", name="Graph of the run")
        await expect(aside.locator('.graph-node[data-state="complete"]').first).to_be_visible(timeout=PATIENCE)
        await aside.get_by_role("button", name="plan").click()
        await expect(page.locator('#panel-run [data-node="plan"]')).to_be_in_viewport()
        await page.get_by_role("tab", name="Graph").click()
        await expect(aside).to_be_hidden()
        await page.get_by_role("tab", name="Run").click()
        await expect(aside).to_be_visible()
        await page.set_viewport_size({"width": 1280, "height": 800})
        await expect(aside).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_graph_and_timeline_are_accessible(server: Site, scheme: Literal["light", "dark"]) -> None:
    await run_journey(server, f"seen-{scheme}", is_broken=True)
    async with watched(server.url, scheme=scheme) as each:
        page, found = each.page, dict[str, list[str]]()
        source = await asyncio.to_thread(AXE.read_text, encoding="utf-8")

        async def check(name: str) -> None:
            await page.evaluate(source)
            found[name] = await page.evaluate(
                """axe.run("#panels").then(({ violations }) =>
                    violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id} ${node.target}`)))"""
            )

        await page.goto(f"{server.url}/watch/seen-{scheme}?view=graph")
        await has_ended(page)
        await node(page, "review").get_by_role("button").click(timeout=PATIENCE)
        await check("graph")
        await page.get_by_role("button", name="As a table").click()
        await check("table")
        await page.get_by_role("tab", name="Timeline").click()
        await expect(page.locator(".timeline-row").first).to_be_visible(timeout=PATIENCE)
        await check("timeline")
        assert {name: wrong for name, wrong in found.items() if wrong} == {}


async def test_hostile_names_stay_text_and_show_their_hidden_codes(server: Site) -> None:
    async with watched(server.url) as each:
        page = each.page
        for kind in ("markup", "codes"):
            await hostile_run(server.streaming.hub, f"hostile-{kind}", HOSTILE[kind])
            await page.goto(f"{server.url}/watch/hostile-{kind}?view=graph")
            await expect(page.locator(".graph-button").first).to_be_visible(timeout=PATIENCE)
            await page.get_by_role("tab", name="Timeline").click()
            await expect(page.locator(".timeline-row").nth(1)).to_be_visible(timeout=PATIENCE)
            await page.locator(".timeline-row").nth(1).click()
            assert await page.evaluate("window.hacked") is None
            titles = "[...document.querySelectorAll('main [title]')].map((each) => each.title).join('')"
            shown = [await page.evaluate(titles), await page.locator("main").text_content() or ""]
            assert not HIDDEN.search("".join(shown)), kind
