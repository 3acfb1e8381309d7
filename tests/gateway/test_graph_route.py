"""The graph of an execution, over REST: nodes with those of subgraphs, loops, alternatives, start and end."""

import gc
from collections.abc import Generator
from typing import Any, Literal, TypedDict, cast

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from lg_streaming import StreamingModule, stream_all
from tests.gateway.contract.adapters import RefusedError
from tests.gateway.starts import StartSite, bearer, may_start, rest, start_site


class State(TypedDict, total=False):
    rounds: int


async def work(state: State) -> State:
    return {"rounds": state.get("rounds", 0) + 1}


async def choose(state: State) -> Command[Literal["write", "__end__"]]:
    return Command(goto="__end__")


async def find(state: State) -> str:
    return "found"


async def enough(state: State) -> bool:
    return state.get("rounds", 0) > 4


def make_graph(**options: Any) -> Any:
    """Return a graph with a subgraph, a loop, an answer with another name, a join, and a node that goes on."""
    inner = StateGraph(State)
    inner.add_node("search", work)
    inner.add_node("read", work)
    inner.add_edge(START, "search")
    inner.add_conditional_edges("search", find, {"found": "read", "nothing": END})
    inner.add_edge("read", END)
    builder = StateGraph(State)
    builder.add_node("plan", work)
    builder.add_node("research", inner.compile())
    builder.add_node("write", work)
    builder.add_node("choose", choose)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "research")
    builder.add_conditional_edges("research", enough, {True: "write", False: "plan"})
    builder.add_edge(["plan", "write"], "choose")
    return builder.compile(checkpointer=InMemorySaver(), **options)


NODES = {
    "__start__": ("start", None),
    "plan": ("node", None),
    "research": ("subgraph", None),
    "research:__start__": ("start", "research"),
    "research:search": ("node", "research"),
    "research:read": ("node", "research"),
    "research:__end__": ("end", "research"),
    "write": ("node", None),
    "choose": ("node", None),
    "__end__": ("end", None),
}
EDGES = {
    ("__start__", "plan", False, None),
    ("plan", "research", False, None),
    ("research", "write", True, "True"),
    ("research", "plan", True, "False"),
    ("plan", "choose", False, None),
    ("write", "choose", False, None),
    ("choose", "write", True, None),
    ("choose", "__end__", True, None),
    ("research:__start__", "research:search", False, None),
    ("research:search", "research:read", True, "found"),
    ("research:search", "research:__end__", True, "nothing"),
    ("research:read", "research:__end__", False, None),
}


@task
async def add(count: int) -> int:
    return count + 1


@entrypoint()
async def counting(count: int) -> int:
    return await add(count)


@pytest.fixture(scope="module")
def place() -> Generator[StartSite]:
    graphs: dict[str, Any] = {
        "research": make_graph(),
        "decorated": stream_all(make_graph()),
        "counting": cast("Any", counting),
    }
    with start_site(graphs=graphs) as site:
        yield site


def check(answer: dict[str, Any]) -> None:
    assert {each["id"]: (each["kind"], each.get("parent")) for each in answer["nodes"]} == NODES
    assert {
        (each["source"], each["target"], each["conditional"], each.get("label")) for each in answer["edges"]
    } == EDGES
    assert len(answer["edges"]) == len(EDGES)
    assert answer["functional"] is False


@pytest.mark.parametrize("name", ["research", "decorated"])
async def test_the_graph_of_a_started_run(place: StartSite, name: str) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        started = await alice.start(name, {})
        answer = await alice.request("GET", f"/executions/{started['execution_id']}/graph")
        await alice.updates(started["execution_id"])
        again = await alice.request("GET", f"/executions/{started['execution_id']}/graph")
    assert answer["name"] == name
    check(answer)
    assert again == answer


async def test_the_tasks_of_a_functional_graph_are_not_known(place: StartSite) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice:
        started = await alice.start("counting", 1)
        answer = await alice.request("GET", f"/executions/{started['execution_id']}/graph")
    assert answer["functional"] is True
    assert [each["name"] for each in answer["nodes"]] == ["__start__", "counting", "__end__"]


async def test_the_graph_of_a_call_that_a_program_makes(place: StartSite) -> None:
    graph = make_graph(name="mine")
    streaming: StreamingModule = place.streaming
    await graph.ainvoke({}, streaming.config(execution_id="called", owner="alice"))
    async with rest(place, bearer("alice")) as alice:
        answer = await alice.request("GET", "/executions/called/graph")
        assert answer["name"] == "mine"
        check(answer)
        del graph
        gc.collect()
        with pytest.raises(RefusedError) as refused:
            await alice.request("GET", "/executions/called/graph")
    error = refused.value.error
    assert (error["code"], error["name"], refused.value.status) == (4041, "graph_not_found", 404)
    assert "register it in streaming.graphs" in error["message"]


async def test_the_graph_of_the_last_run_counts(place: StartSite) -> None:
    streaming: StreamingModule = place.streaming
    first, second = make_graph(name="first"), cast("Any", counting)
    await first.ainvoke({}, streaming.config(execution_id="twice", owner="alice"))
    await second.ainvoke(1, streaming.config(execution_id="twice", owner="alice"))
    async with rest(place, bearer("alice")) as alice:
        assert (await alice.request("GET", "/executions/twice/graph"))["name"] == "counting"


async def test_only_readers_of_the_execution_see_its_graph(place: StartSite) -> None:
    async with rest(place, bearer("alice", may_start("*"))) as alice, rest(place, bearer("dave")) as dave:
        started = await alice.start("research", {})
        refusals: list[Any] = []
        for execution_id in (started["execution_id"], "unknown"):
            for path in ("graph", "states", "states/c"):
                with pytest.raises(RefusedError) as refused:
                    await dave.request("GET", f"/executions/{execution_id}/{path}")
                refusals.append((refused.value.error["code"], refused.value.error["message"], refused.value.status))
        assert set(refusals) == {(4030, "there is no such execution, or it is not yours", 403)}


async def test_a_run_without_a_graph_has_none(place: StartSite) -> None:
    place.streaming.hub.open("bare", owner="alice")
    place.streaming.hub.publish("bare", "custom", {})
    async with rest(place, bearer("alice")) as alice:
        with pytest.raises(RefusedError) as refused:
            await alice.request("GET", "/executions/bare/graph")
    await place.streaming.hub.close("bare")
    assert refused.value.error["code"] == 4041
