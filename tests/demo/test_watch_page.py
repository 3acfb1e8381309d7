"""The page's own routes: what they serve and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI

from lg_streaming.demo.watch import watch_router


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    app = FastAPI()
    app.include_router(watch_router())
    app.include_router(watch_router(prefix="/live"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_the_page_names_its_execution_and_its_gateway(http: httpx2.AsyncClient) -> None:
    page = await http.get("/watch/acme/run-1")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'data-execution="acme/run-1"' in page.text
    assert 'data-gateway="/"' in page.text
    assert "$" not in page.text


async def test_the_page_under_a_prefix_reads_the_gateway_under_that_prefix(http: httpx2.AsyncClient) -> None:
    page = await http.get("/live/watch/run-1")
    assert 'data-gateway="/live/"' in page.text
    assert 'src="/live/watch-assets/watch.js"' in page.text


async def test_the_page_of_an_app_behind_a_path_uses_that_path() -> None:
    app = FastAPI()
    app.include_router(watch_router())
    transport = httpx2.ASGITransport(app, root_path="/inner")
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert 'data-gateway="/inner/"' in (await client.get("/watch/run-1")).text


@pytest.mark.parametrize("name", ["watch.js", "view.js", "run.js", "prompts.js", "controls.js", "dom.js", "watch.css"])
async def test_everything_the_page_needs_is_there(http: httpx2.AsyncClient, name: str) -> None:
    asset = await http.get(f"/watch-assets/{name}")
    assert asset.status_code == 200
    assert asset.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert asset.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["watch.html", "../module.py", "..%2fmodule.py", "nothing.js"])
async def test_nothing_else_is_served(http: httpx2.AsyncClient, name: str) -> None:
    assert (await http.get(f"/watch-assets/{name}")).status_code == 404


async def test_an_id_cannot_become_markup(http: httpx2.AsyncClient) -> None:
    page = await http.get('/watch/"><script>alert(1)</script>')
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


async def test_the_page_may_load_nothing_from_elsewhere(http: httpx2.AsyncClient) -> None:
    policy = (await http.get("/watch/run-1")).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")


@pytest.mark.parametrize("bad", ["a%20b", "a%07b", "x" * 257], ids=["space", "control", "long"])
async def test_what_cannot_name_an_execution_is_refused(http: httpx2.AsyncClient, bad: str) -> None:
    assert (await http.get(f"/watch/{bad}")).status_code == 400
