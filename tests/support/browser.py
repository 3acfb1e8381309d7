"""Debian's Chromium through Playwright's asynchronous interface."""

import asyncio
import atexit
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


START_TIMEOUT = 30.0


class BrowserError(Exception):
    """There is no browser on this machine, or it does not start."""


def chromium_executable() -> str:
    """Return the path of Chromium; without one, raise BrowserError with the remedy."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    msg = "chromium is not installed: `make test` installs it, or `apt-get install chromium`"
    raise BrowserError(msg)


class _Chromium:
    """One headless Chromium for all tests of this process: to start one takes longer than most tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def address(self) -> str:
        """Return the address of Chromium's control, and start Chromium if it does not run."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            return self._address

    def _start(self) -> None:
        profile = Path(tempfile.mkdtemp(prefix="chromium-"))
        self._process = process = subprocess.Popen(
            [
                chromium_executable(),
                "--headless",
                # Root has no sandbox, and containers have a small /dev/shm.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                # Arguments that Playwright gives to its Chromium: no work in the background, a page that goes is
                # gone. Pages that are not in front continue as in front.
                "--disable-back-forward-cache",
                "--disable-component-update",
                "--disable-default-apps",
                "--disable-extensions",
                "--disable-field-trial-config",
                "--disable-hang-monitor",
                "--disable-ipc-flooding-protection",
                "--force-color-profile=srgb",
                "--hide-scrollbars",
                "--metrics-recording-only",
                "--mute-audio",
                "--disable-background-timer-throttling",
                "--disable-backgrounding-occluded-windows",
                "--disable-renderer-backgrounding",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(_stop, process, profile)
        told, end = profile / "DevToolsActivePort", time.monotonic() + START_TIMEOUT
        while not (told.exists() and len(lines := told.read_text().split()) == 2):
            if process.poll() is not None or time.monotonic() > end:
                msg = "chromium does not start"
                raise BrowserError(msg)
            time.sleep(0.01)
        self._address = f"ws://127.0.0.1:{lines[0]}{lines[1]}"


def _stop(process: subprocess.Popen[bytes], profile: Path) -> None:
    process.terminate()
    process.wait()
    shutil.rmtree(profile, ignore_errors=True)


_CHROMIUM = _Chromium()
_SHARED: dict[asyncio.AbstractEventLoop, Browser] = {}
"""The connection that pages of an event loop use, for as long as `shared_browser` is open in it."""


@asynccontextmanager
async def shared_browser() -> AsyncGenerator[None]:
    """Keep one connection to Chromium for all pages that this event loop opens in the block.

    A connection is a Node process of Playwright: to start one takes longer than most tests.
    """
    async with _connection() as browser:
        _SHARED[asyncio.get_running_loop()] = browser
        try:
            yield
        finally:
            del _SHARED[asyncio.get_running_loop()]


@asynccontextmanager
async def chromium_page(*, width: int = 1280, height: int = 800) -> AsyncGenerator[Page]:
    """Open a page in a headless Chromium, which shares nothing with other tests' pages; close it at the end.

    Args:
        width: Of the view, in pixels.
        height: Of the view, in pixels.
    """
    async with AsyncExitStack() as stack:
        browser = _SHARED.get(asyncio.get_running_loop())
        if browser is None or not browser.is_connected():
            browser = await stack.enter_async_context(_connection())
        context = await browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
        stack.push_async_callback(context.close)
        yield await context.new_page()


@asynccontextmanager
async def _connection() -> AsyncGenerator[Browser]:
    address = await asyncio.to_thread(_CHROMIUM.address)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(address)
        try:
            yield browser
        finally:
            await browser.close()  # leaves it
