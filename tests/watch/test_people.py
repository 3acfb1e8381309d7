"""Questions to people on the page: the control that fits, who was first, and who may not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Literal

import pytest
from playwright.async_api import Locator, Page, Route, expect
from pydantic import BaseModel, Field

from lg_streaming import StreamingSettings
from lg_streaming.settings import RedisSettings
from tests.support.redis_server import RedisServer
from tests.watch.graphs import guarded
from tests.watch.support import PATIENCE, Site, browser, has_ended, site

pytestmark = pytest.mark.browser

USER = {"messages": [("user", "Refund me")]}


class Order(BaseModel):
    """An answer with fields of all kinds."""

    count: int = Field(ge=1, description="How many of them?")
    name: str
    gift: bool
    size: Literal["small", "large"]
    extras: list[Literal["bow", "card", "box"]]
    note: str | None = None


@pytest.fixture(scope="module")
def server() -> Generator[Site]:
    with site(StreamingSettings(capture="all")) as server:
        yield server


@pytest.fixture
def on_redis(shared_redis: RedisServer, redis_prefix: str) -> Generator[Site]:
    redis = RedisSettings(prefix=redis_prefix)
    with site(StreamingSettings(capture="all", log=shared_redis.url, redis=redis)) as server:
        yield server


def open_prompt(page: Page) -> Locator:
    return page.locator('.prompt[data-state="open"]')


async def results_of(server: Site, execution_id: str) -> list[str]:
    return [
        str(update.data["output"])
        async for update in server.streaming.hub.subscribe(execution_id)
        if update.type == "tool_complete"
    ]


async def test_the_arguments_of_a_tool_call_are_edited(server: Site) -> None:
    run = await server.streaming.runs.start(guarded(), USER, execution_id="edited")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/edited")
        prompt = open_prompt(page)
        await expect(prompt).to_contain_text("Run the tool refund?", timeout=PATIENCE)
        await expect(page).to_have_title("(1) Refund me · waits for you")
        await prompt.get_by_text("Edit, or answer with a message").click()
        await prompt.get_by_label("Edit", exact=True).check()
        await prompt.get_by_label("amount").fill("20")
        await prompt.get_by_label("reason").fill("“rain”")
        await prompt.get_by_role("button", name="Send").click()
        await has_ended(page)
        await expect(page.locator(".prompt .outcome")).to_contain_text('edited: {"amount":20,"reason":"“rain”"}')
        await expect(page).to_have_title("Refund me · complete")
    await run
    assert await results_of(server, "edited") == ["refunded 20 for “rain”"]


async def test_several_calls_are_decided_one_by_one(server: Site) -> None:
    run = await server.streaming.runs.start(guarded(calls=3), USER, execution_id="several")
    async with browser() as page:
        await page.goto(f"{server.url}/watch/several")
        prompt = open_prompt(page)
        await prompt.get_by_text("Decide about each").click(timeout=PATIENCE)
        decisions = prompt.locator(".decision")
        await decisions.nth(0).get_by_label("Approve").check()
        await decisions.nth(1).get_by_label("Reject").check()
        await decisions.nth(1).get_by_label("Reason for the model").fill("too much")
        await prompt.get_by_role("button", name="Send").click()
        await expect(prompt.get_by_role("alert")).to_have_text("Decide about refund")
        await decisions.nth(2).get_by_label("Answer in its place").check()
        await decisions.nth(2).get_by_label("Answer that the model gets").fill("not needed")
        await prompt.get_by_role("button", name="Send").click()
        await has_ended(page)
        await expect(page.locator(".prompt .outcome")).to_contain_text(
            "approved, rejected: too much, answered: not needed"
        )
    messages = (await run)["messages"]
    assert {message.content for message in messages if message.type == "tool"} >= {
        "refunded 100 for late",
        "not needed",
    }


async def test_a_form_is_made_from_the_schema_of_an_answer(server: Site) -> None:
    hub = server.streaming.hub
    prompt_data: dict[str, Any] = {"prompt": "Your order?", "type": "input", "schema": Order.model_json_schema()}
    hub.emitter("form", node_id="ask").event("human_prompt", {"prompt_id": "p", **prompt_data})
    cities = {"prompt_id": "q", "prompt": "Where?", "type": "choice", "choices": [f"city {n}" for n in range(12)]}
    hub.emitter("form", node_id="ask").event("human_prompt", cities)
    async with browser() as page:
        await page.goto(f"{server.url}/watch/form")
        prompt = page.locator(".prompt").nth(0)
        await prompt.get_by_label("Count").fill("0", timeout=PATIENCE)
        await prompt.get_by_label("Name").fill("أحمد")
        await prompt.get_by_label("Gift").check()
        await prompt.get_by_label("large").check()
        await prompt.get_by_label("bow").check()
        await prompt.get_by_label("box").check()
        await prompt.get_by_role("button", name="Send").click()
        await expect(prompt.get_by_role("alert")).to_contain_text("Count")
        await prompt.get_by_label("Count").fill("3")
        await prompt.get_by_role("button", name="Send").click()
        where = page.locator(".prompt").nth(1)
        await where.get_by_label("city 11").check()
        await where.get_by_role("button", name="Send").click()
        await expect(page.locator('.prompt[data-state="answered"]')).to_have_count(2, timeout=PATIENCE)
    await hub.close("form")
    answers = [update.data["response"] async for update in hub.subscribe("form") if update.type == "human_response"]
    order = {"count": 3, "name": "أحمد", "gift": True, "size": "large", "extras": ["bow", "box"]}
    assert answers == [order, "city 11"]


async def test_two_people_answer_at_once_and_all_pages_tell_who_was_first(server: Site) -> None:
    await answer_from_two_pages(server, "two")


async def test_two_people_answer_at_once_with_the_log_on_redis(on_redis: Site) -> None:
    await answer_from_two_pages(on_redis, "two")


async def answer_from_two_pages(server: Site, execution_id: str) -> None:
    run = await server.streaming.runs.start(guarded(), USER, execution_id=execution_id)
    async with browser() as one, browser() as other:
        for page in (one, other):
            await page.goto(f"{server.url}/watch/{execution_id}")
            await expect(open_prompt(page)).to_be_visible(timeout=PATIENCE)
        both = asyncio.Barrier(2)

        async def send_together(route: Route) -> None:
            await both.wait()
            await route.continue_()

        for page, answer in ((one, "Approve"), (other, "Reject")):
            await page.route("**/responses", send_together)
            await open_prompt(page).get_by_role("button", name=answer).click()
        told: list[str] = []
        for page in (one, other):
            await has_ended(page)
            await expect(page.locator(".prompt .error")).to_be_hidden()
            told.append(await page.locator(".prompt .outcome").text_content() or "")
        assert sum("by you" in each for each in told) == 1
        assert len({each.partition(" · ")[0] for each in told}) == 1
    await run


async def test_a_person_without_the_right_is_told_and_sees_the_answer_of_another(server: Site) -> None:
    hub = server.streaming.hub
    data = {"prompt_id": "p", "prompt": "Go?", "type": "approval", "timeout_s": 600}
    hub.emitter("denied").event("human_prompt", data)
    refusal = {"error": {"name": "forbidden", "message": "no", "code": 4030, "retryable": False}}
    async with browser() as page:
        await page.route("**/responses", lambda route: route.fulfill(status=403, json=refusal))
        await page.goto(f"{server.url}/watch/denied")
        await page.get_by_role("button", name="Approve").click(timeout=PATIENCE)
        await expect(page.locator(".prompt").get_by_role("alert")).to_contain_text("You may not answer this question")
        await expect(page.get_by_role("button", name="Reject")).to_be_disabled()
        await hub.respond("denied", "p", True, responder="ann")
        await expect(page.locator(".prompt .outcome")).to_contain_text("Approve · answered by ann")
