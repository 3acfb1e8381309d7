"""Bad requests of any kind get a 4xx with a `detail`, and leave no traceback in the log."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.wires.langgraph.python_checks import Place, human

pytestmark = pytest.mark.anyio

KINDS: dict[str, list[Any]] = {
    "text": ["", "x"],
    "number": [0, -1, 1.5, 10**30],
    "bool": [True],
    "list": [[], [1], ["x"], [None], [{}]],
    "object": [{}, {"x": 1}],
}
"""Values of each kind. Null is absent, everywhere."""

ENUMS = ("on_disconnect", "multitask_strategy", "durability", "if_not_exists", "on_completion")
RUN: dict[str, str] = {
    "assistant_id": "text",
    "input": "object",
    "command": "object",
    "config": "object",
    "context": "object",
    "metadata": "object",
    "stream_mode": "text list",
    "stream_subgraphs": "bool",
    "stream_resumable": "bool",
    "checkpoint": "object",
    "checkpoint_id": "text",
    "interrupt_before": "text list",
    "interrupt_after": "text list",
    **dict.fromkeys(ENUMS, "text"),
}
IGNORED = ("feedback_keys", "langsmith_tracer", "strict_resume", "no_such_field")
PARTS = ("config.configurable", "command.resume", "command.goto", "webhook", "after_seconds")
THREAD = {"thread_id": "text", "metadata": "object", "if_exists": "text"}
SEARCH = {
    "metadata": "object",
    "values": "object",
    "ids": "list",
    "status": "text",
    "limit": "number",
    "offset": "number",
    "sort_by": "text",
    "sort_order": "text",
    "select": "list",
}
HISTORY = {"limit": "number", "before": "text object", "metadata": "object", "checkpoint": "object"}
STATE = {"values": "object list", "as_node": "text", "checkpoint": "object", "checkpoint_id": "text"}
ASSISTANTS = {"graph_id": "text", "name": "text", "metadata": "object", "limit": "number", "offset": "number"}

POSTS: dict[str, dict[str, str]] = {
    "/threads/{t}/runs": RUN,
    "/threads": THREAD,
    "/threads/search": SEARCH,
    "/threads/count": {key: SEARCH[key] for key in ("metadata", "values", "status")},
    "/threads/{t}/history": HISTORY,
    "/threads/{t}/state": STATE,
    "/threads/{t}/state/checkpoint": {"checkpoint": "object", "subgraphs": "bool"},
    "/assistants/search": ASSISTANTS,
    "/runs/cancel": {"thread_id": "text", "run_ids": "list", "status": "text"},
}
"""Fields by path, with the kinds that each takes."""

BODIES = [
    b"",
    b"nope",
    b"[]",
    b"1",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"assistant_id": "\\ud800"}',
    b"{" * 5_000,
    b"[" * 100_000,
    b'{"a": ' * 2_000 + b"1" + b"}" * 2_000,
]


def wrong(kinds: str) -> Iterator[Any]:
    """Values of no allowed kind."""
    for kind, values in KINDS.items():
        if kind not in kinds.split():
            yield from values


@pytest.fixture
async def http(place: Place) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=place.url, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
async def thread(http: httpx2.AsyncClient) -> str:
    """A thread with a run that has ended."""
    made = (await http.post("/threads", json={})).json()["thread_id"]
    await http.post(f"/threads/{made}/runs/wait", json={"assistant_id": "agent", "input": human("say x")})
    return made


def why_not_refused(response: httpx2.Response) -> str | None:
    """The fault of an answer to a bad request; None if it is a refusal in the wire's form."""
    if not 400 <= response.status_code < 500:
        return f"{response.status_code} {response.text[:200]}"
    try:
        detail: Any = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} without detail: {response.text[:200]}"
    return None if isinstance(detail, str) and detail else f"no text: {detail!r}"


@pytest.mark.parametrize("path", POSTS)
async def test_fields_of_a_wrong_kind_are_refused(path: str, http: httpx2.AsyncClient, thread: str) -> None:
    fields = POSTS[path]
    valid = {"assistant_id": "agent", "input": human("say x")} if fields is RUN else {}
    found: list[str] = []
    for name, kinds in fields.items():
        for value in wrong(kinds):
            response = await http.post(path.format(t=thread), json={**valid, name: value})
            if problem := why_not_refused(response):
                found.append(f"{name}={value!r}: {problem}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [*RUN, *PARTS, "ignored"])
async def test_no_value_of_a_run_is_a_server_error(name: str, http: httpx2.AsyncClient, thread: str) -> None:
    outer, _, inner = name.partition(".")
    values: list[Any] = [
        None,
        *(each for values in KINDS.values() for each in values),
        "\x00",
        "💥" * 1000,
        {"a": {"b": [None]}},
    ]
    for value in values:
        fields: dict[str, Any] = (
            dict.fromkeys(IGNORED, value) if name == "ignored" else {outer: {inner: value} if inner else value}
        )
        body = {"assistant_id": "agent", "input": human("say x"), **fields}
        response = await http.post(f"/threads/{thread}/runs/wait", json=body)
        assert response.status_code < 500, f"{name}={value!r}: {response.status_code} {response.text[:300]}"
        if response.status_code >= 400:
            assert why_not_refused(response) is None
        assert name != "ignored" or response.status_code == 200


@pytest.mark.parametrize("name", ENUMS)
async def test_an_unknown_choice_is_refused(name: str, http: httpx2.AsyncClient, thread: str) -> None:
    body = {"assistant_id": "agent", "input": human("say x"), name: "no-such-choice"}
    assert why_not_refused(await http.post(f"/threads/{thread}/runs", json=body)) is None


@pytest.mark.parametrize("path", [*POSTS, "/runs/stream", "/threads/{t}/runs/stream", "/threads/{t}/runs/wait"])
async def test_bodies_that_are_no_object_are_refused(path: str, http: httpx2.AsyncClient, thread: str) -> None:
    headers = {"Content-Type": "application/json"}
    for body in BODIES:
        response = await http.post(path.format(t=thread), content=body, headers=headers)
        if body == b"" and path.endswith(("/threads", "/search", "/count", "/history")) and response.status_code == 200:
            continue
        if b"NaN" in body and response.status_code == 200:
            continue
        assert why_not_refused(response) is None, (body[:20], why_not_refused(response))


async def test_a_body_that_is_too_large_is_refused(http: httpx2.AsyncClient, thread: str) -> None:
    body = {"assistant_id": "agent", "input": human("say " + "x" * 9_000_000)}
    response = await http.post(f"/threads/{thread}/runs", json=body)
    assert response.status_code == 413
    assert why_not_refused(response) is None


async def test_unknown_ids_and_paths_are_not_found(http: httpx2.AsyncClient, thread: str) -> None:
    unknown = str(uuid4())
    ids = [unknown, "x" * 5_000, "a%2Fb", "%00", "%F0%9F%92%A5", "%ff", "graph:agent", "room:x", "%2e%2e"]
    tails = {
        "GET": [
            "",
            "/state",
            "/runs",
            f"/runs/{unknown}",
            f"/runs/{unknown}/stream",
            f"/runs/{unknown}/join",
            "/stream",
        ],
        "POST": ["/history", "/state", f"/runs/{unknown}/cancel", "/runs", "/runs/stream", "/runs/wait"],
        "PATCH": [""],
        "DELETE": ["", f"/runs/{unknown}"],
    }
    bodies: dict[str, Any] = {
        "/runs": {"assistant_id": "agent", "input": human("say x")},
        "/state": {"values": {"note": "x"}},
    }
    bodies |= {f"/runs/{kind}": bodies["/runs"] for kind in ("stream", "wait")}
    for id_ in [*ids, thread]:
        for method, paths in tails.items():
            for tail in paths:
                if id_ == thread and unknown not in tail:
                    continue
                body = {} if method == "GET" else {"json": bodies.get(tail, {})}
                response = await http.request(method, f"/threads/{id_}{tail}", **body)
                assert why_not_refused(response) is None, (method, id_[:20], tail, why_not_refused(response))
                if id_ in (unknown, thread):
                    assert response.status_code == 404, (method, tail)
    for path in ("/assistants/" + unknown, "/assistants/nope", "/threads/a/b/c/d", "/runs"):
        assert why_not_refused(await http.get(path)) is None, path


async def test_queries_and_positions_that_make_no_sense(http: httpx2.AsyncClient, thread: str) -> None:
    run = (await http.get(f"/threads/{thread}/runs")).json()[0]["run_id"]
    for query in (
        "limit=x",
        "limit=-1",
        "offset=-1",
        "offset=x",
        "limit=1e9",
        "status=nope",
        "limit=99999999999999999999",
        f"limit={'9' * 5_000}",
        "limit=5&offset=1500",
    ):
        for list_ in ("runs", "history"):
            response = await http.get(f"/threads/{thread}/{list_}?{query}")
            assert response.status_code < 500
            assert response.status_code == 200 or why_not_refused(response) is None
    assert why_not_refused(await http.post(f"/threads/{thread}/runs/{run}/cancel?action=explode")) is None
    assert why_not_refused(await http.post(f"/threads/{thread}/runs/{run}/cancel?wait=maybe")) is None
    assert why_not_refused(await http.get(f"/threads/{thread}/runs/{run}/stream?stream_mode=nope")) is None
    # An empty mode is an absent one.
    assert (await http.get(f"/threads/{thread}/runs/{run}/stream?stream_mode=&cancel_on_disconnect=false")).text == ""
    for position in (
        "nope",
        "0",
        "-2",
        "1:2:3",
        "x" * 4_000,
        "99999999999999999999",
        "é".encode().decode("latin1"),
    ):
        headers = {"Last-Event-ID": position.encode("latin1")}
        response = await http.get(f"/threads/{thread}/runs/{run}/stream", headers=headers)  # pyright: ignore[reportArgumentType]
        assert response.status_code < 500, position
        assert "Traceback" not in response.text
        if response.status_code >= 400:
            assert why_not_refused(response) is None
