"""Debian's Chromium through Playwright's asynchronous interface."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


class BrowserError(Exception):
    """There is no browser on this machine."""


def chromium_executable() -> str:
    """The path of Chromium; raises BrowserError with what to do when there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    msg = "chromium is not installed: `make test` installs it, or `apt-get install chromium`"
    raise BrowserError(msg)


@asynccontextmanager
async def chromium_page(*, width: int = 1280, height: int = 800) -> AsyncGenerator[Page]:
    """A page in a fresh headless Chromium without any request outside this machine; closed at the end.

    Args:
        width: Of the view, in pixels.
        height: Of the view, in pixels.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_executable(),
            # Root has no sandbox, and containers have a small /dev/shm.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"],
        )
        try:
            yield await browser.new_page(viewport={"width": width, "height": height})
        finally:
            await browser.close()
