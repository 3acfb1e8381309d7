"""Chromium starts, shows a page of a real server and leaves nothing behind."""

import pytest

from tests.support.apps import plain
from tests.support.browser import chromium_page
from tests.support.server import serve


@pytest.mark.browser
async def test_a_page_is_shown() -> None:
    with serve(plain()) as server:
        async with chromium_page() as page:
            await page.goto(server.url)
            assert "hello" in await page.inner_text("body")
