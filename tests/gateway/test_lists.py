"""Lists of executions, the newest start first: order, filters, rights, titles and usage, on both logs."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import MessagesState, StateGraph

from lg_streaming import StreamingModule, stream_event
from lg_streaming.codec import Codec
from lg_streaming.hub import StreamHub
from lg_streaming.log import Batch, MemoryLog, PendingUpdate
from lg_streaming.publisher import Scope
from lg_streaming.testing import ScriptedChatModel
from tests.gateway.site import SECRET, Site, site
from tests.gateway.test_rest import bearer, code_of, listed
from tests.support.redis_server import RedisServer


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    server: RedisServer = request.getfixturevalue("shared_redis")
    return {"log": server.url, "redis": {"prefix": request.getfixturevalue("redis_prefix")}}


@pytest.fixture
def place(settings: dict[str, Any]) -> Generator[Site]:
    with site(**settings) as running:
        yield running


async def page(http: httpx2.AsyncClient, place: Site, **query: Any) -> dict[str, Any]:
    answer = await http.get(f"{place.url}/executions", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def info(http: httpx2.AsyncClient, place: Site, execution_id: str = "exec-1") -> dict[str, Any]:
    return (await http.get(f"{place.url}/executions/{execution_id}")).json()


async def test_the_newest_start_comes_first(http: httpx2.AsyncClient, place: Site) -> None:
    names = [f"run-{number}" for number in (3, 1, 4, 0, 2)]
    for name in names:
        place.hub.open(name, owner="alice" if name < "run-3" else "bob")
    await place.hub.writer.flush()
    async with asyncio.timeout(10):  # the index of an owner follows the append
        while await listed(http, place, order="newest", owner="bob") != ["run-4", "run-3"]:
            await asyncio.sleep(0.01)
    assert await listed(http, place, order="newest") == names[::-1]
    assert await listed(http, place, order="newest", limit=2) == names[::-1]
    await place.hub.close("run-1")
    place.hub.open("run-1")
    await place.hub.writer.flush()
    assert (await page(http, place, order="newest", limit=1))["executions"][0]["execution_id"] == "run-1"
    assert await listed(http, place) == sorted(names)


async def test_a_text_is_found_in_id_title_owner_and_graph(http: httpx2.AsyncClient, place: Site) -> None:
    runs = place.hub.runs
    runs.join_run("Report-1", name="Planner", title="Why is the sky blue?")
    runs.join_run("b", owner="Blue-Man")
    runs.join_run("c", name="LangGraph", metadata={"title": "A  title\nof the caller"})
    await place.hub.writer.flush()
    for text, found in {
        "BLUE": ["b", "Report-1"],
        "report": ["Report-1"],
        "planner": ["Report-1"],
        "a title OF": ["c"],
        "langgraph": [],
        "sky%": [],
    }.items():
        assert await listed(http, place, order="newest", text=text) == found, text
    described = await info(http, place, "c")
    assert (described["title"], described["graph"]) == ("A title of the caller", None)
    assert (await info(http, place, "Report-1"))["graph"] == "Planner"


async def test_ids_name_the_executions_of_an_answer(http: httpx2.AsyncClient, place: Site) -> None:
    for name in ("a,b", "c", "d"):
        place.hub.open(name)
    await place.hub.close("d")
    await place.hub.writer.flush()
    found = await page(http, place, id=["d", "nothing", "a,b", "d"])
    assert [each["execution_id"] for each in found["executions"]] == ["d", "a,b"]
    assert found["next_cursor"] is None
    assert [
        each["execution_id"] for each in (await page(http, place, id=["d", "c"], state="running"))["executions"]
    ] == ["c"]


@pytest.mark.parametrize(
    "query",
    ["order=oldest", "text=", "id=c&limit=3", "id=c&order=newest", "id=", "&".join(f"id=e{n}" for n in range(51))],
    ids=["order", "text", "limit", "both", "empty", "many"],
)
async def test_queries_that_make_no_sense(open_site: Site, http: httpx2.AsyncClient, query: str) -> None:
    assert await code_of(http.get(f"{open_site.url}/executions?{query}")) == (400, 4000)


async def test_a_cursor_is_of_its_own_order(open_site: Site, http: httpx2.AsyncClient) -> None:
    for name in ("a", "b"):
        open_site.hub.open(name)
    for order, other in (("id", "newest"), ("newest", "id")):
        cursor = (await page(http, open_site, order=order, limit=1))["next_cursor"]
        answer = await http.get(f"{open_site.url}/executions", params={"order": other, "cursor": cursor})
        assert answer.status_code == 400
        assert "another order" in answer.json()["error"]["message"]


async def test_the_newest_are_those_that_the_caller_may_read(
    http: httpx2.AsyncClient, settings: dict[str, Any]
) -> None:
    with site(auth={"secret": SECRET}, **settings) as place:
        for number in range(700):
            place.hub.open(f"{'acme' if number % 100 else 'own'}/{number:03}", owner="eve" if number % 100 else "bob")
        await place.hub.writer.flush()
        async with asyncio.timeout(10):  # the index of an owner follows the append
            while len(await place.hub.log.list_newest(owner="bob")) < 7:
                await asyncio.sleep(0.01)
        own = [f"own/{number:03}" for number in range(600, -1, -100)]
        granted: Any = {"lg_streaming": [{"actions": ["read"], "executions": ["acme/6*"]}]}
        seen = [*(f"acme/{number}" for number in range(699, 600, -1)), *own]
        assert await listed(http, place, bearer("bob"), order="newest", limit=3) == own
        assert await listed(http, place, bearer("bob", **granted), order="newest") == seen
        assert await listed(http, place, bearer("mallory"), order="newest") == []


MANY = 1_000


async def fill(place: Site | StreamingModule, count: int) -> None:
    """Append runs of `count` executions, which have ended."""
    codec, scope = Codec(max_bytes=10_000), Scope(run_id="r")
    batches: list[Batch] = []
    for number in range(count):
        name, at = f"e{number:04}", 1_000_000.0 + number
        data = {"workflow_start": {"title": f"Question {number}"}, "workflow_complete": {}}
        updates = [
            PendingUpdate(kind, scope, "high", at, codec.encode(name, kind, each, scope, "high", at))
            for kind, each in data.items()
        ]
        batches.append(Batch(name, updates, "p", 1))
    for first in range(0, count, 500):
        assert set(await asyncio.to_thread(place.hub.log.append_all, batches[first : first + 500])) == {0}


async def test_the_first_page_of_many_reads_few_states(
    http: httpx2.AsyncClient, place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place, MANY)
    looks: list[str] = []
    describe = place.hub.describe

    async def counted(execution_id: str) -> Any:
        looks.append(execution_id)
        return await describe(execution_id)

    monkeypatch.setattr(place.hub, "describe", counted)
    found = await page(http, place, order="newest")
    newest = [f"e{number:04}" for number in range(MANY - 1, MANY - 51, -1)]
    assert [each["execution_id"] for each in found["executions"]] == newest
    assert len(looks) <= 100
    assert await listed(http, place, order="newest", text="question 12", limit=100) == [
        *(f"e{number:04}" for number in range(129, 119, -1)),
        "e0012",
    ]


async def test_a_log_without_an_order_by_start_says_so(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site() as place:
        monkeypatch.setattr(MemoryLog, "list_newest", None)
        place.hub.open("e")
        assert await listed(http, place) == ["e"]
        answer = await http.get(f"{place.url}/executions?order=newest")
        assert answer.status_code == 400
        assert "list_newest" in answer.json()["error"]["message"]


@pytest.fixture
def two(shared_redis: RedisServer, redis_prefix: str) -> Generator[list[Site]]:
    """Two servers on one log."""
    shared: dict[str, Any] = {"log": shared_redis.url, "redis": {"prefix": redis_prefix}}
    with site(**shared) as one, site(**shared) as other:
        yield [one, other]


async def test_a_cursor_is_known_again_after_redis_lost_the_key(
    two: list[Site], shared_redis: RedisServer, redis_prefix: str, http: httpx2.AsyncClient
) -> None:
    """A process with an old key and a new one behind a balancer must not refuse each other's cursors for good."""
    old, new = two
    for name in ("run-1", "run-2"):
        old.hub.open(name)
    await old.hub.writer.flush()
    assert (await page(http, old, limit=1))["next_cursor"]
    keys = await asyncio.to_thread(shared_redis.execute, "KEYS", f"{redis_prefix}*cursor_key*")
    assert keys
    for key in keys:
        await asyncio.to_thread(shared_redis.execute, "DEL", key)
    for giver, taker in ((new, old), (old, new)):
        cursor = (await page(http, giver, limit=1))["next_cursor"]
        second = await page(http, taker, limit=1, cursor=cursor)
        assert [each["execution_id"] for each in second["executions"]] == ["run-2"]


# ---------------------------------------------------------------- usage, title and end
async def test_odd_usage_does_not_break_a_list(http: httpx2.AsyncClient, place: Site) -> None:
    """Programs report numbers that are no numbers of tokens; a list has to be JSON that pages can read."""
    huge = 2**53 - 1
    for number in range(2_100):
        place.hub.publish("exec-1", "usage", {"input_tokens": huge, "output_tokens": huge, "cost": 8e15, "n": number})
    odd: list[Any] = [
        None,
        5,
        [],
        {},
        {"input_tokens": "5"},
        {"output_tokens": True},
        {"cost": -1},
        {"total_tokens": -3},
    ]
    for data in [*odd, {"input_tokens": 10**400}, {"cost": 1e308}]:
        place.hub.publish("exec-1", "usage", data)
        place.hub.publish("exec-1", "llm_complete", {"usage": data})
    await place.hub.writer.flush()
    usage = (await page(http, place, order="newest"))["executions"][0]["usage"]
    assert usage["input_tokens"] == usage["total_tokens"] == huge
    assert usage["cost"] == pytest.approx(2_100 * 8e15)


async def test_usage_and_end_are_known_while_a_run_works_and_after(http: httpx2.AsyncClient, place: Site) -> None:
    hub = place.hub
    hub.open("exec-1")
    emitter = hub.emitter("exec-1")
    await hub.writer.flush()
    described = await info(http, place)
    assert (described["usage"], described["ended_at"]) == (None, None)
    emitter.usage(100, 20, cost=0.25)
    emitter.usage(1, 2)
    await hub.writer.flush()
    assert (await info(http, place))["usage"] == {
        "input_tokens": 101,
        "output_tokens": 22,
        "total_tokens": 123,
        "cost": 0.25,
    }
    await hub.close("exec-1")
    await hub.writer.flush()
    described = await info(http, place)
    assert described["usage"]["total_tokens"] == 123
    assert described["ended_at"] == described["updated_at"] >= described["started_at"]


@pytest.mark.parametrize("events", [["usage"], ["llm_complete"], ["usage", "llm_complete"]], ids="+".join)
async def test_each_call_of_a_model_counts_once(settings: dict[str, Any], events: list[str]) -> None:
    answers = [
        AIMessage("one", usage_metadata={"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}),
        AIMessage("two", usage_metadata={"input_tokens": 20, "output_tokens": 2, "total_tokens": 22}),
    ]
    model = ScriptedChatModel(answers=answers)

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"]), await model.ainvoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("ask", stream_event(events=events)(ask)).add_edge("__start__", "ask")
    streaming = StreamingModule(settings)
    try:
        streaming.graphs["asker"] = graph.compile()
        await streaming.runs.run("asker", {"messages": [("user", "What\n is   it?")]}, execution_id="e")
        await streaming.hub.writer.flush()
        state = await streaming.hub.describe("e")
        assert state is not None
        assert state.usage == (30, 3, 33, None)
        assert dict(state.start_data)["title"] == "What is it?"
        assert dict(state.start_data)["graph"] == "asker"
    finally:
        await streaming.aclose()


async def test_redact_sees_the_title() -> None:
    def redact(type: str, data: Any) -> Any:
        return {**data, "title": "[hidden]"} if type == "workflow_start" and "title" in data else data

    hub = StreamHub(redact=redact)
    hub.runs.join_run("e", title="my password is x")
    state = await hub.describe("e")
    assert state is not None
    assert state.start_data["title"] == "[hidden]"
    await hub.aclose()
