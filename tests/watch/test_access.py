"""Access to the watch page: the login, the end of a login on an open page, links, and what they hide."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.async_api import Page, expect
from starlette.requests import HTTPConnection

from lg_streaming import Principal, StreamingModule, StreamingSettings
from tests.gateway.site import SECRET
from tests.gateway.test_rest import token
from tests.watch.support import PATIENCE, Site, browser, site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with place_of() as running:
        yield running


@contextmanager
def place_of(**auth: Any) -> Generator[Site]:
    settings = StreamingSettings.model_validate({"auth": {"secret": SECRET, "leeway": 0, **auth}})
    with site(settings) as running:
        write(running.streaming, "exec-1", "what alice sees")
        yield running


def write(streaming: StreamingModule, execution_id: str, text: str) -> None:
    streaming.hub.open(execution_id, owner="alice")
    streaming.hub.publish(execution_id, "token", {"content": f"{text} "})


async def log_in(page: Page, **claims: Any) -> None:
    await page.get_by_label("Token").fill(token("alice", **claims))
    await page.get_by_role("button", name="Log in").click()


async def sees(page: Page, text: str) -> None:
    await expect(page.locator(".token")).to_contain_text(text, timeout=PATIENCE)


# ---------------------------------------------------------------- login
async def test_a_visitor_logs_in_where_it_is_and_out_again(place: Site) -> None:
    async with browser() as page:
        await page.goto(f"{place.url}/watch/exec-1?view=run")
        dialog = page.get_by_role("dialog", name="Log in")
        await expect(dialog.get_by_label("Token")).to_be_focused()
        assert await dialog.get_by_label("Token").get_attribute("type") == "password"
        await page.keyboard.press("Escape")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_visible()
        for wrong, says in (("nonsense", "not valid"), (token("alice", exp=int(time.time()) - 60), "expired")):
            await dialog.get_by_label("Token").fill(wrong)
            await page.keyboard.press("Enter")
            await expect(dialog.get_by_role("alert")).to_contain_text(says)
        await dialog.get_by_label("Token").fill(f"  Bearer {token('alice')}\n")
        await page.keyboard.press("Enter")
        await sees(page, "what alice sees")
        assert page.url == f"{place.url}/watch/exec-1?view=run"
        await expect(dialog).to_have_count(0)
        assert await page.evaluate("document.cookie") == ""
        await page.reload()
        await sees(page, "what alice sees")
        await expect(page.locator("lg-account")).to_contain_text("alice")
        await page.get_by_role("button", name="Log out").click()
        await expect(dialog).to_be_visible(timeout=PATIENCE)
        await expect(page.locator(".token")).to_have_count(0)


async def test_a_page_whose_login_ends_keeps_what_it_shows_and_goes_on_after_a_new_login(place: Site) -> None:
    write(place.streaming, "long", "before")
    async with browser() as page:
        await page.goto(f"{place.url}/watch/long")
        await log_in(page, exp=time.time() + 8)
        await page.reload()  # the page begins with a login
        await sees(page, "before")
        await page.evaluate("document.querySelector('.token').dataset.mark = 'same'")
        notice = page.get_by_role("alert").filter(has_text="Your login has expired")
        await expect(notice).to_be_visible(timeout=PATIENCE)
        await sees(page, "before")
        place.streaming.hub.publish("long", "token", {"content": "meanwhile "})
        await notice.get_by_role("button", name="Log in").click()
        await page.get_by_role("button", name="Not now").click()
        await expect(notice).to_be_visible()
        await notice.get_by_role("button", name="Log in").click()
        await page.get_by_label("Token").fill(token("alice"))
        await page.keyboard.press("Enter")
        await expect(notice).to_be_hidden(timeout=PATIENCE)
        place.streaming.hub.publish("long", "token", {"content": "after"})
        await expect(page.locator(".token[data-mark=same]")).to_have_text("before meanwhile after", timeout=PATIENCE)


async def test_the_session_of_an_application_needs_no_form() -> None:
    def authenticate(request: HTTPConnection) -> Principal | None:
        return Principal(subject="alice") if request.cookies.get("sid") == "good" else None

    settings = StreamingSettings.model_validate({"gateway": {"login_url": "/login?next={next}"}})
    with site(settings, authenticate=authenticate) as place:
        write(place.streaming, "a/1", "of the application")
        async with browser() as page:
            await page.goto(f"{place.url}/watch/a/1?view=run")
            link = page.get_by_role("dialog").get_by_role("link", name="Log in")
            await expect(link).to_have_attribute("href", "/login?next=%2Fwatch%2Fa%2F1%3Fview%3Drun", timeout=PATIENCE)
            await expect(page.get_by_label("Token")).to_have_count(0)
            await page.context.add_cookies([{"name": "sid", "value": "good", "url": place.url}])
            await page.reload()
            await sees(page, "of the application")
            await expect(page.get_by_role("button", name="Log out")).to_have_count(0)


# ---------------------------------------------------------------- links
async def test_a_shared_link_opens_the_run_for_reading(place: Site) -> None:
    async with browser() as page:
        await page.goto(f"{place.url}/watch/exec-1")
        await log_in(page)
        await page.get_by_role("button", name="Share").click()
        dialog = page.get_by_role("dialog", name="Share this run")
        await expect(dialog).to_contain_text("Everybody who has the link can read this run")
        assert await dialog.get_by_label("The link works for").locator("option").all_text_contents() == [
            "10 minutes", "1 hour", "1 day", "7 days",
        ]  # fmt: skip
        await dialog.get_by_label("The link works for").select_option("1 hour")
        await dialog.get_by_role("button", name="Create a link").click()
        link = await dialog.get_by_label("Link", exact=True).input_value()
        assert link.startswith(f"{place.url}/watch/exec-1#link=lgl_")
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    async with browser() as page:
        await page.goto(link)
        await sees(page, "what alice sees")
        for _ in range(2):
            assert page.url == f"{place.url}/watch/exec-1"
            await expect(page.locator("lg-account")).to_contain_text("Read-only link")
            for hidden in ("Cancel the run", "Share", "Copy link"):
                await expect(page.get_by_role("button", name=hidden)).to_be_hidden()
            await expect(page.get_by_role("link", name="All runs")).to_be_hidden()
            await page.reload()
            await sees(page, "what alice sees")
        await page.goto(f"{place.url}/watch/another")
        await expect(page.get_by_role("dialog", name="Log in")).to_be_visible(timeout=PATIENCE)  # for this run only
        await page.goto(link)
        await page.get_by_role("button", name="Leave the link").click()
        await expect(page.get_by_role("dialog", name="Log in")).to_be_visible(timeout=PATIENCE)


async def test_a_link_holder_sees_a_question_and_no_buttons(place: Site) -> None:
    write(place.streaming, "asks", "text")
    question = {"prompt_id": "p1", "prompt": "Go on?", "type": "confirmation"}
    place.streaming.hub.publish("asks", "human_prompt", question)
    async with browser() as page:
        await page.goto(f"{place.url}/watch/asks#link={await place.streaming.link('asks')}")
        await expect(page.locator(".prompt")).to_contain_text("Go on?", timeout=PATIENCE)
        await expect(page.get_by_role("button", name="Yes")).to_have_count(0)
        review = {
            "action_requests": [{"name": "send_mail", "args": {"to": "ann@example.com"}}],
            "review_configs": [{"action_name": "send_mail", "allowed_decisions": ["approve", "reject"]}],
        }
        place.streaming.hub.publish("asks", "human_prompt", {**question, "prompt_id": "p2", "value": review})
        await expect(page.locator(".prompt").last).to_contain_text("ann@example.com", timeout=PATIENCE)
        await expect(page.get_by_role("button", name="Approve")).to_have_count(0)


@pytest.mark.parametrize("kind", ["expired", "changed"])
async def test_a_link_that_opens_nothing_says_so(place: Site, kind: str) -> None:
    link = await place.streaming.link("exec-1", expires_in=0.05)
    expired = kind == "expired"
    async with browser() as page:
        await page.goto(f"{place.url}/watch/exec-1#link={link if expired else link[:-6]}")
        dialog = page.get_by_role("dialog", name="This link opens nothing")
        await expect(dialog).to_contain_text(
            "The link has expired." if expired else "The link is not valid.", timeout=PATIENCE
        )
        await dialog.get_by_role("button", name="Log in instead").click()
        await log_in(page)
        await sees(page, "what alice sees")


async def test_a_link_that_ends_while_its_page_is_open_leaves_the_text(place: Site) -> None:
    write(place.streaming, "short", "stays")
    async with browser() as page:
        await page.goto(f"{place.url}/watch/short#link={await place.streaming.link('short', expires_in=6)}")
        await sees(page, "stays")
        await expect(page.get_by_role("alert").filter(has_text="This link has expired")).to_be_visible(timeout=PATIENCE)
        await expect(page.locator("#offline")).to_be_hidden()
        await sees(page, "stays")


async def test_without_links_or_authentication_there_is_no_share_button() -> None:
    with place_of(max_link_age=0) as place:
        async with browser() as page:
            await page.goto(f"{place.url}/watch/exec-1")
            await log_in(page)
            await sees(page, "what alice sees")
            await expect(page.get_by_role("button", name="Share")).to_have_count(0)
