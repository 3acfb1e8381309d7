"""The rules that hold for every route of every wire: access, requests, and silence about other callers.

A test goes through all routes of one wire, and reports every route that breaks its rule.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncGenerator, Generator

import httpx2
import pytest

from lg_streaming.types import WireName
from tests.gateway.tokens import token
from tests.wires.all_wires import BODY_BYTES, CASES, WIRES, AllWires, Case, all_wires, bearer

JSON = {"Content-Type": "application/json"}
BODIES = {
    "not JSON": b"{",
    "empty": b"",
    "not UTF-8": b'{"a": "\xff"}',
    "NaN": b'{"a": NaN}',
    "deep": b'{"a":' * 40 + b"1" + b"}" * 40,
    "very deep": b"[" * 9_000 + b"]" * 9_000,
}
"""Bodies that no route takes."""
ODD_BODIES = {
    "a list": b"[]",
    "a text": b'"text"',
    "a large number": b'{"limit": 1e999, "offset": 99999999999999999999999}',
    "null": b"null",
    "surrogates": b'{"id": "\\ud800", "threadId": "\\udfff", "assistant_id": "\\ud800"}',
    "wrong types": b'{"id": 1, "messages": 7, "threadId": [], "assistant_id": {}, "input": "x", "channels": 3}',
    "odd members": b'{"messages": [null, 1, "x", {"role": 7}, {"role": "user", "parts": 3}], "id": "t"}',
    "odd id": b'{"id": "a b", "threadId": "a b", "messages": [], "thread_id": "a b"}',
}
"""Bodies of another form, which a route may take where nothing in it counts."""
IDS = ("%2e%2e%2f%2e%2e%2fhealth", "a%00b", "a%0ab", "%ff%fe", "a" * 300, "%20", "room:1", "a%2Fb", "..;", "%E2%80%AE")


@pytest.fixture(scope="module")
def place() -> Generator[AllWires]:
    with all_wires() as running:
        running.open_run("alices")
        yield running


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """Fail where the server logs an error: a request that cannot be used is no failure of the server."""
    yield
    found = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert not found, [record.getMessage() for record in found]


@pytest.fixture(autouse=True)
def nothing_is_started(place: AllWires) -> Generator[None]:
    yield
    assert [info.execution_id for info in place.module.hub.executions()] == ["alices"]


@pytest.fixture
async def http(place: AllWires) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=place.url, timeout=10) as client:
        yield client


@pytest.fixture(params=WIRES)
def cases(request: pytest.FixtureRequest) -> list[Case]:
    """The routes of a wire."""
    wire: WireName = request.param
    found = [case for case in CASES if case.wire == wire]
    assert found
    return found


class Broken(list[str]):
    """The routes that break a rule; none, at the end of a test."""

    def check(self, kept: bool, case: Case, *facts: object) -> None:
        if not kept:
            self.append(f"{case}: {' '.join(str(fact)[:300] for fact in facts)}")


@pytest.fixture
def broken() -> Generator[Broken]:
    found = Broken()
    yield found
    assert not found, "\n".join(found)


async def ask(
    http: httpx2.AsyncClient,
    case: Case,
    execution_id: str = "alices",
    *,
    headers: dict[str, str] | None = None,
    content: bytes | None = None,
    method: str | None = None,
) -> tuple[int, bytes]:
    """Return the status, and the body of an answer that is no stream."""
    body = case.content(execution_id) if content is None else content
    request = http.build_request(
        method or case.method,
        case.at(execution_id),
        content=body,
        headers={**(JSON if body is not None else {}), **(headers or {})},
    )
    answer = await http.send(request, stream=True)
    try:
        is_stream = answer.status_code == 200 and "event-stream" in answer.headers.get("content-type", "")
        return answer.status_code, b"(a stream)" if is_stream and method is None else await answer.aread()
    finally:
        await answer.aclose()


# ---------------------------------------------------------------- who may ask
async def test_a_caller_without_a_valid_token_gets_401(
    http: httpx2.AsyncClient, cases: list[Case], broken: Broken
) -> None:
    """Its body is not read: it could be large, and a stranger has no limit of connections."""
    wrong = token("another secret of at least thirty-two bytes")
    for case in cases:
        for headers in ({}, {"Authorization": f"Bearer {wrong}"}, {"X-Api-Key": wrong}, {"X-Api-Key": "lsv2_pt_1"}):
            status, body = await ask(http, case, headers=headers)
            broken.check(status == 401 and bool(body), case, headers, status, body)
        for content in (b"{", b'{"a": 1}', b"x" * (BODY_BYTES + 1)) if case.body is not None else ():
            status, body = await ask(http, case, content=content)
            broken.check(status == 401, case, content[:9], status, body)


async def test_a_token_in_the_address_is_refused(http: httpx2.AsyncClient, cases: list[Case], broken: Broken) -> None:
    for case in cases:
        path = f"{case.path}{'&' if '?' in case.path else '?'}token={token()}"
        status, body = await ask(http, dataclasses.replace(case, path=path))
        broken.check(status in {400, 422} and b"may not travel in the address" in body, case, status, body)


async def test_anothers_thread_and_a_missing_one_look_alike(
    http: httpx2.AsyncClient, cases: list[Case], broken: Broken
) -> None:
    mallory = bearer("mallory", lg_streaming=[{"actions": ["start"], "graphs": ["*"]}])
    for case in cases:
        if "ID" in case.path or "ID" in json.dumps(case.body):
            other, missing = [await ask(http, case, each, headers=mallory) for each in ("alices", "nobody")]
            broken.check(other[0] == missing[0] == case.missing, case, other, missing)
            broken.check(other[1].replace(b"alices", b"nobody") == missing[1], case, other, missing)


async def test_a_caller_without_a_grant_starts_nothing(
    http: httpx2.AsyncClient, cases: list[Case], broken: Broken
) -> None:
    for case in cases:
        for grants in ([], [{"actions": ["start"], "graphs": ["other"], "executions": ["**"]}]):
            if case.kind == "start":
                status, body = await ask(http, case, "mine", headers=bearer("bob", lg_streaming=grants))
                is_refused = status in {403, 404, 422} or b'"error"' in body
                broken.check(is_refused and body != b"(a stream)", case, status, body)


# ---------------------------------------------------------------- what a request may be
async def test_a_body_that_cannot_be_used_gets_a_reason(
    http: httpx2.AsyncClient, cases: list[Case], broken: Broken
) -> None:
    nobody = bearer("nobody", lg_streaming=[])
    for case in cases:
        if case.body is None:
            continue
        for name, content in BODIES.items():
            status, body = await ask(http, case, headers=bearer(), content=content)
            broken.check(status in {400, 422} and bool(body), case, name, status, body)
        for name, content in ODD_BODIES.items():
            status, body = await ask(http, case, headers=nobody, content=content)
            broken.check(200 <= status < 500, case, name, status, body)
        status, body = await ask(http, case, headers=bearer(), content=b'{"a": "%b"}' % (b"x" * BODY_BYTES))
        broken.check(status == 413, case, "large", status, body)
        for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            status, body = await ask(http, case, headers={**bearer(), "Content-Type": media_type})
            broken.check(status in {400, 415, 422}, case, media_type, status, body)


async def test_other_methods(http: httpx2.AsyncClient, cases: list[Case], broken: Broken) -> None:
    for case in cases:
        for method in ("PUT", "TRACE"):
            status, body = await ask(http, case, headers=bearer(), method=method, content=b"")
            broken.check(status in {404, 405}, case, method, status, body)
        status, body = await ask(http, case, method="OPTIONS", content=b"")
        broken.check(status == 204, case, "OPTIONS", status)
        status, body = await ask(http, case, headers=bearer("mallory"), method="HEAD", content=b"")
        broken.check(status < 500 and body == b"", case, "HEAD", status, body)


async def test_odd_ids_in_a_path(http: httpx2.AsyncClient, cases: list[Case], broken: Broken) -> None:
    mallory = bearer("mallory", lg_streaming=[{"actions": ["start"], "graphs": ["*"]}])
    for case in cases:
        for odd in IDS if "ID" in case.path else ():
            content = case.content("odd")
            status, body = await ask(http, case, odd, headers=mallory, content=content)
            broken.check(status < 500 and b"hello" not in body, case, odd, status, body)
        status, body = await ask(http, case, "a%00b%ff", content=case.content("odd"))
        broken.check(status in {400, 401, 404, 422}, case, status, body)


def test_nothing_is_left_open(place: AllWires) -> None:
    """The last test of the module: the connections of those before have ended."""
    assert place.gateway.connections == 0
    assert place.gateway.clients == []
