"""The replay of a kept run: every moment, at every speed, in every panel."""

from collections.abc import AsyncGenerator, Generator

import pytest
from playwright.async_api import Page, expect

from tests.watch.support import PATIENCE, QUICK, Site, browser, has_ended, site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site() as server:
        yield server


@pytest.fixture(scope="module")
async def types(place: Site) -> list[str]:
    """Types of the updates of a kept run."""
    await place.run_the_assistant("kept", speed=QUICK)
    return [update.type async for update in place.streaming.hub.subscribe("kept")]


@pytest.fixture(scope="module")
def count(types: list[str]) -> int:
    return len(types)


@pytest.fixture
async def page(place: Site, count: int) -> AsyncGenerator[Page]:
    async with browser(width=1280, height=900) as page:
        await page.goto(f"{place.url}/watch/kept")
        await has_ended(page)
        yield page


async def drawn_cards(page: Page) -> int:
    """Return the number of cards, when ten frames have added none: a slow machine draws them over several frames."""
    return await page.evaluate(
        """() => new Promise((resolve) => {
            let [known, same] = [0, 0];
            const look = () => {
                const count = document.querySelectorAll(".card").length;
                [known, same] = [count, count === known ? same + 1 : 0];
                if (count > 0 && same >= 10) resolve(count);
                else requestAnimationFrame(look);
            };
            look();
        })"""
    )


async def test_the_slider_shows_every_moment_in_all_panels(page: Page, count: int, types: list[str]) -> None:
    first = types.index("node_start") + 1
    slider = page.get_by_label("Shown updates")
    await expect(slider).to_have_value(str(count))
    cards = await drawn_cards(page)
    await slider.focus()
    await page.keyboard.press("Home")
    await expect(page.locator("#updates")).to_have_text("0")
    await expect(page.locator(".card")).to_have_count(0)
    for _ in range(first):
        await page.keyboard.press("ArrowRight")
    await expect(page.locator("#updates")).to_have_text(str(first))
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page.locator("#run-state")).to_have_text("running")
    assert (await slider.get_attribute("aria-valuetext") or "").startswith(f"{first} of {count}")
    await page.get_by_role("tab", name="Events").click()
    await expect(page.locator(".events-count")).to_have_text(f"{first} updates")
    await page.keyboard.press("Shift+Tab")
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(page.locator(".events-count")).to_have_text(f"{count} updates")
    await page.get_by_role("tab", name="Run").click()
    await expect(page.locator("#run-state")).to_have_text("complete")
    await expect(page.locator(".card")).to_have_count(cards)


@pytest.mark.parametrize("speed", ["10", "Infinity"])
async def test_a_run_is_played_to_its_end(page: Page, count: int, speed: str) -> None:
    await page.get_by_label("Speed of the replay").select_option(speed)
    await page.evaluate(
        """() => {
            window.seen = [];
            const figure = document.getElementById("updates");
            new MutationObserver(() => window.seen.push(Number(figure.textContent))).observe(
                figure, { childList: true, characterData: true, subtree: true });
        }"""
    )
    await page.get_by_role("button", name="Replay", exact=True).click()
    await expect(page.get_by_label("Shown updates")).to_have_value(str(count), timeout=PATIENCE)
    await expect(page.get_by_role("button", name="Replay", exact=True)).to_be_visible()
    await expect(page.locator("#run-state")).to_have_text("complete")
    seen: list[int] = await page.evaluate("window.seen")
    assert seen == sorted(seen)
    assert seen[-1] == count
    assert len(seen) > 1


async def test_a_replay_pauses_and_goes_on_from_there(page: Page, count: int) -> None:
    await page.get_by_label("Speed of the replay").select_option("0.5")
    slider = page.get_by_label("Shown updates")
    await slider.focus()
    await page.keyboard.press("Space")
    pause = page.get_by_role("button", name="Pause the replay")
    await expect(pause).to_be_visible()
    await expect(page.locator(".card").first).to_be_visible(timeout=PATIENCE)
    await pause.click()
    at = int(await slider.input_value())
    assert 0 < at < count
    await page.get_by_label("Speed of the replay").select_option("max")
    await page.get_by_role("button", name="Replay", exact=True).click()
    await expect(slider).to_have_value(str(count), timeout=PATIENCE)


async def test_a_run_that_is_open_goes_on_behind_a_replay(place: Site) -> None:
    hub = place.streaming.hub
    emitter = hub.emitter("open", node_id="write")
    emitter.token("one ")
    emitter.token("two ")
    async with browser() as page:
        await page.goto(f"{place.url}/watch/open")
        await expect(page.locator(".answer-text")).to_have_text("one two ", timeout=PATIENCE)
        slider = page.get_by_label("Shown updates")
        await slider.focus()
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator(".answer-text")).to_have_text("one ")
        emitter.token("three")
        await expect(slider).to_have_attribute("max", "4", timeout=PATIENCE)
        await expect(page.locator(".answer-text")).to_have_text("one ")
        await page.get_by_role("button", name="Live").click()
        await expect(page.locator(".answer-text")).to_have_text("one two three")
        await hub.close("open")
        await has_ended(page)
