"""Chromium starts, shows a page of a real server and leaves nothing behind."""

import pytest

from tests.support.apps import plain
from tests.support.browser import chromium_page
from tests.support.server import serve


async def test_before_the_module_has_a_connection_a_page_has_a_connection_of_its_own() -> None:
    async with chromium_page() as one, chromium_page() as other:
        assert one.context.browser is not other.context.browser
        assert await other.evaluate("1 + 1") == 2


@pytest.mark.browser
async def test_a_page_is_shown() -> None:
    with serve(plain()) as server:
        async with chromium_page() as page:
            await page.goto(server.url)
            assert "hello" in await page.inner_text("body")


@pytest.mark.browser
async def test_pages_share_a_connection_and_nothing_else() -> None:
    with serve(plain()) as server:
        async with chromium_page() as one, chromium_page() as other:
            assert one.context.browser is other.context.browser
            for page in (one, other):
                await page.goto(server.url)
            await one.evaluate("document.cookie = 'a=1'; localStorage.setItem('a', '1')")
            assert await other.evaluate("[document.cookie, localStorage.getItem('a')]") == ["", None]
