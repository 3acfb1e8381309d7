"""The form that starts a run: its fields by the kinds of a schema, and refusals."""

import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, Literal

import jwt
import pytest
from langgraph.graph import MessagesState, StateGraph
from playwright.async_api import Page, expect
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from lg_streaming import StreamingSettings
from tests.gateway.site import SECRET
from tests.watch.support import PATIENCE, Site, browser, site


class Options(BaseModel):
    depth: int = Field(default=2, ge=1, le=5, description="How deep to look.")
    sources: list[str] = []


class Form(BaseModel):
    question: str
    style: Literal["short", "long"] = "short"
    strict: bool = False
    limit: float | None = None
    options: Options = Options()
    extra: dict[str, Any] = {}


class State(TypedDict, total=False):
    form: Form
    topic: str
    rate: int


class Context(BaseModel):
    user_name: str
    vip: bool = False


def do_nothing(_state: Any) -> dict[str, Any]:
    return {}


def compiled(schema: Any, node: Any = do_nothing, **options: Any) -> Any:
    graph: Any = StateGraph(schema, **options)
    return graph.add_node("work", node).add_edge("__start__", "work").compile()


@pytest.fixture
def place() -> Generator[Site]:
    with site() as running:
        running.streaming.graphs["form"] = compiled(State, context_schema=Context)
        running.streaming.graphs["chat"] = compiled(MessagesState)
        yield running


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    async with browser() as opened:
        opened.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield opened


async def test_the_empty_list_has_a_start_that_works(page: Page, place: Site) -> None:
    await page.goto(f"{place.url}/watch/")
    code = page.locator(".empty code")
    await expect(code).to_contain_text('"graph": "')
    program = (await code.text_content() or "").split("\n")[1]
    assert program == 'await streaming.runs.start("form", {"topic": "Why is the sky blue?"})'
    await place.streaming.runs.run("form", {"topic": "Why is the sky blue?"})
    await expect(page.locator(".rows .title")).to_have_text("Why is the sky blue?")


async def open_form(page: Page, place: Site, graph: str) -> None:
    await page.goto(f"{place.url}/watch/")
    await page.locator("#new-run").click()
    await page.get_by_label("Graph").select_option(graph)


async def test_a_run_starts_with_the_values_of_the_fields(page: Page, place: Site) -> None:
    seen: list[Any] = []

    def note(state: Any, runtime: Any) -> None:
        seen.append((state, runtime.context))

    place.streaming.graphs["form"] = compiled(State, note, context_schema=Context)
    await open_form(page, place, "form")
    await page.get_by_label("question").fill("Why?")
    await page.get_by_label("style").select_option("long")
    await page.get_by_label("strict").check()
    await page.get_by_label("limit").fill("2.5")
    await page.get_by_label("depth").fill("3")
    await page.get_by_label("sources").fill("a\n b \n\n")
    await page.get_by_label("extra").fill('{"x": [1]}')
    await page.get_by_label("topic").fill("<b>sky</b>")
    await page.get_by_label("user_name").fill("Ann")
    await page.get_by_text("Options", exact=True).last.click()
    await page.get_by_label("Execution id").fill("acme/run 1".replace(" ", "-"))
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page).to_have_url(f"{place.url}/watch/acme/run-1")
    await expect(page.locator("#run-state")).to_have_text("complete")
    ((state, context),) = seen
    assert state["topic"] == "<b>sky</b>"
    assert "rate" not in state
    assert state["form"].model_dump() == {
        "question": "Why?",
        "style": "long",
        "strict": True,
        "limit": 2.5,
        "options": {"depth": 3, "sources": ["a", "b"]},
        "extra": {"x": [1]},
    }
    assert (context.user_name, context.vip) == ("Ann", False)


async def test_messages_are_one_text(page: Page, place: Site) -> None:
    await open_form(page, place, "chat")
    await page.get_by_label("messages").fill("What is it?")
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.locator("#run-state")).to_have_text("complete")
    await expect(page.locator("#title")).to_have_text("What is it?")


async def test_values_that_do_not_fit_are_told_at_their_fields(page: Page, place: Site) -> None:
    await open_form(page, place, "form")
    start = page.get_by_role("button", name="Start", exact=True)
    extra = page.get_by_label("extra")
    question = page.get_by_label("question")
    await page.get_by_label("user_name").fill("Ann")
    await extra.fill("{")
    await start.click()
    await expect(question).to_be_focused()
    await expect(page.locator(".field-error:visible")).to_have_text("This field is required.")
    await question.fill("Why?")
    await start.click()
    await expect(extra).to_be_focused()
    await expect(extra).to_have_attribute("aria-invalid", "true")
    await expect(page.locator(".field-error:visible")).to_contain_text("This is no JSON")
    await extra.fill("[1]")
    await expect(page.locator(".field-error:visible")).to_have_count(0)
    await start.click()  # the server knows that this is no object
    await expect(extra).to_be_focused()
    await expect(page.locator(".field-error:visible")).to_have_count(1)
    await extra.fill("")
    depth = page.get_by_label("depth")
    await depth.fill("9")
    await start.click()
    await expect(page.locator(".field-error:visible")).to_have_text("The number is from 1 to 5.")
    await expect(depth).to_be_focused()
    assert await page.evaluate("document.querySelector('dialog').open")


async def test_a_start_that_is_refused_says_why(page: Page, place: Site) -> None:
    place.streaming.hub.open("taken")
    await open_form(page, place, "chat")
    await page.get_by_label("messages").fill("Hi")
    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Execution id").fill("taken")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_role("alert").last).to_contain_text("run")
    await expect(page).to_have_url(f"{place.url}/watch/")
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog.start")).not_to_be_visible()


async def test_only_graphs_that_the_caller_may_start_are_offered(page: Page) -> None:
    claims = {"sub": "ann", "exp": int(time.time()) + 600}
    grant = {"lg_streaming": [{"actions": ["start"], "graphs": ["chat"], "executions": ["*"]}]}
    settings = StreamingSettings.model_validate({"auth": {"secret": SECRET}})
    with site(settings) as place:
        for name in ("chat", "other"):
            place.streaming.graphs[name] = compiled(MessagesState)
        token = jwt.encode({**claims, **grant}, SECRET, "HS256")
        await page.set_extra_http_headers({"Authorization": f"Bearer {token}"})
        await page.goto(f"{place.url}/watch/")
        await page.locator("#new-run").click()
        assert await page.get_by_label("Graph").locator("option").all_text_contents() == ["chat"]
        await page.set_extra_http_headers({"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"})
        await page.goto(f"{place.url}/watch/")
        await expect(page.locator(".empty")).to_contain_text("A program starts one")
        await expect(page.locator("#new-run")).to_be_hidden()
