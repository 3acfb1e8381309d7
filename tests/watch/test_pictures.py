"""Make the pictures of the README and the guides: `make test ARGS="-k pictures"` with README_PICTURE=1."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import expect

from lg_streaming.demo.prompts import DEFAULT_QUESTION
from lg_streaming.errors import RunCancelledError
from tests.watch.support import PATIENCE, QUICK, Site, browser, site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not os.environ.get("README_PICTURE"), reason="README_PICTURE=1 makes the pictures anew"),
]

PICTURES = Path(__file__).parents[2] / "docs/images"
QUESTIONS = {
    "ann/heat-map": "Which districts of Bern are hottest at night?",
    "ben/roofs": "What does a planted roof cost over thirty years?",
    "ann/trees": "Which trees survive a dry summer next to a road?",
    "cleo/asphalt": "Is light asphalt worth its price?",
}


async def runs_before(server: Site) -> None:
    """Fill the list: complete, failed and cancelled runs of several people."""
    server.register(speed=QUICK, answer_timeout=0.05)
    runs = [
        await server.streaming.runs.start(
            "research", {"question": question}, execution_id=name, owner=name.split("/")[0]
        )
        for name, question in QUESTIONS.items()
    ]
    await asyncio.gather(*runs)
    hub = server.streaming.hub
    hub.open("ben/import", owner="ben", metadata={"title": "Import the survey of 2025"})
    hub.emitter("ben/import", node_id="load").progress(current=312, total=900)
    await hub.fail("ben/import", "the file has 311 rows more than its header")
    hub.open("cleo/digest", owner="cleo", metadata={"title": "Digest of this week's papers"})
    await hub.cancel("cleo/digest", "no longer needed")


async def test_pictures() -> None:
    with site() as server:
        await runs_before(server)
        await server.run_the_assistant("ann/cool-city-1", speed=1)  # the estimate of the time left learns from it
        server.register(speed=1, answer_timeout=120)
        run = await server.streaming.runs.start(
            "research", {"question": DEFAULT_QUESTION}, execution_id="ann/cool-city-2", owner="ann"
        )
        async with browser(width=1440, height=900) as page:
            await page.goto(f"{server.url}/watch/ann/cool-city-2")
            await expect(page.locator(".answer")).to_contain_text("Roofs and roads", timeout=5 * PATIENCE)
            await page.screenshot(path=PICTURES / "watch.png")
            await page.goto(f"{server.url}/watch/")
            await expect(page.get_by_text("cool-city-2").first).to_be_visible(timeout=PATIENCE)
            await page.set_viewport_size({"width": 1440, "height": 660})
            await page.screenshot(path=PICTURES / "list.png")
            await page.goto(f"{server.url}/watch/ann/cool-city-2")
            await page.get_by_role("link", name="Waits for you").click(timeout=5 * PATIENCE)
            await page.screenshot(path=PICTURES / "approve.png")
            await page.set_viewport_size({"width": 1440, "height": 900})
            await page.goto(f"{server.url}/watch/ann/cool-city-2?view=timeline")
            await expect(page.locator(".timeline-name").first).to_be_visible(timeout=PATIENCE)
            await page.screenshot(path=PICTURES / "timeline.png")
            await run.cancel()
        with pytest.raises(RunCancelledError):
            await run
