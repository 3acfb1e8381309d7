"""The page of a run in a real browser, on a real server, watching a real run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from playwright.async_api import expect
from pydantic import SecretStr

from lg_streaming import StreamingSettings
from lg_streaming.demo.prompts import DEFAULT_QUESTION
from lg_streaming.errors import RunCancelledError
from lg_streaming.settings import AuthSettings, RetentionSettings
from tests.gateway.site import SECRET
from tests.gateway.test_rest import token
from tests.watch.support import LIVE, PATIENCE, QUICK, browser, has_ended, show_all, site, texts_on

pytestmark = pytest.mark.browser

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def test_a_run_is_watched_live_and_survives_a_reload() -> None:
    with site() as server:
        async with browser() as page:
            streams: list[str] = []
            page.on("request", lambda request: streams.append(request.url) if "/stream" in request.url else None)
            await page.goto(f"{server.url}/watch/acme/exec-1")
            await expect(page.locator("#connection")).to_have_attribute("data-state", "connected", timeout=PATIENCE)
            await expect(page.locator("#run-state")).to_have_text("waiting")

            working = asyncio.create_task(server.run_the_assistant("acme/exec-1", speed=LIVE))
            await expect(page.locator("#run-state")).to_have_text("running", timeout=PATIENCE)
            writer = page.locator('.card[data-node="write"]').first
            answer = page.locator(".answer")
            await expect(answer).to_contain_text("Dark roofs", timeout=PATIENCE)
            await expect(answer).to_contain_text("from write")
            await expect(page.locator('.card[data-node="research"]')).to_have_count(3)
            assert 0 < await writer.locator("progress").evaluate("(bar) => bar.value") < 100
            before = await answer.locator(".token").text_content()

            await page.reload()
            assert not working.done()
            await expect(answer.locator(".token")).to_contain_text(before or "", timeout=PATIENCE)
            await has_ended(page)

            result = await working
            assert await texts_on(page) == await server.texts_in_the_log("acme/exec-1")
            verdict = page.locator('.card[data-node="review"]').last
            assert await verdict.locator(".token").text_content() == result["remarks"]
            await expect(page.locator("#run-state")).to_have_text("complete")
            await expect(page.locator('.card:not([data-state="complete"])')).to_have_count(0)
            await expect(page.locator('.tool[data-state="complete"]')).to_have_count(9)
            bars = page.locator(".progress:not([hidden]) progress")
            assert await bars.evaluate_all("(bars) => bars.map((bar) => bar.value)") == [100] * 5
            assert len(streams) == 2


async def test_a_reader_who_comes_after_the_end_sees_it_all() -> None:
    with site() as server:
        await server.run_the_assistant("exec-1", speed=QUICK)
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await has_ended(page)
            assert await texts_on(page) == await server.texts_in_the_log("exec-1")


def breaking(app: Any) -> Any:
    """The app, except that its first event stream breaks after 30 pieces."""
    streams = itertools.count(1)

    async def wrapped(scope: Message, receive: Receive, send: Send) -> None:
        if not str(scope.get("path")).endswith("/stream") or next(streams) > 1:
            await app(scope, receive, send)
            return
        left = asyncio.Event()
        pieces = itertools.count(1)

        async def send_some(message: Message) -> None:
            if next(pieces) <= 30:
                await send(message)
            elif not left.is_set():
                left.set()
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_until_broken() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        await app(scope, receive_until_broken, send_some)

    return wrapped


def overloaded(app: Any) -> Any:
    """The app behind a proxy that breaks the first event stream and then answers 503 for a while."""
    inner = breaking(app)
    streams = itertools.count(1)

    async def wrapped(scope: Message, receive: Receive, send: Send) -> None:
        if str(scope.get("path")).endswith("/stream") and next(streams) in (2, 3):
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"busy"})
        else:
            await inner(scope, receive, send)

    return wrapped


@pytest.mark.parametrize("fault", [breaking, overloaded])
async def test_a_broken_connection_is_made_again_and_nothing_is_lost_or_repeated(fault: Callable[[Any], Any]) -> None:
    with site(wrap=fault) as server:
        async with browser() as page:
            streams: list[str] = []
            page.on("request", lambda request: streams.append(request.url) if "/stream" in request.url else None)
            await page.goto(f"{server.url}/watch/exec-1")
            await server.run_the_assistant("exec-1", speed=QUICK)
            await has_ended(page)
            assert await texts_on(page) == await server.texts_in_the_log("exec-1")
            assert len(streams) > 1


async def test_a_server_that_lost_its_log_is_not_mixed_up_with_the_one_before() -> None:
    async with browser() as page:
        with site() as server:
            await page.goto(f"{server.url}/watch/exec-1")
            server.streaming.hub.emitter("exec-1", node_id="write").token("before")
            await expect(page.locator(".answer .token")).to_have_text("before", timeout=PATIENCE)
        await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting", timeout=PATIENCE)
        with site(port=int(server.url.rpartition(":")[2])) as server:
            server.streaming.hub.emitter("exec-1", node_id="write").token("after")
            await server.streaming.hub.close("exec-1")
            await expect(page.locator(".answer .token")).to_have_text("after", timeout=PATIENCE)
            await expect(page.locator(".gap")).to_contain_text("a log that the server no longer has")
            await has_ended(page)


async def test_what_is_no_longer_kept_is_said_to_be_missing() -> None:
    with site(StreamingSettings(retention=RetentionSettings(max_updates=100))) as server:
        await server.run_the_assistant("exec-1", speed=QUICK)
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await has_ended(page)
            gap = page.locator(".gap")
            await expect(gap).to_contain_text("The updates 1 to")
            await expect(gap).to_contain_text("are no longer kept by the server")
            assert await texts_on(page) == await server.texts_in_the_log("exec-1")


async def test_what_a_model_writes_is_never_markup() -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    with site() as server:
        emitter = server.streaming.hub.emitter("exec-1", node_id=hostile)
        emitter.token(hostile)
        emitter.event("tool_start", {"tool": hostile, "input": {hostile: hostile}})
        emitter.event("tool_error", {"tool": hostile, "error": {"message": hostile}})
        emitter.event("node_error", {"error": {"message": hostile}})
        await server.streaming.hub.fail("exec-1", hostile)
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await has_ended(page)
            assert await page.locator("main img, main script").count() == 0
            assert await page.locator(".card .card-name").text_content() == hostile
            assert await page.locator(".card .failure p").text_content() == hostile
            await show_all(page)
            assert await page.locator(".token .plain").first.text_content() == hostile
            assert await page.locator("#run-error").text_content() == hostile
            assert await page.title() == "exec-1 · failed"


async def test_a_refused_reader_is_told_why_and_what_to_do() -> None:
    auth = AuthSettings(enabled=True, secret=SecretStr(SECRET))
    with site(StreamingSettings(auth=auth)) as server:
        server.streaming.hub.open("exec-1", owner="alice")
        async with browser() as page:
            await page.context.add_cookies(
                [{"name": "lg_streaming_token", "value": token("mallory"), "url": server.url}]
            )
            await page.goto(f"{server.url}/watch/exec-1")
            connection = page.locator("#connection")
            await expect(connection).to_have_attribute("data-state", "failed", timeout=PATIENCE)
            assert "not yours" in (await connection.text_content() or "")
            await expect(page.locator("#offline")).to_contain_text(
                "There is no run with this id, or you may not read it"
            )
            await expect(page.get_by_role("button", name="Try now")).to_be_hidden()
            await expect(page.locator("#panels")).to_be_hidden()
            await expect(page.locator("#run-state")).to_be_hidden()


async def test_a_call_whose_cost_the_program_reports_counts_once() -> None:
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    with site() as server:
        hub = server.streaming.hub
        hub.open("exec-1")
        node = hub.emitter("exec-1", node_id="write")
        node.start("m", message_id="m1")
        node.end(usage=usage)
        hub.emitter("exec-1", node_id="write").usage(10, 2, cost=0.5)
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await expect(page.locator("#cost")).to_contain_text("0.5", timeout=PATIENCE)
            await expect(page.locator("#tokens")).to_have_text("10 in, 2 out")
        state = await hub.describe("exec-1")
        assert state is not None
        assert state.usage == (10, 2, 12, 0.5)


async def test_a_lost_connection_has_a_banner_until_it_is_back() -> None:
    async with browser() as page:
        with site() as server:
            await page.goto(f"{server.url}/watch/exec-1")
            await expect(page.locator("#connection")).to_have_attribute("data-state", "connected", timeout=PATIENCE)
            await expect(page.locator("#offline")).to_be_hidden()
        await expect(page.locator("#offline")).to_contain_text("The connection is lost", timeout=PATIENCE)
        with site(port=int(server.url.rpartition(":")[2])) as server:
            await page.get_by_role("button", name="Try now").click()
            server.streaming.hub.emitter("exec-1", node_id="write").token("back")
            await expect(page.locator(".answer .prose")).to_have_text("back", timeout=PATIENCE)
            await expect(page.locator("#offline")).to_be_hidden()


async def test_a_page_answers_the_prompts_of_a_run_and_cancels_another() -> None:
    with site() as server:
        server.register(speed=QUICK, answer_timeout=600)
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await expect(page.locator("#cancel")).to_be_hidden()
            await server.streaming.runs.start("research", {"question": DEFAULT_QUESTION}, execution_id="exec-1")

            prompt = page.locator('.prompt[data-state="open"]')
            await expect(prompt).to_contain_text("Publish the report?", timeout=PATIENCE)
            await expect(prompt.locator(".hint")).to_contain_text("answers itself with “discard” in 9 min")
            await expect(page.locator("#run-state")).to_have_text("waits for you")
            await expect(page.locator("#overall-text")).to_contain_text("8 of 10 nodes")
            link = page.get_by_role("link", name="Waits for you: Publish the report?")
            await link.press("Enter")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent") == "revise"
            await page.keyboard.press("Enter")

            await expect(prompt).to_contain_text("What should be changed?", timeout=PATIENCE)
            await prompt.get_by_label("Answer").fill("Say <b>less</b>.")
            await prompt.get_by_role("button", name="Send").click()
            await expect(prompt).to_contain_text("Publish the report?", timeout=PATIENCE)
            await page.reload()
            await prompt.get_by_role("button", name="publish").click(timeout=PATIENCE)
            await has_ended(page)
            await expect(page.locator("#run-state")).to_have_text("complete")
            await show_all(page)
            await expect(page.locator(".answer")).to_contain_text("Say <b>less</b>.")
            outcomes = await page.locator(".prompt .outcome").all_text_contents()
            assert [outcome.partition(" · ")[0] for outcome in outcomes] == ["revise", "Say <b>less</b>.", "publish"]
            assert "answered by you at" in outcomes[-1]

            await server.streaming.runs.start("research", {"question": DEFAULT_QUESTION}, execution_id="exec-2")
            await page.goto(f"{server.url}/watch/exec-2")
            await expect(prompt).to_be_visible(timeout=PATIENCE)
            await page.get_by_role("button", name="Cancel the run").click()
            await page.get_by_role("button", name="Keep it running").click()
            await expect(prompt).to_be_visible()
            await page.get_by_role("button", name="Cancel the run").click()
            await page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
            await has_ended(page)
            await expect(page.locator("#run-state")).to_have_text("cancelled")
            await expect(page.locator(".prompt .outcome")).to_have_text("Not answered")
            await expect(page.locator("#cancel")).to_be_hidden()


async def test_every_kind_of_prompt_is_answered_and_a_wrong_answer_can_be_changed() -> None:
    hostile = "<img src=x onerror=document.title=1>"
    with site() as server:
        hub = server.streaming.hub
        prompts: list[dict[str, Any]] = [
            {"prompt": "Ready?", "type": "confirmation"},
            {"prompt": hostile, "type": "approval", "value": {"tool": hostile}},
            {"prompt": "What?", "type": "input", "schema": {"type": "object"}},
            {"prompt": "A name?", "type": "input", "required": False},
            {"prompt": "Which?", "type": "choice", "choices": [{"size": 1}, hostile]},
        ]
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            emitter = hub.emitter("exec-1", node_id="ask")
            for number, data in enumerate(prompts):
                emitter.event("human_prompt", {"prompt_id": f"p{number}", **data})
            cards = page.locator(".prompt")
            await expect(cards).to_have_count(5, timeout=PATIENCE)
            await expect(page.locator("#questions a")).to_have_count(5)
            await cards.nth(0).get_by_role("button", name="Yes").click()
            await cards.nth(1).get_by_role("button", name="Reject").click()
            await cards.nth(2).get_by_label("Answer, as JSON").fill("{")
            await cards.nth(2).get_by_role("button", name="Send").click()
            await expect(cards.nth(2).get_by_role("alert")).to_contain_text("JSON")
            await cards.nth(2).get_by_label("Answer, as JSON").fill('{"a": 12}')
            await cards.nth(2).get_by_role("button", name="Send").click()
            await cards.nth(3).get_by_role("button", name="Skip").click()
            await cards.nth(4).get_by_role("button", name=hostile).click()
            await expect(page.locator('.prompt[data-state="answered"]')).to_have_count(5, timeout=PATIENCE)
            await expect(page.locator("#questions")).to_be_hidden()
            outcomes = await page.locator(".prompt .outcome").all_text_contents()
            told = [each.partition(" · ")[0] for each in outcomes]
            assert told == ["Yes", "Reject", '{\n  "a": 12\n}', "No answer", hostile]
            assert await page.locator("main img").count() == 0
            await hub.close("exec-1")
            await has_ended(page)
        answers = [
            update.data["response"] async for update in hub.subscribe("exec-1") if update.type == "human_response"
        ]
        assert answers == [True, False, {"a": 12}, None, hostile]


async def test_a_page_shows_who_answered_elsewhere_and_why_a_request_fails() -> None:
    with site() as server:
        hub = server.streaming.hub
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await expect(page.locator("#connection")).to_have_attribute("data-state", "connected", timeout=PATIENCE)
            hub.emitter("exec-1").event("human_prompt", {"prompt_id": "p", "prompt": "Go?", "type": "approval"})
            await expect(page.locator(".prompt")).to_contain_text("The run asks", timeout=PATIENCE)
            refusal = {"error": {"name": "x", "message": "not now", "code": 4290, "retryable": True}}
            await page.route("**/responses", lambda route: route.fulfill(status=429, json=refusal))
            await page.get_by_role("button", name="Approve").click()
            await expect(page.locator(".prompt").get_by_role("alert")).to_have_text("not now")
            await expect(page.get_by_role("button", name="Approve")).to_be_enabled()
            await hub.respond("exec-1", "p", False, responder="ann")
            await expect(page.locator(".prompt .outcome")).to_contain_text("Reject · answered by ann at")
            await hub.close("exec-1")
            await has_ended(page)


async def test_the_page_fits_every_screen() -> None:
    with site() as server:
        server.register(speed=QUICK, answer_timeout=600)
        run = await server.streaming.runs.start("research", {"question": DEFAULT_QUESTION}, execution_id="exec-1")
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await expect(page.locator(".prompt")).to_be_visible(timeout=PATIENCE)
            for width in (320, 768, 1280, 2560):
                await page.set_viewport_size({"width": width, "height": 800})
                assert await page.evaluate("document.documentElement.scrollWidth") == width
                bar = await page.locator(".bar").bounding_box()
                assert bar is not None
                assert bar["height"] < 800 / 3
                replay = await page.locator("lg-scrubber").bounding_box()
                assert replay is not None
                assert replay["height"] < 64, "the bar of the replay is one row"
            await page.set_viewport_size({"width": 1280, "height": 1600})
            await page.get_by_role("tab", name="Graph").click()
            await expect(page.locator(".graph-node").first).to_be_visible(timeout=PATIENCE)
            replay = await page.locator("lg-scrubber").bounding_box()
            assert replay is not None
            assert replay["y"] + replay["height"] == pytest.approx(1600, abs=1), "also of a short page"
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await run


async def test_a_view_that_could_not_be_loaded_can_be_asked_for_again() -> None:
    with site() as server:
        server.streaming.hub.emitter("exec-1", node_id="write").token("text")
        async with browser() as page:
            await page.goto(f"{server.url}/watch/exec-1")
            await expect(page.locator(".answer .prose")).to_have_text("text", timeout=PATIENCE)
            await page.route("**/events/events.js", lambda route: route.abort())
            await page.get_by_role("tab", name="Events").click()
            await expect(page.get_by_role("alert")).to_contain_text("could not be loaded", timeout=PATIENCE)
            await page.unroute("**/events/events.js")
            await page.get_by_role("button", name="Try again").click()
            await expect(page.locator("lg-events")).to_contain_text("token", timeout=PATIENCE)
