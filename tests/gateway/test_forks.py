"""Forks over REST: rights, arguments, and runs of other processes."""

import asyncio
import contextlib
import operator
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from tests.gateway.contract.adapters import RefusedError
from tests.gateway.starts import Rest, StartSite, bearer, connect_to_log, may_start, rest, start_site

CONTROL = {"actions": ["read", "control"], "executions": ["**"]}


class Input(TypedDict, total=False):
    done: Annotated[list[str], operator.add]
    note: str


class State(Input, total=False):
    approved: bool


async def first(state: State) -> State:
    return {"done": ["first"]}


async def ask(state: State) -> State:
    return {"done": [f"asked {interrupt('?')}"]}


async def last(state: State) -> State:
    return {"done": [f"{state.get('note', '')} {state.get('approved', False)}".strip()]}


def make_graphs(saver: Any) -> dict[str, Any]:
    def row(**nodes: Any) -> Any:
        builder, before = StateGraph(State, input_schema=Input), START
        for name, node in nodes.items():
            builder.add_node(name, node)
            builder.add_edge(before, name)
            before = name
        return builder.compile(checkpointer=saver)

    loose = StateGraph(State).add_node("first", first).add_edge(START, "first").compile()
    return {"row": row(first=first, last=last), "asking": row(first=first, ask=ask, last=last), "loose": loose}


@dataclass(frozen=True, slots=True)
class Place:
    """One or two servers that share a log and a checkpointer; `start` starts runs, `fork` forks them."""

    start: StartSite
    fork: StartSite


@pytest.fixture(scope="module", params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Generator[Place]:
    saver = InMemorySaver()
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            site = stack.enter_context(start_site(graphs=make_graphs(saver)))
            yield Place(site, site)
        else:
            shared: Any = {"log": request.getfixturevalue("shared_redis").url, "redis": {"prefix": "forks"}}
            sites = [stack.enter_context(start_site(graphs=make_graphs(saver), **shared)) for _ in range(2)]
            for site in sites:
                connect_to_log(site, "loose")
            yield Place(*sites)


async def until_state(caller: Rest, execution_id: str, state: str) -> None:
    async with asyncio.timeout(20):
        while (await caller.request("GET", f"/executions/{execution_id}"))["state"] != state:
            await asyncio.sleep(0.01)


async def begin(place: Place, graph: str = "row", state: str = "completed", **more: Any) -> str:
    async with rest(place.start, bearer("alice", may_start("*"))) as alice:
        execution_id: str = (await alice.start(graph, {"done": ["input"]}, **more))["execution_id"]
        await until_state(alice, execution_id, state)
    return execution_id


async def checkpoint_before(caller: Rest, execution_id: str, node: str) -> str:
    states = (await caller.request("GET", f"/executions/{execution_id}/states"))["states"]
    return next(each["checkpoint_id"] for each in states if each["next"] == [node])


async def fork(caller: Rest, original: str, checkpoint_id: str, **more: Any) -> Any:
    body = {"checkpoint_id": checkpoint_id, **more}
    return await caller.request("POST", f"/executions/{original}/forks", json=body)


async def result_of(caller: Rest, execution_id: str) -> list[str]:
    return (await caller.updates(execution_id))[-1]["data"]["result"]["done"]


async def test_a_fork_is_a_new_execution_of_the_caller(place: Place) -> None:
    execution_id = await begin(place)
    async with rest(place.fork, bearer("alice", may_start("*"))) as alice:
        before = await alice.request("GET", f"/executions/{execution_id}/states")
        checkpoint_id = await checkpoint_before(alice, execution_id, "last")
        response = await alice.http.post(
            f"/executions/{execution_id}/forks", json={"checkpoint_id": checkpoint_id, "values": {"note": "changed"}}
        )
        assert response.status_code == 201
        started = response.json()
        assert response.headers["location"] == f"/executions/{started['execution_id']}"
        assert started["execution_id"] == started["thread_id"] != execution_id
        updates = await alice.updates(started["execution_id"])
        assert updates[0]["data"]["forked_from"] == {"execution_id": execution_id, "checkpoint_id": checkpoint_id}
        assert updates[-1]["data"]["result"]["done"] == ["input", "first", "changed False"]
        assert (await alice.request("GET", f"/executions/{started['execution_id']}"))["owner"] == "alice"
        assert await alice.request("GET", f"/executions/{execution_id}/states") == before


async def test_a_run_that_waits_in_another_process_is_forked(place: Place) -> None:
    execution_id = await begin(place, "asking", "interrupted")
    async with rest(place.fork, bearer("alice", may_start("*"))) as alice:
        started = await fork(alice, execution_id, await checkpoint_before(alice, execution_id, "ask"))
        for each, answer in ((started["execution_id"], "fork"), (execution_id, "original")):
            await until_state(alice, each, "interrupted")
            updates = (await alice.request("GET", f"/executions/{each}/updates?events=human_prompt"))["updates"]
            body = {"prompt_id": updates[0]["data"]["prompt_id"], "response": answer}
            await alice.request("POST", f"/executions/{each}/responses", json=body)
            await until_state(alice, each, "completed")
            assert (await result_of(alice, each))[2] == f"asked {answer}"


async def test_an_id_of_ones_own_and_a_config(place: Place) -> None:
    execution_id = await begin(place)
    grant = may_start("*", executions=("mine-*",))
    async with rest(place.fork, bearer("alice", grant)) as alice:
        checkpoint_id = await checkpoint_before(alice, execution_id, "last")
        new_id = f"mine-{execution_id}"
        started = await fork(alice, execution_id, checkpoint_id, execution_id=new_id, config={"tags": ["again"]})
        assert started["execution_id"] == new_id
        await until_state(alice, new_id, "completed")
        for taken, code in ((new_id, 4096), ("other", 4030), ("room:x", 4000)):
            with pytest.raises(RefusedError) as refused:
                await fork(alice, execution_id, checkpoint_id, execution_id=taken)
            assert refused.value.error["code"] == code


@pytest.mark.parametrize(
    ("token", "body", "code"),
    [
        (bearer("alice", may_start("*")), {"values": {"approved": True}}, 4000),
        (bearer("alice", may_start("*")), {"as_node": "last"}, 4030),
        (bearer("carol", may_start("*"), CONTROL), {"values": {"approved": True}}, None),
        (bearer("carol", may_start("*"), CONTROL), {"values": {"nope": True}}, 4000),
        (bearer("carol", may_start("*"), CONTROL), {"as_node": "nope"}, 4000),
        (bearer("carol", CONTROL), {}, 4030),
        (bearer("carol", may_start("other"), CONTROL), {}, 4030),
        (bearer("eve", may_start("*"), {"actions": ["read"], "executions": ["**"]}), {}, 4030),
        (bearer("dave", may_start("*")), {}, 4030),
        (bearer("alice", may_start("*")), {"checkpoint_id": "nope"}, 4000),
        (bearer("alice", may_start("*")), {"checkpoint_id": ""}, 4000),
        (bearer("alice", may_start("*")), {"nope": 1}, 4000),
        (bearer("alice", may_start("*")), {"config": {"configurable": {"nope": 1}}}, 4000),
    ],
    ids=[
        "field",
        "owner as node",
        "granted",
        "granted field",
        "node",
        "no start",
        "other graph",
        "reader",
        "stranger",
        "checkpoint",
        "empty",
        "unknown",
        "config",
    ],
)
async def test_rights_and_arguments(place: Place, token: str, body: dict[str, Any], code: int | None) -> None:
    execution_id = await begin(place)
    async with rest(place.fork, bearer("alice", may_start("*"))) as alice:
        checkpoint_id = await checkpoint_before(alice, execution_id, "last")
    async with rest(place.fork, token) as caller:
        if code is None:
            started = await fork(caller, execution_id, checkpoint_id, **body)
            assert (await result_of(caller, started["execution_id"]))[-1] == "True"
            return
        with pytest.raises(RefusedError) as refused:
            await caller.request(
                "POST", f"/executions/{execution_id}/forks", json={"checkpoint_id": checkpoint_id, **body}
            )
        assert refused.value.error["code"] == code


async def test_a_graph_without_a_checkpointer_is_not_forked(place: Place) -> None:
    execution_id = await begin(place, "loose")
    async with rest(place.fork, bearer("alice", may_start("*"))) as alice:
        with pytest.raises(RefusedError) as refused:
            await fork(alice, execution_id, "c")
        assert refused.value.error["code"] == 4096
