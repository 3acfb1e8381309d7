"""Plain HTTP over a real server."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, NoReturn

import httpx2
import jwt
import pytest

from lg_streaming.errors import LogUnavailableError
from tests.gateway.site import SECRET, Site, raw_client, site

APP = "https://app.example.com"
EVIL = "https://evil.example.com"


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


def token(subject: str = "alice", **claims: Any) -> str:
    return jwt.encode({"sub": subject, "exp": int(time.time()) + 600, **claims}, SECRET, "HS256")


def bearer(subject: str = "alice", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(subject, **claims)}"}


def ask(place: Site, execution_id: str = "exec-1", prompt_id: str = "p1") -> None:
    place.hub.publish(
        execution_id, "human_prompt", {"prompt_id": prompt_id, "prompt": "Go on?", "type": "confirmation"}
    )


def numbers(page: dict[str, Any]) -> list[int]:
    return [update["metadata"]["sequence_number"] for update in page["updates"]]


class Pages:
    """A client that polls."""

    def __init__(self, http: httpx2.AsyncClient, place: Site, execution_id: str = "exec-1", **query: Any) -> None:
        self._http = http
        self._url = f"{place.url}/executions/{execution_id}/updates"
        self._query = query
        self.position: str | None = None

    async def next(self, **query: Any) -> dict[str, Any]:
        asked = {**self._query, **({"after": self.position} if self.position else {}), **query}
        answer = await self._http.get(self._url, params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        self.position = page["position"]
        return page


async def code_of(request: Awaitable[httpx2.Response]) -> tuple[int, int]:
    answer = await request
    return answer.status_code, answer.json()["error"]["code"]


# ---------------------------------------------------------------- pages of updates
@pytest.mark.row("PYEV-17", "PYEV-21")
async def test_polling_gets_every_update_once(open_site: Site, http: httpx2.AsyncClient) -> None:
    pages = Pages(http, open_site, limit=10)
    nothing = await pages.next()
    assert nothing == {
        "execution_id": "exec-1",
        "state": "unknown",
        "position": None,
        "recovered": True,
        "ended": False,
        "more": False,
        "updates": [],
    }
    open_site.hub.open("exec-1")
    got: list[int] = []
    for round_ in range(3):
        open_site.tokens("exec-1", 12, start=round_ * 12)
        page = await pages.next()
        assert (page["state"], page["ended"]) == ("running", False)
        got += numbers(page)
    await open_site.hub.close("exec-1")
    while not (page := await pages.next())["ended"]:
        assert page["more"]
        got += numbers(page)
    got += numbers(page)
    assert got == list(range(1, 39))
    assert page["state"] == "completed"
    again = await pages.next(wait=20)  # no request waits for an update that will not come
    assert (again["updates"], again["ended"], again["position"]) == ([], True, page["position"])


async def test_a_page_has_the_same_updates_as_every_other_wire(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.tokens("exec-1", 1)
    answer = await http.get(f"{open_site.url}/executions/exec-1/updates")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    update = answer.json()["updates"][1]
    assert (update["type"], update["data"]) == ("token", {"content": "t0 ", "index": 0})
    assert update["metadata"]["execution_id"] == "exec-1"


async def test_filters_move_on_over_what_they_leave_out(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.tokens("exec-1", 5)
    open_site.hub.publish("exec-1", "note", {"n": 1})
    pages = Pages(http, open_site, events="note", limit=4)
    first = await pages.next()
    assert (numbers(first), first["more"], first["position"][-2:]) == ([7], False, ":7")
    open_site.tokens("exec-1", 3)
    second = await pages.next()
    assert (second["updates"], second["more"], second["position"][-3:]) == ([], False, ":10")
    latest = await Pages(http, open_site).next(after="latest")
    assert (latest["updates"], latest["position"]) == ([], second["position"])


async def test_a_page_waits_for_an_update(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.tokens("exec-1", 1)
    pages = Pages(http, open_site, wait=20, events="note")
    await pages.next(wait=0)
    waiting = asyncio.create_task(pages.next())
    while not open_site.gateway.connections:
        await asyncio.sleep(0.01)
    open_site.tokens("exec-1", 1)
    open_site.hub.publish("exec-1", "note")
    assert numbers(await waiting) == [4]
    assert open_site.gateway.connections == 0
    in_vain = await pages.next(wait=0.01)
    assert (in_vain["updates"], in_vain["position"], in_vain["more"]) == ([], pages.position, False)
    await open_site.hub.close("exec-1")
    following = asyncio.create_task(pages.next(follow="true", events="workflow_start"))
    while not open_site.gateway.connections:
        await asyncio.sleep(0.01)
    open_site.hub.open("exec-1")
    assert numbers(await following) == [6]


async def test_who_waits_counts_as_a_connection_and_is_let_go(http: httpx2.AsyncClient) -> None:
    with site(auth={"enabled": False}, limits={"connections": 1}) as place:
        pages = Pages(http, place)
        await pages.next()
        waiting = asyncio.create_task(pages.next(wait=25))
        while not place.gateway.connections:
            await asyncio.sleep(0.01)
        second = http.get(f"{place.url}/executions/exec-2/updates?wait=25")
        assert await code_of(second) == (503, 4291)
        waiting.cancel()
        while place.gateway.connections:
            await asyncio.sleep(0.01)
        leaving = asyncio.create_task(pages.next(wait=25))
        while not place.gateway.connections:
            await asyncio.sleep(0.01)
        place.server.stop()
        assert (await leaving)["updates"] == []


async def test_a_page_says_what_is_missing(http: httpx2.AsyncClient) -> None:
    with site(auth={"enabled": False}, retention={"max_updates": 10}) as place:
        pages = Pages(http, place)
        place.tokens("exec-1", 5)
        await pages.next()
        assert pages.position is not None
        left_at = pages.position
        place.tokens("exec-1", 45)
        failing = await pages.next(on_gap="fail")
        assert failing["gap"] == {"from": 7, "to": 41, "reason": "evicted"}
        assert (failing["recovered"], failing["updates"], failing["position"]) == (False, [], left_at)
        tail = await pages.next(on_gap="tail")
        assert (tail["recovered"], tail["updates"], tail["position"][-3:]) == (False, [], ":51")
        pages.position = left_at
        oldest = await pages.next()
        assert (oldest["recovered"], oldest["gap"], numbers(oldest)) == (False, failing["gap"], list(range(42, 52)))
        pages.position = "another:7"
        assert (await pages.next())["gap"]["reason"] == "epoch_changed"
        unknown = await Pages(http, place, "exec-2").next(after="another:7")
        assert (unknown["gap"]["reason"], unknown["position"]) == ("epoch_changed", None)
        assert "gap" not in await Pages(http, place).next(after="latest", on_gap="fail")


async def test_large_updates_come_on_more_pages(open_site: Site, http: httpx2.AsyncClient) -> None:
    for _ in range(12):
        open_site.hub.publish("exec-1", "note", "x" * 200_000)
    pages = Pages(http, open_site)
    got: list[int] = []
    while True:
        page = await pages.next()
        assert len(json.dumps(page)) < 1_100_000
        got += numbers(page)
        if not page["more"]:
            break
    assert got == list(range(1, 14))


async def test_one_update_of_any_size_is_a_page(http: httpx2.AsyncClient) -> None:
    with site(auth={"enabled": False}, limits={"update_bytes": 4_000_000}) as place:
        for _ in range(2):
            place.hub.publish("exec-1", "note", "x" * 2_000_000)
        pages = Pages(http, place)
        assert [numbers(await pages.next()) for _ in range(3)] == [[1], [2], [3]]


# ---------------------------------------------------------------- lists of executions
async def listed(http: httpx2.AsyncClient, place: Site, headers: Any = None, **query: Any) -> list[str]:
    found: list[str] = []
    while True:
        answer = await http.get(f"{place.url}/executions", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["executions"]) <= query.get("limit", 50)
        found += [each["execution_id"] for each in page["executions"]]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def test_a_list_has_what_there_is_page_by_page(open_site: Site, http: httpx2.AsyncClient) -> None:
    assert await listed(http, open_site) == []
    for index in range(23):
        open_site.hub.open(f"run-{index:02}", owner="alice" if index % 2 else None)
    for index in range(5):
        await open_site.hub.close(f"run-{index:02}")
    everything = [f"run-{index:02}" for index in range(23)]
    assert await listed(http, open_site) == everything
    assert await listed(http, open_site, limit=4) == everything
    assert await listed(http, open_site, limit=2, state="completed") == everything[:5]
    assert await listed(http, open_site, state="completed,failed", owner="alice") == ["run-01", "run-03"]
    assert await listed(http, open_site, owner="bob") == []
    for query in ("cursor=x", "state=done", "limit=0", "limit=201", "limit=x", "limit=1.5", "limit=1_0", "states=done"):
        assert await code_of(http.get(f"{open_site.url}/executions?{query}")) == (400, 4000), query


async def test_a_list_looks_at_no_more_than_so_many_at_once(open_site: Site, http: httpx2.AsyncClient) -> None:
    for index in range(1_001):
        open_site.hub.open(f"run-{index:04}", owner="bob" if index == 1_000 else "alice")
    await open_site.hub.close("run-1000")
    first = (await http.get(f"{open_site.url}/executions?state=completed")).json()
    assert first["executions"] == []
    assert first["next_cursor"] is not None
    assert await listed(http, open_site, state="completed") == ["run-1000"]


@pytest.mark.parametrize(
    ("caller", "query", "seen", "most"),
    [
        ({"sub": "bob"}, {}, ["zz/1", "zz/2"], 2),
        ({"sub": "eve"}, {}, [], 0),
        ({"sub": "eve"}, {"owner": "alice"}, [], 0),
        ({"sub": "bob"}, {"owner": "alice"}, [], 0),
        ({"sub": "eve", "globs": ["acme/7*", "zz/1"]}, {}, [f"acme/{n:04}" for n in range(7_000, 7_003)] + ["zz/1"], 4),
        ({"sub": "eve", "globs": ["acme/7*"]}, {"owner": "bob"}, [], 3),
        ({"sub": "bob", "globs": ["zz/*", "zz/1"]}, {"limit": 1}, ["zz/1", "zz/2"], 4),
    ],
)
async def test_a_list_looks_at_nothing_that_its_caller_may_not_read(  # noqa: PLR0917
    http: httpx2.AsyncClient, caller: Any, query: Any, seen: list[str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(auth={"secret": SECRET}) as place:
        for index in [*range(2_000), *range(7_000, 7_003)]:
            place.hub.open(f"acme/{index:04}", owner="alice")
        for name in ("zz/1", "zz/2"):
            place.hub.open(name, owner="bob")
        looks: list[str] = []
        describe = place.hub.describe

        async def counted(execution_id: str) -> Any:
            looks.append(execution_id)
            return await describe(execution_id)

        monkeypatch.setattr(place.hub, "describe", counted)
        globs = caller.get("globs")
        grants = {"lg_streaming": [{"actions": ["read"], "executions": globs}]} if globs else {}
        assert await listed(http, place, bearer(caller["sub"], **grants), **query) == seen
        assert len(looks) <= most


async def test_a_list_has_only_what_the_caller_may_see(http: httpx2.AsyncClient) -> None:
    def authorize(principal: Any, action: str, execution_id: str, owner: str | None) -> bool:
        return execution_id == "public"

    with site(auth={"secret": SECRET}, authorize=authorize) as place:
        for execution_id, owner in {
            "a": "alice",
            "b": "bob",
            "acme/1": "bob",
            "other/1": "bob",
            "public": None,
        }.items():
            place.hub.open(execution_id, owner=owner)
        grant: dict[str, Any] = {"lg_streaming": [{"actions": ["read"], "executions": ["acme/*"]}]}
        assert await listed(http, place, bearer(**grant)) == ["a", "acme/1", "public"]
        assert await listed(http, place, bearer(**grant), limit=1) == ["a", "acme/1", "public"]
        assert await listed(http, place, bearer("eve")) == ["public"]
        assert await code_of(http.get(f"{place.url}/executions")) == (401, 4010)
        # A page may end at an execution that its reader may not learn of: the cursor hides it.
        one, other = [
            (await http.get(f"{place.url}/executions?limit=1", headers=bearer(**grant))).json()["next_cursor"]
            for _ in range(2)
        ]
        assert one != other
        assert await code_of(http.get(f"{place.url}/executions?cursor={one[:-6]}AAAA==", headers=bearer())) == (
            400,
            4000,
        )


async def test_the_progress_of_an_execution(open_site: Site, http: httpx2.AsyncClient) -> None:
    async def progress() -> Any:
        return (await http.get(f"{open_site.url}/executions/exec-1")).json()["progress"]

    open_site.hub.open("exec-1")
    assert await progress() is None
    open_site.hub.publish("exec-1", "progress", {"progress": 40.5})
    assert await progress() == 40.5
    open_site.hub.publish("exec-1", "workflow_progress", {"progress": 10})
    open_site.hub.publish("exec-1", "progress", {"progress": 50})
    assert await progress() == 10
    open_site.hub.publish("exec-1", "workflow_progress", {"progress": "much"})
    assert await progress() is None
    await open_site.hub.close("exec-1")
    open_site.hub.open("exec-1")
    assert await progress() is None
    assert (await http.get(f"{open_site.url}/executions")).json()["executions"][0]["progress"] is None


# ---------------------------------------------------------------- control
@pytest.mark.row("FLOW-46")
async def test_answering_a_prompt(open_site: Site, http: httpx2.AsyncClient) -> None:
    url = f"{open_site.url}/executions/exec-1/responses"
    ask(open_site)
    answer = await http.post(url, json={"promptId": "p1", "response": {"ok": [1, None]}})
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "execution_id": "exec-1", "prompt_id": "p1"})
    updates = (await Pages(http, open_site).next())["updates"]
    assert (updates[-1]["type"], updates[-1]["data"]) == (
        "human_response",
        {"prompt_id": "p1", "response": {"ok": [1, None]}},
    )
    assert await code_of(http.post(url, json={"prompt_id": "p1", "response": "no"})) == (409, 4090)
    assert await code_of(http.post(url, json={"prompt_id": "p2", "response": "no"})) == (409, 4090)
    nothing = f"{open_site.url}/executions/nothing/responses"
    assert await code_of(http.post(nothing, json={"prompt_id": "p1", "response": "no"})) == (409, 4090)


async def test_cancelling(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.open("exec-1")
    url = f"{open_site.url}/executions/exec-1"
    answer = await http.delete(url, params={"reason": "enough"})
    assert (answer.status_code, answer.json()) == (202, {"ok": True, "execution_id": "exec-1", "cancelled": True})
    page = await Pages(http, open_site).next()
    assert (page["state"], page["updates"][-1]["data"]) == ("cancelled", {"reason": "enough"})
    assert (await http.delete(url)).json()["cancelled"] is False
    assert (await http.delete(f"{open_site.url}/executions/nothing")).json()["cancelled"] is False
    assert await code_of(http.delete(url, params={"reason": "x" * 1_001})) == (400, 4000)


async def test_who_may_control(http: httpx2.AsyncClient) -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("exec-1", owner="alice")
        ask(place)
        url = f"{place.url}/executions/exec-1"
        body = {"prompt_id": "p1", "response": "yes"}
        reader = bearer("bob", lg_streaming=[{"actions": ["read"], "executions": ["*"]}])
        controller = bearer("bob", lg_streaming=[{"actions": ["control"], "executions": ["*"]}])
        assert (await http.get(f"{url}/updates", headers=reader)).status_code == 200
        assert await code_of(http.delete(url, headers=reader)) == (403, 4030)
        assert await code_of(http.post(f"{url}/responses", headers=reader, json=body)) == (403, 4030)
        assert await code_of(http.delete(f"{place.url}/executions/nothing", headers=bearer())) == (403, 4030)
        assert (await http.post(f"{url}/responses", headers=controller, json=body)).status_code == 200
        assert (await http.delete(url, headers=bearer("alice"))).status_code == 202


async def test_control_over_socketio_and_strikes(open_site: Site) -> None:
    async with raw_client(open_site) as client:
        ask(open_site)
        wanted = {"execution_id": "exec-1", "prompt_id": "p1", "response": 7}
        assert await client.ask("respond", wanted) == {"ok": True, "execution_id": "exec-1", "prompt_id": "p1"}
        for _ in range(4):  # two people may answer at once: no strike, though it is no
            assert (await client.ask("respond", wanted))["error"]["code"] == 4090
        cancelled = await client.ask("cancel_execution", {"execution_id": "exec-1", "reason": "enough"})
        assert cancelled == {"ok": True, "execution_id": "exec-1", "cancelled": True}
        assert (await client.ask("cancel_execution", {"execution_id": "exec-1"}))["cancelled"] is False
        refused = await client.ask("respond", {"execution_id": "exec-1", "prompt_id": ""})
        assert "prompt_id" in refused["error"]["message"]
        assert "response" in refused["error"]["message"]


# ---------------------------------------------------------------- bodies
async def test_bodies_are_json_of_a_bounded_size(open_site: Site, http: httpx2.AsyncClient) -> None:
    url = f"{open_site.url}/executions/exec-1/responses"
    right = json.dumps({"prompt_id": "p1", "response": 1})

    async def post(content: Any, content_type: str = "application/json") -> tuple[int, int]:
        return await code_of(http.post(url, content=content, headers={"Content-Type": content_type}))

    assert await post(right, "application/json; charset=utf-8") == (409, 4090)
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert await post(right, content_type) == (400, 4000)
    for content in ("", "{", "[]", "7", "null", b"\xff", '{"prompt_id": "p1"}', right[:-1] + ', "extra": 1}', "NaN"):
        assert await post(content) == (400, 4000), content
    nested = '{"prompt_id": "p1", "response": ' + "[" * 32 + "]" * 32 + "}"
    assert await post(nested) == (400, 4000)
    assert await post(b'"' + b"x" * 65_600 + b'"') == (413, 4130)

    assert await post(b'"' + b"x" * 1_000_000 + b'"') == (413, 4130)


async def test_who_sends_without_an_end_is_hung_up_on(open_site: Site) -> None:
    host = f"localhost:{open_site.server.port}"
    head = f"POST /executions/exec-1/responses HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    for framing in ("Transfer-Encoding: chunked", "Content-Length: 99999999999999999999999"):
        reader, writer = await asyncio.open_connection(open_site.server.host, open_site.server.port)
        writer.write(f"{head}{framing}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()


# ---------------------------------------------------------------- every route
ROUTES = {
    "/health": "GET",
    "/health/live": "GET",
    "/health/ready": "GET",
    "/graphs": "GET",
    "/executions": "GET, POST",
    "/executions/exec-1": "GET, DELETE",
    "/executions/exec-1/updates": "GET",
    "/executions/exec-1/stream": "GET",
    "/executions/exec-1/responses": "POST",
    "/executions/exec-1/pause": "POST",
    "/executions/exec-1/resume": "POST",
    "/executions/exec-1/inputs": "POST",
    "/tickets": "POST",
}


@pytest.mark.row("CFLOW-04")
@pytest.mark.parametrize("path", ROUTES)
async def test_each_route_says_which_methods_it_has(http: httpx2.AsyncClient, path: str) -> None:
    with site(auth={"enabled": False}, gateway={"cors_origins": (APP,)}) as place:
        allowed = {*ROUTES[path].split(", "), "OPTIONS", *(["HEAD"] if "GET" in ROUTES[path] else [])}
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            if method not in allowed:
                refused = await http.request(method, f"{place.url}{path}", headers={"Origin": APP})
                assert (refused.status_code, refused.json()["error"]["code"]) == (405, 4050)
                assert set(refused.headers["allow"].split(", ")) == allowed
                assert refused.headers["access-control-allow-origin"] == APP
        asked = await http.options(f"{place.url}{path}", headers={"Origin": APP})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, APP)
        assert set(asked.headers["access-control-allow-methods"].split(", ")) == allowed
        assert "Content-Type" in asked.headers["access-control-allow-headers"]
        assert (await http.options(f"{place.url}{path}")).status_code == 204
        assert (await http.options(f"{place.url}{path}", headers={"Origin": EVIL})).status_code == 403
        if "GET" in allowed:
            assert (await http.head(f"{place.url}{path}")).status_code in {200, 403}


async def test_what_is_no_route_stays_the_apps(open_site: Site, http: httpx2.AsyncClient) -> None:
    for path in ("/", "/tickets/1", "/health/other", "/execution"):
        assert (await http.get(f"{open_site.url}{path}")).json() == {"detail": "Not Found"}


async def test_all_routes_are_under_the_prefix(http: httpx2.AsyncClient) -> None:
    with site(auth={"enabled": False}, gateway={"prefix": "/live"}) as place:
        place.hub.open("exec-1")
        await place.hub.close("exec-1")
        for path in ("/health", "/executions", "/executions/exec-1", "/executions/exec-1/updates"):
            assert (await http.get(f"{place.url}/live{path}")).status_code == 200
            assert (await http.get(f"{place.url}{path}")).status_code == 404
        assert "workflow_complete" in (await http.get(f"{place.url}/live/executions/exec-1/stream")).text


async def test_an_id_may_end_like_a_route(open_site: Site, http: httpx2.AsyncClient) -> None:
    for last in ("stream", "updates", "responses"):
        execution_id = f"acme/{last}"
        ask(open_site, execution_id)
        encoded = f"{open_site.url}/executions/acme%2F{last}"
        assert (await http.get(encoded)).json()["execution_id"] == execution_id
        for url in (f"{encoded}/updates", f"{open_site.url}/executions/{execution_id}/updates"):
            assert (await http.get(url)).json()["execution_id"] == execution_id
        answered = await http.post(f"{encoded}/responses", json={"prompt_id": "p1", "response": 1})
        assert answered.json()["execution_id"] == execution_id
        assert (await http.delete(encoded)).json() == {"ok": True, "execution_id": execution_id, "cancelled": True}
        stream = await http.get(f"{open_site.url}/executions/{execution_id}/stream")
        assert f'"execution_id":"{execution_id}"' in stream.text


HOSTILE_IDS = ["", "a%20b", "a%00b", "a%0Ab", "a%0D%0Aevent:%20x", "%FF", "%E2%80%AE", "x" * 257, "x" * 1024]
HARMLESS_IDS = ["..%2F..%2Fetc%2Fpasswd", "*", "**", "%252e", "%27%3B--", "%7B%7B7%7D%7D"]


@pytest.mark.parametrize(("method", "last"), [("GET", "/updates"), ("GET", ""), ("DELETE", ""), ("POST", "/responses")])
async def test_hostile_ids(open_site: Site, method: str, last: str) -> None:
    for hostile in HOSTILE_IDS:
        status, body = await raw_request(open_site, method, f"/executions/{hostile}{last}")
        assert (status, body["error"]["code"]) == (400, 4000), hostile
    for harmless in HARMLESS_IDS:
        status, _ = await raw_request(open_site, method, f"/executions/{harmless}{last}")
        assert status in {200, 202, 403, 409}, harmless


async def raw_request(place: Site, method: str, path: str) -> tuple[int, Any]:
    """The path as it is, which no client library leaves it."""
    body = '{"prompt_id": "p1", "response": 1}' if method == "POST" else ""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: localhost:{place.server.port}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "",
        body,
    ]
    reader, writer = await asyncio.open_connection(place.server.host, place.server.port)
    writer.write("\r\n".join(lines).encode())
    head, _, answer = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(answer)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=many",
        "limit=1.5",
        "wait=26",
        "wait=-1",
        "wait=nan",
        "wait=inf",
        "after=x",
        "follow=perhaps",
        "on_gap=skip",
        "batch=true",
        "merge=true",
        "ticket=x",
        "token=x",
        "nodes=write",
        "limit=1e999",
    ],
)
async def test_bad_queries(open_site: Site, http: httpx2.AsyncClient, query: str) -> None:
    status, code = await code_of(http.get(f"{open_site.url}/executions/exec-1/updates?{query}"))
    assert status == 400
    assert code in {4000, 4001}


# ---------------------------------------------------------------- callers
async def test_requests_of_one_caller_are_limited(http: httpx2.AsyncClient) -> None:
    with site(auth={"secret": SECRET}, limits={"messages_per_second": 0.01, "message_burst": 3}) as place:
        url = f"{place.url}/executions"
        answers = [await http.get(url, headers=bearer()) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].json()["error"]["code"] == 4293
        assert int(answers[-1].headers["retry-after"]) > 1
        assert (await http.get(url, headers=bearer("bob"))).status_code == 200


async def test_failed_logins_count(http: httpx2.AsyncClient) -> None:
    with site(auth={"secret": SECRET}, limits={"failed_logins_per_address": "3/minute"}) as place:
        wrong = {"Authorization": "Bearer a.b.c"}
        codes = [await code_of(http.get(f"{place.url}/executions", headers=wrong)) for _ in range(4)]
        assert codes == [(401, 4010)] * 3 + [(429, 4292)]
        assert await code_of(http.get(f"{place.url}/executions", headers=bearer())) == (429, 4292)


async def test_cookies_change_something_only_from_our_own_pages(http: httpx2.AsyncClient) -> None:
    settings: dict[str, Any] = {"auth": {"secret": SECRET}, "gateway": {"cors_origins": (APP, "*")}}
    with site(**settings) as place:
        url = f"{place.url}/executions/exec-1"
        cookie = {"Cookie": f"lg_streaming_token={token()}"}

        async def delete(**headers: str) -> int:
            place.hub.open("exec-1", owner="alice")
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await http.delete(url, headers={**cookie, **sent})
            assert place.hub.registry.is_running("exec-1") == (answer.status_code != 202)
            return answer.status_code

        assert await delete() == 202
        assert await delete(Origin=APP) == 202
        assert await delete(Origin=place.url, Sec_Fetch_Site="same-origin") == 202
        assert await delete(Origin=EVIL) == 401  # let in by `*`, but its cookie does not count
        assert await delete(Sec_Fetch_Site="cross-site") == 403
        assert await delete(Sec_Fetch_Site="same-site") == 403
        assert (await http.get(url, headers={**cookie, "Sec-Fetch-Site": "cross-site"})).status_code == 403
        listed = {"Sec-Fetch-Site": "cross-site", "Referer": f"{APP}/page"}
        assert (await http.get(url, headers={**cookie, **listed})).status_code == 200


async def test_another_sites_page_is_refused_also_without_authentication(
    open_site: Site, http: httpx2.AsyncClient
) -> None:
    for headers in ({"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert await code_of(http.delete(f"{open_site.url}/executions/exec-1", headers=headers)) == (403, 4031)


# ---------------------------------------------------------------- health
async def test_live_and_ready(open_site: Site, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def health(path: str) -> tuple[int, str]:
        answer = await http.get(f"{open_site.url}{path}", headers={"X-Forwarded-For": "203.0.113.1"})
        assert answer.json().keys() == {"status", "protocol"}
        return answer.status_code, answer.json()["status"]

    for path in ("/health", "/health/live", "/health/ready"):
        assert await health(path) == (200, "ok")

    async def away(execution_id: str) -> NoReturn:
        raise LogUnavailableError

    async def hangs(execution_id: str) -> None:
        await asyncio.sleep(60)

    for broken in (away, hangs):
        monkeypatch.setattr(open_site.hub.log, "state", broken)
        assert await health("/health/ready") == (503, "log_unavailable")
        assert await health("/health/live") == (200, "ok")
    monkeypatch.undo()
    lifecycle = open_site.gateway._lifecycle  # pyright: ignore[reportPrivateUsage]
    lifecycle.draining = True
    assert await health("/health") == await health("/health/ready") == (503, "draining")
    assert await health("/health/live") == (200, "ok")
    assert await code_of(http.get(f"{open_site.url}/executions")) == (503, 4500)
    lifecycle.draining = False


async def test_a_log_that_is_away_and_a_server_that_fails(
    open_site: Site, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(execution_id: str) -> NoReturn:
        raise LogUnavailableError

    async def broken(execution_id: str) -> NoReturn:
        raise RuntimeError("a secret")

    url = f"{open_site.url}/executions/exec-1/updates"
    monkeypatch.setattr(open_site.hub.log, "state", away)
    assert await code_of(http.get(url)) == (503, 5030)
    monkeypatch.setattr(open_site.hub.log, "state", broken)
    answer = await http.get(url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, 5000)
    assert "secret" not in answer.text
    assert "a secret" in caplog.text
    caplog.clear()
