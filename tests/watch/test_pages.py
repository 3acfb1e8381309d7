"""The routes of the watch page: the files that they serve, and the requests that they refuse."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.errors import StreamingConfigError

STATIC = Path(__file__).parents[2] / "lg_streaming/static/watch"
FILES = sorted(str(file.relative_to(STATIC)) for file in STATIC.rglob("*") if file.suffix in {".js", ".css"})


@asynccontextmanager
async def client_of(app: FastAPI, root_path: str = "") -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, root_path=root_path)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://test") as it:
        yield it


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    app = FastAPI()
    for prefix in ("", "/live"):
        StreamingModule({"gateway": {"prefix": prefix, "ui": True}}).install(app)
    async with client_of(app) as client:
        yield client


async def test_the_page_names_its_execution_and_its_gateway(http: httpx2.AsyncClient) -> None:
    page = await http.get("/watch/acme/run-1")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'data-execution="acme/run-1"' in page.text
    assert 'data-gateway="/"' in page.text
    assert "$" not in page.text


async def test_the_page_under_a_prefix_reads_the_gateway_under_that_prefix(http: httpx2.AsyncClient) -> None:
    for path in ("/live/watch/", "/live/watch/run-1"):
        page = await http.get(path)
        assert 'data-gateway="/live/"' in page.text
        assert 'src="/live/watch-assets/' in page.text


async def test_the_page_of_an_app_behind_a_path_uses_that_path() -> None:
    app = FastAPI()
    StreamingModule().install(app, ui=True)
    async with client_of(app, "/inner") as client:
        assert 'data-gateway="/inner/"' in (await client.get("/watch/run-1")).text
        assert (await client.get("/watch")).headers["location"] == "/inner/watch/"


@pytest.mark.parametrize("name", FILES)
async def test_all_files_of_the_page_are_served(http: httpx2.AsyncClient, name: str) -> None:
    asset = await http.get(f"/watch-assets/{name}")
    assert asset.status_code == 200
    assert asset.headers["content-type"].startswith("text/javascript" if name.endswith(".js") else "text/css")
    assert asset.headers["x-content-type-options"] == "nosniff"
    again = await http.get(f"/watch-assets/{name}", headers={"if-none-match": asset.headers["etag"]})
    assert again.status_code == 304


async def test_the_pages_name_only_files_that_exist(http: httpx2.AsyncClient) -> None:
    for path in ("/watch/", "/watch/run-1"):
        names = re.findall(r"/watch-assets/([^\"]+)", (await http.get(path)).text)
        assert names
        assert set(names) <= set(FILES)


@pytest.mark.parametrize("name", ["run.html", "../module.py", "..%2fmodule.py", "nothing.js", "", "run"])
async def test_no_other_file_is_served(http: httpx2.AsyncClient, name: str) -> None:
    assert (await http.get(f"/watch-assets/{name}")).status_code == 404


async def test_the_page_is_served_only_if_it_is_installed() -> None:
    app = FastAPI()
    StreamingModule({"gateway": {"ui": True}}).install(app, ui=False)
    async with client_of(app) as client:
        assert (await client.get("/watch/")).status_code == 404


async def test_the_paths_of_the_page_may_not_meet_those_of_a_wire() -> None:
    streaming = StreamingModule({"wires": {"ag_ui_path": "/watch"}})
    with pytest.raises(StreamingConfigError, match="meet"):
        streaming.install(FastAPI(), wires=["ag-ui"], ui=True)


async def test_an_id_cannot_become_markup(http: httpx2.AsyncClient) -> None:
    page = await http.get('/watch/"><script>alert(1)</script>')
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


async def test_the_page_may_load_files_only_from_its_server(http: httpx2.AsyncClient) -> None:
    for path in ("/watch/", "/watch/run-1"):
        policy = (await http.get(path)).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
        assert "unsafe" not in policy


@pytest.mark.parametrize("bad", ["a%20b", "a%07b", "x" * 257], ids=["space", "control", "long"])
async def test_a_text_that_cannot_name_an_execution_is_refused(http: httpx2.AsyncClient, bad: str) -> None:
    assert (await http.get(f"/watch/{bad}")).status_code == 400
