"""States of an execution's thread, over REST: pages, whole states, bounds, secrets, rights."""

import operator
from collections.abc import Generator
from typing import Annotated, Any, TypedDict, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from tests.gateway.contract.adapters import RefusedError
from tests.gateway.starts import Rest, StartSite, bearer, connect_to_log, may_start, rest, start_site


class State(TypedDict, total=False):
    messages: Annotated[list[Any], operator.add]
    secret: str
    text: str


def graph_of(*names: str, checkpointer: Any, **nodes: Any) -> Any:
    builder = StateGraph(State)
    before = START
    for name in names:
        builder.add_node(name, nodes[name])
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=checkpointer)


async def ask(state: State) -> State:
    return {"messages": [AIMessage("hello")], "secret": "s3cret"}


async def grow(state: State) -> State:
    return {"text": "x" * 400_000}


async def fail(state: State) -> State:
    raise ValueError("no luck")


@pytest.fixture(scope="module", params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Generator[StartSite]:
    saver = InMemorySaver()
    graphs = {
        "chat": graph_of("ask", "grow", checkpointer=saver, ask=ask, grow=grow),
        "failing": graph_of("ask", "fail", checkpointer=saver, ask=ask, fail=fail),
        "loose": graph_of("ask", checkpointer=None, ask=ask),
        "refusing": graph_of("ask", checkpointer=False, ask=ask),
    }
    shared: Any = {}
    if request.param == "redis":
        shared = {"log": request.getfixturevalue("shared_redis").url, "redis": {"prefix": "states"}}
    with start_site(graphs=graphs, redact=hide, **shared) as site:
        connect_to_log(site, "loose")
        yield site


def hide(type: str, data: Any) -> Any:
    """Remove the secret from all updates, wherever it is."""
    if isinstance(data, dict):
        return {name: hide(type, each) for name, each in cast("dict[str, Any]", data).items() if name != "secret"}
    return data


async def run(caller: Rest, graph: str, **more: Any) -> str:
    started: str = (await caller.start(graph, {"messages": [{"type": "human", "content": "hi"}]}, **more))[
        "execution_id"
    ]
    await caller.updates(started)
    return started


async def test_states_come_newest_first_and_page_by_page(place: StartSite) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        execution_id = await run(alice, "chat")
        path = f"/executions/{execution_id}/states"
        whole = await alice.request("GET", path)
        assert whole["next"] is None
        assert whole["graph"] == "chat"
        states = whole["states"]
        assert [each["metadata"]["step"] for each in states] == [2, 1, 0, -1]
        assert [each["metadata"]["source"] for each in states] == ["loop", "loop", "loop", "input"]
        assert [each["next"] for each in states] == [[], ["grow"], ["ask"], ["__start__"]]
        assert [each["parent_checkpoint_id"] for each in states] == [
            *(each["checkpoint_id"] for each in states[1:]),
            None,
        ]
        first = await alice.request("GET", f"{path}?limit=2")
        second = await alice.request("GET", f"{path}?limit=2&before={first['next']}")
        assert second["next"] is None
        assert [each["checkpoint_id"] for each in (*first["states"], *second["states"])] == [
            each["checkpoint_id"] for each in states
        ]


async def test_large_values_are_cut_in_a_page_and_whole_alone(place: StartSite) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        path = f"/executions/{await run(alice, 'chat')}/states"
        newest = (await alice.request("GET", path))["states"][0]
        assert newest["truncated"]["values"] > 400_000
        assert 10_000 < len(newest["values"]["text"]) < 300_000
        assert newest["values"]["messages"][1]["content"] == "hello"
        alone = await alice.request("GET", f"{path}/{newest['checkpoint_id']}")
        assert len(alone["values"]["text"]) == 400_000
        assert "truncated" not in alone


async def test_secrets_and_config_values_stay_out(place: StartSite) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        path = f"/executions/{await run(alice, 'chat')}/states"
        answer = await alice.request("GET", path)
        assert "s3cret" not in str(answer)
        assert "lg_streaming" not in str([each["metadata"] for each in answer["states"]])
        assert all("run_id" in each["metadata"] for each in answer["states"])


async def test_a_node_that_failed_shows_in_the_state_before_it(place: StartSite) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        states = (await alice.request("GET", f"/executions/{await run(alice, 'failing')}/states"))["states"]
        assert [each["has_errors"] for each in states] == [True, False, False]
        assert "no luck" in states[0]["tasks"][0]["error"]


@pytest.mark.parametrize("graph", ["loose", "refusing"])
async def test_a_graph_without_a_checkpointer_says_so(place: StartSite, graph: str) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        execution_id = await run(alice, graph)
        for path in ("states", "states/c"):
            with pytest.raises(RefusedError) as refused:
                await alice.request("GET", f"/executions/{execution_id}/{path}")
            assert (refused.value.error["code"], refused.value.status) == (4096, 409)
            assert "compile()" in refused.value.error["message"]


@pytest.mark.parametrize(
    ("query", "text"),
    [("?limit=0", "limit"), ("?limit=101", "limit"), ("?before=", "before"), ("?nope=1", "nope"), ("/nope", "'nope'")],
    ids=["none", "many", "empty", "unknown", "checkpoint"],
)
async def test_wrong_queries(place: StartSite, query: str, text: str) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        execution_id = await run(alice, "chat")
        with pytest.raises(RefusedError) as refused:
            await alice.request("GET", f"/executions/{execution_id}/states{query}")
        assert refused.value.status == 400
        assert text in refused.value.error["message"]


async def test_a_thread_of_another_execution_needs_its_right(place: StartSite) -> None:
    grant = {"actions": ["start"], "graphs": ["*"], "executions": ["shared-*"]}
    reader = {"actions": ["read"], "executions": ["shared-2"]}
    async with rest(place, bearer("alice", grant)) as alice, rest(place, bearer("bob", reader)) as bob:
        await run(alice, "chat", execution_id="shared-1")
        await run(alice, "chat", execution_id="shared-2", thread_id="shared-1")
        assert len((await alice.request("GET", "/executions/shared-2/states"))["states"]) == 8
        with pytest.raises(RefusedError) as refused:
            await bob.request("GET", "/executions/shared-2/states")
        assert refused.value.error["code"] == 4030


async def test_states_of_a_call_that_a_program_makes(place: StartSite) -> None:
    graph = graph_of("ask", checkpointer=InMemorySaver(), ask=ask)
    config = place.streaming.config({"configurable": {"thread_id": "t"}}, execution_id="called", owner="alice")
    await graph.ainvoke({"messages": [HumanMessage("hi")]}, config)
    async with rest(place, bearer("alice")) as alice:
        states = (await alice.request("GET", "/executions/called/states"))["states"]
    assert [each["checkpoint"]["thread_id"] for each in states] == ["t"] * 3
