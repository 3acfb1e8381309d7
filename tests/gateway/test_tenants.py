"""Tenants: every verb over every transport, for the owner, those with rights, and those without.

A caller does not start, see, answer, steer or cancel what is not theirs. An execution of another and one that does not
exist give the same answer, with the same calls of the log.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lg_streaming.gateway import Principal
from lg_streaming.log.memory import MemoryLog
from lg_streaming.publisher import RunOutcome
from tests.gateway.contract.adapters import RefusedError, SocketReader
from tests.gateway.starts import StartSite, bearer, may_start, rest, socket_of, start_site

LET_IN = frozenset({4090, 4092})
"""Codes of callers who may, at the wrong time: no such prompt is open, or a run is."""
Rights = dict[str, int | None]

EVERYTHING = {"actions": ["read", "control", "start"], "executions": ["**"], "graphs": ["**"]}
CALLERS: dict[str, str | None] = {
    "owner": bearer("alice", may_start("**")),
    "granted": bearer("carol", EVERYTHING),
    "authorized": bearer("auditor"),
    "stranger": bearer("dave", may_start("**")),
    "expired": bearer("alice", EVERYTHING, lifetime=-60),
    "no token": None,
}
OPEN_TO: Rights = {
    "owner": None,
    "granted": None,
    "authorized": None,
    "stranger": 4030,
    "expired": 4011,
    "no token": 4010,
}
ONLY_OWNER: Rights = {**OPEN_TO, "granted": 4030, "authorized": 4030}

Verb = Callable[[StartSite, str, str | None, str], Awaitable[object]]
"""`verb(site, transport, token, execution_id)` raises RefusedError."""


class CountingLog(MemoryLog):
    """A log that notes the calls of readers."""

    calls: list[str]
    _COUNTED = frozenset({"state", "read", "list_ids", "list_newest", "executions", "watch", "append"})

    def __getattribute__(self, name: str) -> Any:
        if name in CountingLog._COUNTED:
            self.calls.append(name)
        return super().__getattribute__(name)


@pytest.fixture(scope="module")
def place() -> Generator[StartSite]:
    log = CountingLog()
    log.calls = []

    def authorize(principal: Principal, *_: object) -> bool:
        return principal.subject == "auditor"

    with start_site(event_log=log, authorize=authorize) as site:
        yield site


@asynccontextmanager
async def execution(place: StartSite, execution_id: str, owner: str = "alice") -> AsyncGenerator[str]:
    hub = place.streaming.hub
    hub.open(execution_id, owner=owner)
    hub.publish(execution_id, "custom", {"secret": 1})
    try:
        yield execution_id
    finally:
        hub.runs.end_run(execution_id, RunOutcome("workflow_complete", {}))


# ---------------------------------------------------------------- verbs
def message(name: str, method: str, path: str, **fields: Any) -> Verb:
    """A verb that is a message of sockets, and a request over HTTP."""

    async def send(place: StartSite, transport: str, token: str | None, execution_id: str) -> object:
        if transport == "rest":
            async with rest(place, token) as caller:
                body = {"json": fields} if fields else {}
                return await caller.request(method, f"/executions/{execution_id}{path}", **body)
        async with socket_of(place, transport, token) as reader:
            return await reader.ask(name, {"execution_id": execution_id, **fields})

    return send


def get(path: str) -> Verb:
    async def send(place: StartSite, _: str, token: str | None, execution_id: str) -> object:
        async with rest(place, token) as caller:
            return await caller.request("GET", f"/executions/{execution_id}{path}")

    return send


def start(field: str) -> Verb:
    async def send(place: StartSite, transport: str, token: str | None, execution_id: str) -> object:
        payload: dict[str, Any] = {"graph": "shout", "input": {}, field: execution_id}
        if transport == "rest":
            async with rest(place, token) as caller:
                return await caller.request("POST", "/executions", json=payload)
        async with socket_of(place, transport, token) as reader:
            return await reader.ask("start_execution", payload)

    return send


async def in_the_list(place: StartSite, _: str, token: str | None, execution_id: str) -> None:
    async with rest(place, token) as caller:
        page = await caller.request("GET", "/executions?limit=200")
    if execution_id not in [each["execution_id"] for each in page["executions"]]:
        raise RefusedError({"code": 4030, "message": "not in the list"})


async def stream(place: StartSite, token: str | None, execution_id: str, query: str = "") -> None:
    async with (
        rest(place, token) as caller,
        caller.http.stream("GET", f"/executions/{execution_id}/stream{query}") as got,
    ):
        if got.status_code != 200:
            await got.aread()
            raise RefusedError(got.json()["error"], got.status_code)


async def subscribe(place: StartSite, transport: str, token: str | None, execution_id: str) -> None:
    if transport == "sse":
        await stream(place, token, execution_id)
        return
    async with socket_of(place, transport, token) as reader:
        await reader.subscribe(execution_id)


async def by_ticket(place: StartSite, _: str, token: str | None, execution_id: str) -> None:
    """A ticket gives no more than its holder has."""
    async with rest(place, token) as caller:
        ticket = await caller.request("POST", "/tickets", json={"execution_id": execution_id})
    await stream(place, None, execution_id, f"?ticket={ticket['ticket']}")


async def join(place: StartSite, transport: str, token: str | None, execution_id: str) -> None:
    async with socket_of(place, transport, token) as reader:
        await reader.ask("join_room", {"room_id": execution_id.removeprefix("room:")})


async def observe(place: StartSite, transport: str, token: str | None, execution_id: str) -> None:
    """Watch everything; the update of an own execution comes after the one of this execution."""
    async with socket_of(place, transport, token) as reader:
        await reader.ask("subscribe_events", {})
        await _expect(place, reader, execution_id)


_ROUNDS = 5
"""Updates of an own execution that arrive after one of another, which then has not arrived."""


async def _until_update_of(reader: SocketReader, execution_id: str) -> set[str]:
    seen: set[str] = set()
    while execution_id not in seen:
        async with asyncio.timeout(5):
            item = await reader.next()
        if item.what == "update":
            seen.add(item.payload["metadata"]["execution_id"])
    return seen


async def _expect(place: StartSite, reader: SocketReader, execution_id: str) -> None:
    subject = {token: name for name, token in CALLERS.items()}[reader.token]
    owner = {"owner": "alice", "granted": "carol", "authorized": "auditor", "stranger": "dave"}[subject]
    seen: set[str] = set()
    async with execution(place, f"own-{execution_id}", owner) as own:
        for _ in range(_ROUNDS):
            for each in (execution_id, own):
                place.streaming.hub.publish(each, "custom", {})
            seen |= await _until_update_of(reader, own)
            if execution_id in seen:
                break
    if execution_id not in seen:
        raise RefusedError({"code": 4030, "message": "not seen"})


ALL = ("rest", "socketio", "websocket")
VERBS: dict[str, tuple[Verb, tuple[str, ...], Rights]] = {
    "start in it": (start("execution_id"), ALL, ONLY_OWNER),
    "start with its thread": (start("thread_id"), ALL, ONLY_OWNER),
    "subscribe": (subscribe, ("sse", "socketio", "websocket"), OPEN_TO),
    "get": (get(""), ("rest",), OPEN_TO),
    "updates": (get("/updates"), ("rest",), OPEN_TO),
    "list": (in_the_list, ("rest",), OPEN_TO),
    "ticket": (by_ticket, ("sse",), OPEN_TO),
    "join": (join, ("socketio", "websocket"), OPEN_TO),
    "respond": (message("respond", "POST", "/responses", prompt_id="p", response=1), ALL, OPEN_TO),
    "cancel": (message("cancel_execution", "DELETE", ""), ALL, OPEN_TO),
    "pause": (message("pause_execution", "POST", "/pause"), ALL, OPEN_TO),
    "resume": (message("resume_execution", "POST", "/resume"), ALL, OPEN_TO),
    "inject": (message("inject_input", "POST", "/inputs", input={}), ALL, OPEN_TO),
}
CASES = [(verb, transport) for verb, (_, transports, _) in VERBS.items() for transport in transports]


async def outcome(verb: Verb, place: StartSite, transport: str, token: str | None, execution_id: str) -> int | None:
    """Return the code of the refusal; None if the caller was let in."""
    try:
        await verb(place, transport, token, execution_id)
    except RefusedError as refused:
        return None if refused.code in LET_IN else refused.code
    return None


@pytest.mark.row("CFLOW-D4")
@pytest.mark.parametrize(("name", "transport"), CASES)
async def test_who_may(place: StartSite, name: str, transport: str) -> None:
    verb, _, rights = VERBS[name]
    prefix = "room:" if name == "join" else ""
    found: Rights = {}
    for caller, token in CALLERS.items():
        execution_id = f"{prefix}{name}-{transport}-{caller}".replace(" ", "-")
        async with execution(place, execution_id):
            found[caller] = await outcome(verb, place, transport, token, execution_id)
    assert found == rights


@pytest.mark.parametrize("transport", ["socketio", "websocket"])
@pytest.mark.parametrize(("caller", "sees"), [(each, OPEN_TO[each] is None) for each in list(CALLERS)[:4]])
async def test_who_observes(place: StartSite, transport: str, caller: str, sees: bool) -> None:
    async with execution(place, f"observed-{transport}-{caller}") as watched:
        code = await outcome(observe, place, transport, CALLERS[caller], watched)
    assert (code is None) is sees


@pytest.mark.parametrize("transport", ALL)
@pytest.mark.parametrize("graph", ["shout", "unknown"])
async def test_who_may_start_a_graph(place: StartSite, transport: str, graph: str) -> None:
    callers = {**CALLERS, "no right": bearer("dave", {"actions": ["read", "control"], "executions": ["**"]})}
    callers["another graph"] = bearer("dave", may_start("other", executions=("**",)))
    found: Rights = {}
    for caller, token in callers.items():

        async def begin(place: StartSite, transport: str, token: str | None, _: str) -> object:
            payload: dict[str, Any] = {"graph": graph, "input": {}}
            if transport == "rest":
                async with rest(place, token) as client:
                    return await client.request("POST", "/executions", json=payload)
            async with socket_of(place, transport, token) as reader:
                return await reader.ask("start_execution", payload)

        found[caller] = await outcome(begin, place, transport, token, "")
    none = 4030 if graph == "unknown" else None
    assert found == {
        "owner": none,
        "granted": none,
        "authorized": none,
        "stranger": none,
        "expired": 4011,
        "no token": 4010,
        "no right": 4030,
        "another graph": 4030,
    }


async def test_a_forbidden_graph_and_an_unknown_one_give_the_same_answer(place: StartSite) -> None:
    errors: list[dict[str, Any]] = []
    place.calls.clear()
    async with rest(place, bearer("dave", may_start("other"))) as dave:
        for graph in ("shout", "unknown", "other"):
            with pytest.raises(RefusedError) as refused:
                await dave.start(graph, {"wrong": 1})
            errors.append(refused.value.error)
    assert errors[0] == errors[1] == errors[2]
    assert [call[2] for call in place.calls] == ["graph:shout", "graph:unknown"]


@pytest.mark.parametrize(("name", "transport"), [each for each in CASES if each[0] != "list"])
async def test_a_foreign_execution_and_an_unknown_one_give_the_same_answer(
    place: StartSite, name: str, transport: str
) -> None:
    verb = VERBS[name][0]
    log: Any = place.streaming.hub.log
    prefix = "room:" if name == "join" else ""
    seen: list[tuple[dict[str, Any], list[str], int]] = []
    async with execution(place, f"{prefix}foreign") as foreign:
        for execution_id in (foreign, f"{prefix}unknown"):
            log.calls.clear()
            place.calls.clear()
            with pytest.raises(RefusedError) as refused:
                await verb(place, transport, CALLERS["stranger"], execution_id)
            error = {key: value for key, value in refused.value.error.items() if key != "execution_id"}
            seen.append((error, list(log.calls), len(place.calls)))
    assert seen[0] == seen[1]
    assert seen[0][0]["code"] == 4030
    assert seen[0][1]


# ---------------------------------------------------------------- names that a caller chooses
async def test_a_name_is_chosen_only_within_a_grant(place: StartSite) -> None:
    grant = may_start("shout", executions=("dave/*",))
    async with rest(place, bearer("dave", grant)) as dave:
        assert (await dave.start("shout", {}, execution_id="dave/1"))["execution_id"] == "dave/1"
        assert (await dave.start("shout", {}, thread_id="dave/2"))["thread_id"] == "dave/2"
        for field in ("execution_id", "thread_id"):
            with pytest.raises(RefusedError) as refused:
                await dave.start("shout", {}, **{field: "other/1"})
            assert refused.value.code == 4030
    async with execution(place, "dave/3") as owned, rest(place, bearer("dave", grant)) as dave:
        for names in ({"execution_id": owned}, {"execution_id": "dave/4", "thread_id": owned}):
            with pytest.raises(RefusedError) as refused:
                await dave.start("shout", {}, **names)  # within the grant, but alice's
            assert refused.value.code == 4030


async def test_an_execution_without_an_owner_is_not_taken_over(place: StartSite) -> None:
    """Its new owner could read what happened in it before."""
    hub = place.streaming.hub
    hub.open("dave/nobodys")
    hub.runs.end_run("dave/nobodys", RunOutcome("workflow_complete", {}))
    grant = may_start("shout", executions=("dave/*",))
    async with rest(place, bearer("dave", grant)) as dave:
        with pytest.raises(RefusedError) as refused:
            await dave.start("shout", {}, execution_id="dave/nobodys")
        assert refused.value.code == 4030
    control = {"actions": ["control"], "executions": ["dave/*"]}
    async with rest(place, bearer("dave", grant, control)) as dave:
        await dave.start("shout", {}, execution_id="dave/nobodys")


async def test_the_application_names_graphs_and_ids(place: StartSite) -> None:
    place.calls.clear()
    async with rest(place, CALLERS["authorized"]) as auditor:
        await auditor.start("demo/chat", {"messages": "hi"}, execution_id="audits/1", thread_id="audits/2")
    assert place.calls == [
        ("auditor", "start", "graph:demo/chat", None),
        ("auditor", "start", "audits/1", None),
        ("auditor", "start", "audits/2", None),
    ]


async def test_a_ticket_for_one_execution_starts_nothing(place: StartSite) -> None:
    async with execution(place, "watched") as watched, rest(place, CALLERS["owner"]) as alice:
        ticket = (await alice.request("POST", "/tickets", json={"execution_id": watched}))["ticket"]
        async with socket_of(place, "websocket", None) as reader:
            reader.path = f"{reader.path}?ticket={ticket}"
            with pytest.raises(RefusedError) as refused:
                await reader.ask("start_execution", {"graph": "shout", "input": {}})
            assert refused.value.code == 4030
