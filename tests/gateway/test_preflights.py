"""Request headers that pages of other origins may send."""

from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from lg_streaming.settings import GatewaySettings
from tests.gateway.site import site

LISTED = "https://app.example.com"
USUAL = {"authorization", "cache-control", "content-type", "idempotency-key", "last-event-id", "x-api-key"}


async def allowed(asked: str | None, *, origin: str = LISTED, path: str = "/executions", **gateway: Any) -> set[str]:
    """The headers that a preflight is answered with, in small letters."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    if asked is not None:
        headers["Access-Control-Request-Headers"] = asked
    with site(auth={"enabled": False}, gateway={"cors_origins": [LISTED], **gateway}) as place:
        async with httpx2.AsyncClient() as http:
            answer = await http.options(place.url + path, headers=headers)
    assert (answer.status_code == 204) == ("access-control-allow-origin" in answer.headers)
    return {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}


@pytest.mark.parametrize(
    "path", ["/executions", "/executions/e/stream", "/executions/e/responses", "/tickets", "/health"]
)
async def test_headers_of_the_application_pass_for_listed_origins(path: str) -> None:
    asked = "authorization,x-tenant,traceparent,tracestate,baggage,sentry-trace"
    assert await allowed(asked, path=path) == USUAL | set(asked.split(","))


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        (None, set[str]()),
        ("", set[str]()),
        ("X-One ,, X-Two", {"x-one", "x-two"}),
        ("X-Tenant, x-tenant, AUTHORIZATION", {"x-tenant"}),
        ("x-ok, b@d, x y, x:z", {"x-ok"}),
        ("x-" + "a" * 200 + ", x-ok", {"x-ok"}),
        ("*", {"*"}),
    ],
)
async def test_what_is_asked_for_is_looked_at(asked: str | None, more: set[str]) -> None:
    assert await allowed(asked) == USUAL | more


async def test_a_flood_of_names_is_cut() -> None:
    assert len(await allowed(",".join(f"x-{number}" for number in range(1_000)))) == 100


async def test_other_origins_get_nothing_by_asking() -> None:
    assert await allowed("x-tenant", origin="https://evil.example.com") == USUAL
    assert await allowed("x-tenant", origin="https://any.example.com", cors_origins=["*"]) == USUAL | {"x-tenant"}


@pytest.mark.parametrize("listed", [["X-Tenant"], ["X-Tenant", "traceparent"], []])
async def test_a_list_takes_the_place_of_asking(listed: list[str]) -> None:
    assert await allowed("x-tenant,x-other", cors_headers=listed) == USUAL | {name.lower() for name in listed}


@pytest.mark.parametrize("name", ["", "x y", "x:", "é", "a,b", "x\r\n"])
def test_a_list_of_what_is_no_header_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(cors_headers=(name,))
