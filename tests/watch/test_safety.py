"""Safety of the watch page: hostile texts, the content security policy, other hosts, and accessibility."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.async_api import Page, expect

from lg_streaming import StreamingSettings
from tests.gateway.site import SECRET
from tests.gateway.test_rest import token
from tests.watch.hostile import HOSTILE, LONG_WORD, hostile_run, odd_run
from tests.watch.support import PATIENCE, QUICK, Site, browser, has_ended, site

pytestmark = pytest.mark.browser

AXE: Final = Path(__file__).parents[1] / "js/node_modules/axe-core/axe.min.js"
FORBIDDEN: Final = "img, script:not([src]), iframe, b, [onload], [onerror], [onfocus]"
HIDDEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(slots=True)
class Watched:
    """A page, and what it did that a policy forbids."""

    page: Page
    url: str
    violations: list[str] = field(default_factory=list[str])
    foreign: list[str] = field(default_factory=list[str])


@asynccontextmanager
async def watched(
    url: str, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> AsyncGenerator[Watched]:
    async with browser(width=width, scheme=scheme) as page:
        made = Watched(page, url)

        def asked(address: str) -> None:
            if not address.startswith((url, url.replace("http", "ws"), "data:", "blob:")):
                made.foreign.append(address)

        page.on("request", lambda request: asked(request.url))
        page.on("websocket", lambda socket: asked(socket.url))

        def violated(text: str) -> None:
            made.violations.append(text)

        await page.expose_function("reportViolation", violated)
        await page.add_init_script(
            """addEventListener("securitypolicyviolation", (event) =>
                reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"""
        )
        yield made
        await page.evaluate("new Promise((resolve) => setTimeout(resolve))")  # the events of violations come first
        assert made.violations == []
        assert made.foreign == []


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site() as running:
        yield running


# ---------------------------------------------------------------- hostile texts
async def test_hostile_text_stays_text_and_shows_its_hidden_codes(place: Site) -> None:
    text = " ¦ ".join(HOSTILE.values())
    await hostile_run(place.streaming.hub, "hostile", text)
    async with watched(place.url) as each:
        page = each.page
        await page.goto(f"{place.url}/watch/hostile")
        await expect(page.locator(".prompt")).to_be_visible(timeout=PATIENCE)
        for tab in (await page.get_by_role("tab").all())[1:]:
            await tab.click()
            await expect(page.locator(f"#{await tab.get_attribute('aria-controls')} > *").first).to_be_visible()
            await shows_no_code(page)
        await page.get_by_role("tab").first.click()
        await page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
        shown = await shows_no_code(page)
        for code in sorted(set(HIDDEN.findall(text)) - {"\r"}):
            assert code.encode("unicode_escape").decode() in shown, code
        assert set(await page.evaluate("[...document.links].map((link) => link.protocol)")) <= {"http:", "https:"}
        for where in (".card-title", ".thinking", ".tool-name", ".prompt h2", ".error:not([hidden])"):
            there = await page.locator(where).first.text_content() or ""
            for kind in ("markup", "attribute", "link", "address", "template", "rtl"):
                assert HOSTILE[kind] in there, (kind, where)
        await page.goto(f"{place.url}/watch/")
        await expect(page.get_by_role("link", name=HOSTILE["markup"][:20])).to_be_visible(timeout=PATIENCE)
        await shows_no_code(page)


async def shows_no_code(page: Page) -> str:
    """Check that nothing of a text has become an element, a script or a hidden code; return what is shown."""
    assert await page.evaluate("window.hacked") is None
    assert await page.locator(FORBIDDEN).count() == 0
    shown: str = await page.evaluate("document.documentElement.innerText + document.title")
    titles: str = await page.evaluate(
        "[...document.querySelectorAll('[title], [aria-label]')].map((it) => it.title + it.ariaLabel).join('')"
    )
    assert not HIDDEN.search(shown + titles)
    return shown


async def test_data_of_any_shape_stops_no_part_of_the_page(place: Site) -> None:
    """A program may publish a known type with data of another shape, and name its own types `constructor`."""
    odd_run(place.streaming.hub, "odd")
    async with watched(place.url) as each:
        await each.page.goto(f"{place.url}/watch/odd")
        await expect(each.page.get_by_text("The end.").first).to_be_visible(timeout=PATIENCE)
        for tab in await each.page.get_by_role("tab").all():
            await tab.click()
            panel = each.page.locator(f"#{await tab.get_attribute('aria-controls')}")
            await expect(panel.locator(":scope > *").first).to_be_visible(timeout=PATIENCE)
        await expect(each.page.locator("#run-state")).to_have_attribute("data-state", "running")
        assert not re.search(r"NaN|undefined|Infinity|\[object", await each.page.evaluate("document.body.innerText"))


async def test_a_name_that_reads_from_right_to_left_reorders_nothing_beside_it(place: Site) -> None:
    hub = place.streaming.hub
    hub.open("rtl", owner="מפעיל", metadata={"title": "כותרת"})
    hub.publish("rtl", "human_prompt", {"prompt_id": "p", "prompt": "שאלה 1?", "type": "approval"})
    async with watched(place.url) as each:
        await each.page.goto(f"{place.url}/watch/rtl")
        link = each.page.locator("#questions a")
        await expect(link).to_be_visible(timeout=PATIENCE)
        before, name = await link.evaluate(
            """(link) => {
                const range = document.createRange();
                range.selectNodeContents(link.firstChild);
                return [range.getBoundingClientRect().right, link.querySelector("bdi").getBoundingClientRect().left];
            }"""
        )
        assert before <= name + 1  # "Waits for you:" stays on the left


async def test_a_word_without_end_stays_within_the_page(place: Site) -> None:
    await hostile_run(place.streaming.hub, "long", LONG_WORD, name="n" * 1_000)
    async with watched(place.url, width=390) as each:
        await each.page.goto(f"{place.url}/watch/long")
        await expect(each.page.locator(".prompt")).to_be_visible(timeout=PATIENCE)
        assert await each.page.evaluate("document.scrollingElement.scrollWidth") <= 390


# ---------------------------------------------------------------- policy, hosts, accessibility
async def axe(page: Page) -> list[str]:
    """The violations that axe-core finds on the page."""
    await page.evaluate(await asyncio.to_thread(AXE.read_text, encoding="utf-8"))
    found: list[dict[str, Any]] = await page.evaluate("axe.run().then(({violations}) => violations)")
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_and_keeps_the_policy(scheme: Literal["light", "dark"]) -> None:
    settings = StreamingSettings.model_validate({"auth": {"secret": SECRET}})
    with site(settings) as place:
        hub = place.streaming.hub
        await hostile_run(hub, "waiting", "a question")
        await hostile_run(hub, "failed", "a failure", is_open=False)
        await place.run_the_assistant("complete", speed=QUICK)
        links = {name: await place.streaming.link(name) for name in ("waiting", "failed", "complete")}
        async with watched(place.url, scheme=scheme) as each:
            page, found = each.page, dict[str, list[str]]()
            await page.goto(f"{place.url}/watch/complete")
            await expect(page.get_by_role("dialog", name="Log in")).to_be_visible(timeout=PATIENCE)
            found["login"] = await axe(page)
            for name, link in links.items():
                await page.goto(f"{place.url}/watch/{name}#link={link}")
                await expect(page.locator(".card").first).to_be_visible(timeout=PATIENCE)
                found[name] = await axe(page)
            for tab in (await page.get_by_role("tab").all())[1:]:
                await tab.click()
                panel = page.locator(f"#{await tab.get_attribute('aria-controls')}")
                await expect(panel.locator(":scope > *").first).to_be_visible(timeout=PATIENCE)
                found[await tab.text_content() or ""] = await axe(page)
            grants = [{"actions": ["read", "control"], "executions": ["**"]}, {"actions": ["start"], "graphs": ["*"]}]
            cookie = {"name": "lg_streaming_token", "value": token(lg_streaming=grants), "url": place.url}
            await page.context.add_cookies([cookie])  # pyright: ignore[reportArgumentType]
            await page.evaluate("sessionStorage.clear()")
            await page.goto(f"{place.url}/watch/waiting")
            await page.get_by_role("button", name="Share").click()
            await page.get_by_role("button", name="Create a link").click()
            await expect(page.get_by_label("Link", exact=True)).to_be_visible()
            found["share"] = await axe(page)
            await page.goto(f"{place.url}/watch/")
            await expect(page.get_by_role("link", name="a question")).to_be_visible(timeout=PATIENCE)
            found["list"] = await axe(page)
            await page.get_by_role("button", name="New run").click()
            await expect(page.get_by_role("dialog").get_by_role("textbox").first).to_be_visible(timeout=PATIENCE)
            found["start"] = await axe(page)
            assert {name: wrong for name, wrong in found.items() if wrong} == {}


async def test_a_whole_run_keeps_the_policy_and_asks_no_other_host(place: Site) -> None:
    async with watched(place.url) as each:
        await each.page.goto(f"{place.url}/watch/whole")
        await place.run_the_assistant("whole", speed=QUICK)
        await has_ended(each.page)
        for tab in await each.page.get_by_role("tab").all():
            await tab.click()


async def test_the_check_of_the_policy_sees_what_it_looks_for(place: Site) -> None:
    async def load_a_foreign_image() -> None:
        async with watched(place.url) as each:
            await each.page.goto(f"{place.url}/watch/any")
            await each.page.evaluate("document.body.append(Object.assign(new Image(), { src: '//evil.example/' }))")

    with pytest.raises(AssertionError, match="img-src"):
        await load_a_foreign_image()
