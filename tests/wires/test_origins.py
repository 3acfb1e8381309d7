"""Pages of other origins, for every wire: preflights, headers they may read, cookies, `*`, and local mode."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from lg_streaming.types import WireName
from tests.gateway.tokens import token
from tests.wires.all_wires import CASES, WIRES, AllWires, all_wires, bearer

LISTED, OTHER = "https://app.example.com", "https://evil.example.com"
ASKED = "authorization,content-type,x-api-key,x-tenant"
JSON = {"Content-Type": "application/json"}
EXPOSED = {
    "ai-sdk": {"x-vercel-ai-ui-message-stream"},
    "langgraph": {"content-location", "location", "x-pagination-total"},
    "ag-ui": set[str](),
    "durable-streams": {"stream-next-offset", "stream-up-to-date", "stream-closed", "stream-cursor", "etag"},
}


@pytest.fixture(scope="module", params=["listed", "star"])
def origins(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def place(origins: str) -> Generator[AllWires]:
    allowed = [LISTED] if origins == "listed" else ["*"]
    with all_wires(gateway={"cors_origins": allowed}) as running:
        running.open_run("alices")
        asyncio.run(running.module.hub.close("alices"))
        yield running


@pytest.mark.parametrize("wire", WIRES)
async def test_what_a_preflight_is_answered(place: AllWires, origins: str, wire: WireName) -> None:
    async with httpx2.AsyncClient(base_url=place.url) as http:
        for case in [each for each in CASES if each.wire == wire]:
            asked = {"Access-Control-Request-Method": case.method, "Access-Control-Request-Headers": ASKED}
            answer = await http.options(case.at("alices"), headers={"Origin": LISTED, **asked})
            headers = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
            assert answer.status_code == 204, str(case)
            assert set(ASKED.split(",")) <= headers
            assert case.method in answer.headers["access-control-allow-methods"].split(", "), str(case)
            allowed = answer.headers["access-control-allow-origin"]
            credentials = answer.headers.get("access-control-allow-credentials")
            assert (allowed, credentials) == ((LISTED, "true") if origins == "listed" else ("*", None))
            if origins == "listed":
                refused = await http.options(case.at("alices"), headers={"Origin": OTHER, **asked})
                assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)


@pytest.mark.parametrize("wire", WIRES)
async def test_what_a_page_may_read(place: AllWires, origins: str, wire: WireName) -> None:
    async with httpx2.AsyncClient(base_url=place.url) as http:
        for case in [each for each in CASES if each.wire == wire and each.kind in {"read", "list", "stream"}]:
            content = case.content("alices")
            sent = {"Origin": LISTED, **(JSON if content is not None else {})}
            for headers in (bearer(), {}):  # an error is read, too
                url = case.at("alices")
                async with http.stream(case.method, url, headers={**sent, **headers}, content=content) as answer:
                    allowed = LISTED if origins == "listed" else "*"
                    assert answer.headers["access-control-allow-origin"] == allowed, str(case)
                    exposed = answer.headers.get("access-control-expose-headers", "").lower().split(", ")
                    assert EXPOSED[wire] <= set(exposed), str(case)
            if origins == "listed":
                refused = await http.request(
                    case.method, case.at("alices"), headers={**sent, **bearer(), "Origin": OTHER}, content=content
                )
                assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_cookie_counts_for_listed_origins_only(place: AllWires, origins: str, wire: WireName) -> None:
    case = next(each for each in CASES if (each.wire == wire and each.kind in {"read", "list"}) or each.wire == wire)
    content = case.content("alices")
    cookie = {"Cookie": f"lg_streaming_token={token()}", "Origin": LISTED, **JSON}
    async with (
        httpx2.AsyncClient(base_url=place.url) as http,
        http.stream(case.method, case.at("alices"), headers=cookie, content=content) as answer,
    ):
        assert (answer.status_code == 401) == (origins == "star"), answer.status_code


@pytest.mark.parametrize("wire", WIRES)
async def test_in_local_mode_foreign_pages_are_refused(wire: WireName) -> None:
    local: dict[str, Any] = {"auth": {}, "gateway": {"cors_origins": ["*"]}}
    with all_wires(**local) as place:
        place.open_run("any")
        async with httpx2.AsyncClient(base_url=place.url) as http:
            for case in [each for each in CASES if each.wire == wire]:
                content = case.content("any")
                for headers in ({"Origin": OTHER}, {"X-Forwarded-For": "203.0.113.7"}, {"Host": "evil.example.com"}):
                    sent = {**headers, **(JSON if content is not None else {})}
                    async with http.stream(case.method, case.at("any"), headers=sent, content=content) as answer:
                        assert answer.status_code in {401, 403}, (str(case), headers)
        assert [info.execution_id for info in place.module.hub.executions()] == ["any"]
