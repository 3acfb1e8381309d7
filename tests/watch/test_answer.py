"""The answer of a run, on top of its page."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from playwright.async_api import expect

from lg_streaming import StreamingSettings
from tests.watch.graphs import FINDING, agent, team
from tests.watch.support import PATIENCE, Site, browser, has_ended, site

pytestmark = pytest.mark.browser

USER = {"messages": [("user", "Bergen?")]}


@pytest.fixture(scope="module")
def server() -> Generator[Site]:
    with site(StreamingSettings(capture="all")) as server:
        yield server


async def test_the_answer_of_an_agent_is_its_last_message_and_not_shown_twice(server: Site) -> None:
    await server.streaming.runs.run(agent(), USER, execution_id="agent")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/agent")
        await has_ended(page)
        answer = page.locator(".answer")
        await expect(answer.locator("strong")).to_have_text("rains")
        await expect(answer.locator("li")).to_have_text("take a coat")
        await expect(answer.get_by_role("heading")).to_have_text("Answer")

        await page.get_by_role("button", name="from model #2").click()
        card = page.locator('.card[data-node="model"]').nth(1)
        await expect(card.locator(".above")).to_contain_text("Shown above, as the answer.")
        await expect(card.locator(".token strong")).to_have_count(0)
        await card.get_by_role("button", name="Show it here too").click()
        await expect(card.locator(".token strong")).to_have_text("rains")

        await page.get_by_role("button", name="Plain text").click()
        await expect(answer.locator(".prose")).to_have_text(FINDING.strip())
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await answer.get_by_role("button", name="Copy").click()
        assert (await page.evaluate("navigator.clipboard.readText()")).strip() == FINDING.strip()


async def test_what_an_agent_behind_a_tool_writes_is_no_answer(server: Site) -> None:
    await server.streaming.runs.run(team(), USER, execution_id="team")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/team")
        await has_ended(page)
        await expect(page.locator(".answer .prose")).to_have_text("Take a coat.")


async def test_a_growing_answer_moves_to_the_newest_node_that_writes(server: Site) -> None:
    hub = server.streaming.hub
    async with browser() as page:
        await page.goto(f"{server.url}/watch/growing")
        answer = page.locator(".answer")
        await expect(answer).to_be_hidden()
        first = hub.emitter("growing", node_id="draft", message_id="m1")
        first.event("node_start", {})
        first.token("One **long** dra")
        await expect(answer).to_contain_text("One long dra", timeout=PATIENCE)
        await expect(answer.get_by_role("heading")).to_have_text("Answer so far")
        first.event("node_complete", {})
        second = hub.emitter("growing", node_id="judge", message_id="m2")
        second.token("Ok")
        await expect(page.locator('.card[data-node="judge"]')).to_be_visible()
        await expect(answer).to_contain_text("from draft")  # a verdict is no answer
        second.token(" with all of the points")
        await expect(answer).to_contain_text("from judge")
        caller = hub.emitter("growing", node_id="agent", message_id="m3")
        caller.event("tool_args", {"tool": "search", "tool_call_id": "c", "args": "{}"})
        caller.token("I will search for all of the points now.")
        await expect(page.locator('.card[data-node="agent"]')).to_contain_text("I will search")
        await expect(answer).to_contain_text("from judge")  # nor is a message that calls a tool
        await hub.close("growing", {"text": "One **long** dra", "other": 1})
        await has_ended(page)
        await expect(answer.locator(".prose")).to_have_text("One long dra")


async def test_a_result_that_nobody_streamed_is_the_answer(server: Site) -> None:
    server.streaming.hub.emitter("silent", node_id="work").event("node_start", {})
    await server.streaming.hub.close("silent", "# All *done*")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/silent")
        await has_ended(page)
        await expect(page.locator(".answer .prose")).to_have_text("All done")
        await expect(page.locator(".answer .from")).to_be_hidden()
