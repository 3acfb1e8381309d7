"""Runs that callers start over the network: over HTTP and both sockets, with the same payload and answer."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx2
import pytest
import socketio

from tests.gateway.contract.adapters import RefusedError
from tests.gateway.starts import Rest, StartSite, bearer, may_start, rest, socket_of, start_site

ALL = may_start("**", executions=("alice/**",))


@pytest.fixture(scope="module")
def place() -> Generator[StartSite]:
    with start_site() as site:
        yield site


@pytest.fixture
async def alice(place: StartSite) -> AsyncGenerator[Rest]:
    async with rest(place, bearer("alice", ALL)) as caller:
        yield caller


async def started(place: StartSite, transport: str, payload: dict[str, Any], token: str) -> Any:
    if transport == "rest":
        async with rest(place, token) as caller:
            return await caller.request("POST", "/executions", json=payload)
    async with socket_of(place, transport, token) as reader:
        return await reader.ask("start_execution", payload)


@pytest.mark.row("HIVE-77", "HIVE-81")
@pytest.mark.parametrize("transport", ["rest", "socketio", "websocket"])
async def test_a_start_runs_the_graph_and_belongs_to_its_caller(place: StartSite, alice: Rest, transport: str) -> None:
    payload = {"graph": "shout", "input": {"text": "hi"}, "metadata": {"colour": "red"}}
    answer = await started(place, transport, payload, bearer("alice", ALL))
    execution_id = answer["execution_id"]
    assert answer == {
        "ok": True,
        "execution_id": execution_id,
        "run_id": answer["run_id"],
        "thread_id": execution_id,
        "state": "running",
        "position": None,
        "stream_url": f"/executions/{execution_id}/stream",
    }
    updates = await alice.updates(execution_id)
    assert (updates[0]["type"], updates[-1]["type"]) == ("workflow_start", "workflow_complete")
    assert updates[-1]["data"]["result"] == {"text": "HI"}
    assert {each["metadata"]["run_id"] for each in updates} == {answer["run_id"]}
    info = await alice.request("GET", f"/executions/{execution_id}")
    assert (info["owner"], info["metadata"]) == ("alice", {"colour": "red"})


async def test_names_in_camel_case(place: StartSite, alice: Rest) -> None:
    answer = await alice.start("shout", {}, executionId="alice/camel", threadId="alice/thread", ifRunning="reject")
    assert (answer["execution_id"], answer["thread_id"]) == ("alice/camel", "alice/thread")
    assert answer["stream_url"] == "/executions/alice%2Fcamel/stream"


async def test_the_response_names_the_execution(place: StartSite, alice: Rest) -> None:
    response = await alice.http.post("/executions", json={"graph": "shout", "input": {}})
    assert response.status_code == 201
    assert response.headers["location"] == f"/executions/{response.json()['execution_id']}"


async def test_a_second_run_of_one_execution_begins_after_the_first(place: StartSite, alice: Rest) -> None:
    first = await alice.start("demo/chat", {"messages": "hi"})
    execution_id = first["execution_id"]
    before = await alice.updates(execution_id)
    second = await alice.start(
        "demo/chat", {"messages": [{"role": "user", "content": "more"}]}, execution_id=execution_id
    )
    assert second["run_id"] != first["run_id"]
    assert second["position"] == f"{before[-1]['metadata']['epoch']}:{before[-1]['metadata']['sequence_number']}"
    # the stream's address begins with the run's own first update
    page = await alice.request("GET", second["stream_url"].replace("/stream", "/updates") + "&wait=5")
    assert page["updates"][0]["metadata"]["run_id"] == second["run_id"]
    state = await place.streaming.graphs["demo/chat"].aget_state({"configurable": {"thread_id": execution_id}})
    updates = await alice.updates(execution_id)
    assert updates[-1]["data"]["result"]["messages"][-1]["content"] == "3 so far"
    assert len(state.values["messages"]) >= 2


@pytest.mark.row("HIVE-77", "HIVE-81")
async def test_start_answer_and_finish_over_three_transports(place: StartSite, alice: Rest) -> None:
    token = bearer("alice", ALL)
    execution_id = (await started(place, "socketio", {"graph": "ask", "input": {}}, token))["execution_id"]
    page = await alice.request("GET", f"/executions/{execution_id}/updates?wait=5&events=human_prompt")
    while not page["updates"]:
        page = await alice.request(
            "GET", f"/executions/{execution_id}/updates?wait=5&events=human_prompt&after={page['position']}"
        )
    prompt_id = page["updates"][0]["data"]["prompt_id"]
    async with socket_of(place, "websocket", token) as reader:
        answer = {"execution_id": execution_id, "prompt_id": prompt_id, "response": "yes"}
        assert (await reader.ask("respond", answer))["ok"]
    assert (await alice.updates(execution_id))[-1]["data"]["result"] == {"answer": "yes"}


async def test_a_start_with_the_official_client(place: StartSite, alice: Rest) -> None:
    client = socketio.AsyncClient()
    ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def on_status(update: dict[str, Any]) -> None:
        if update["type"] == "workflow_complete":
            ended.set_result(update)

    client.on("status", on_status)  # pyright: ignore[reportUnknownMemberType]
    await client.connect(place.url, auth={"token": bearer("alice", ALL)}, transports=["websocket"])
    try:
        call: Any = client.call  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        answer = await call("start_execution", {"graph": "shout", "input": {"text": "a"}})
        await call("subscribe_execution", {"execution_id": answer["execution_id"], "after": answer["position"]})
        assert (await asyncio.wait_for(ended, 5))["data"]["result"] == {"text": "A"}
    finally:
        await client.disconnect()


# ---------------------------------------------------------------- what is checked
@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"input": {}}, "graph"),
        ({"graph": "shout"}, "input"),
        ({"graph": "shout", "input": {"text": 5}}, "input.text"),
        ({"graph": "shout", "input": {"txt": "a"}}, "input.txt"),
        ({"graph": "shout", "input": None}, "input"),
        ({"graph": "demo/chat", "input": {"messages": [5]}}, "input.messages"),
        ({"graph": "shout", "input": {}, "unknown": 1}, "unknown"),
        ({"graph": "shout", "input": {}, "if_running": "wait"}, "if_running"),
        ({"graph": "shout", "input": {}, "deadline": 0}, "deadline"),
        ({"graph": "shout", "input": {}, "execution_id": "with space"}, "execution_id"),
        ({"graph": "shout", "input": {}, "context": {"tone": 5}}, "context.tone"),
        ({"graph": "shout", "input": {}, "context": {"loud": True}}, "context.loud"),
        ({"graph": "ask", "input": {}, "context": {"tone": "a"}}, "context"),
        ({"graph": "shout", "input": {}, "config": {"callbacks": []}}, "config.callbacks"),
        ({"graph": "shout", "input": {}, "config": {"run_name": "x"}}, "config.run_name"),
        ({"graph": "shout", "input": {}, "config": {"max_concurrency": 1}}, "config.max_concurrency"),
        ({"graph": "shout", "input": {}, "config": {"recursion_limit": 0}}, "config.recursion_limit"),
        ({"graph": "shout", "input": {}, "config": {"recursion_limit": 5_000}}, "config.recursion_limit"),
        ({"graph": "shout", "input": {}, "config": {"tags": "one"}}, "config.tags"),
        ({"graph": "shout", "input": {}, "config": {"metadata": {"langgraph_node": "x"}}}, "config.metadata.langgraph"),
        *(
            ({"graph": "shout", "input": {}, "config": {"configurable": {key: "x"}}}, f"config.configurable.{key}")
            for key in (
                "thread_id",
                "checkpoint_id",
                "checkpoint_ns",
                "checkpoint_map",
                "execution_id",
                "__pregel_resuming",
                "__pregel_checkpointer",
                "other",
            )
        ),
        ({"graph": "shout", "input": {}, "config": {"configurable": {"size": "big"}}}, "config.configurable.size"),
    ],
)
async def test_what_a_start_may_not_have_is_named(alice: Rest, payload: dict[str, Any], field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await alice.request("POST", "/executions", json=payload)
    assert (refused.value.code, refused.value.status) == (4000, 400)
    assert field in refused.value.error["message"]


async def test_context_and_config_reach_the_graph(place: StartSite, alice: Rest) -> None:
    from langchain_core.runnables import RunnableConfig
    from langgraph.runtime import Runtime

    from tests.gateway.starts import Context, State, one_node

    seen: list[Any] = []

    async def look(state: State, config: RunnableConfig, runtime: Runtime[Context]) -> State:
        seen.append((runtime.context, config))
        return {}

    place.streaming.graphs["look"] = one_node("look", look, context=Context)
    try:
        config = {"configurable": {"size": 3}, "recursion_limit": 7, "tags": ["a"], "metadata": {"k": 1}}
        started = await alice.start("look", {}, context={"tone": "low"}, config=config)
        await alice.updates(started["execution_id"])
    finally:
        del place.streaming.graphs["look"]
    [(context, used)] = seen
    assert context == {"tone": "low"}
    assert (used["configurable"]["size"], used["recursion_limit"]) == (3, 7)
    assert "a" in used["tags"]
    assert used["metadata"]["k"] == 1


@pytest.mark.parametrize("execution_id", ["room:alice", "graph:shout"])
async def test_an_id_that_means_something_else_is_refused(alice: Rest, execution_id: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await alice.start("shout", {}, execution_id=execution_id)
    assert refused.value.code == 4000


async def test_a_running_execution_is_not_started_again(alice: Rest) -> None:
    execution_id = (await alice.start("ask", {}))["execution_id"]
    with pytest.raises(RefusedError) as refused:
        await alice.start("ask", {}, execution_id=execution_id)
    assert (refused.value.code, refused.value.status) == (4092, 409)
    assert (await alice.request("DELETE", f"/executions/{execution_id}"))["cancelled"]


@pytest.mark.parametrize("transport", ["header", "rest", "socketio", "websocket"])
async def test_a_repeated_start_is_one_run(place: StartSite, alice: Rest, transport: str) -> None:
    token, key = bearer("alice", ALL), f"key-{transport}"
    payload: dict[str, Any] = {"graph": "demo/chat", "input": {"messages": "hi"}}

    async def begin(text: str = "hi") -> Any:
        sent = {**payload, "input": {"messages": text}}
        if transport == "header":
            return await alice.request("POST", "/executions", json=sent, headers={"Idempotency-Key": key})
        return await started(place, transport, {**sent, "idempotency_key": key}, token)

    first, second = await begin(), await begin()
    assert (second["execution_id"], second["run_id"]) == (first["execution_id"], first["run_id"])
    updates = await alice.updates(first["execution_id"])
    assert [each["type"] for each in updates].count("workflow_start") == 1
    third = await begin()
    assert third["run_id"] == first["run_id"]
    assert third["position"] == first["position"]
    with pytest.raises(RefusedError) as refused:
        await begin("something else")
    assert refused.value.code == 4093
    others = await started(place, "rest", {**payload, "idempotency_key": key}, bearer("bob", ALL))
    assert others["run_id"] != first["run_id"]


async def test_a_header_and_a_field_with_different_keys_are_refused(alice: Rest) -> None:
    body: dict[str, Any] = {"graph": "shout", "input": {}, "idempotency_key": "a"}
    for key in ("b", "x" * 257):
        response = await alice.http.post("/executions", json=body, headers={"Idempotency-Key": key})
        assert (response.status_code, response.json()["error"]["code"]) == (400, 4000)


async def test_the_graphs_a_caller_may_start(place: StartSite) -> None:
    async with rest(place, bearer("bob", may_start("demo/*"))) as bob:
        [graph] = (await bob.request("GET", "/graphs"))["graphs"]
    assert (graph["name"], graph["context_schema"]) == ("demo/chat", None)
    assert graph["input_schema"]["properties"]["messages"]["type"] == "array"
    async with rest(place, bearer("alice", ALL)) as all_graphs:
        graphs = (await all_graphs.request("GET", "/graphs"))["graphs"]
    assert [each["name"] for each in graphs] == ["shout", "ask", "demo/chat"]
    assert graphs[0]["context_schema"]["properties"] == {
        "tone": {"type": "string"},
        "size": {"type": "integer"},
    }


# ---------------------------------------------------------------- limits
async def test_starts_have_a_rate_and_a_size(place: StartSite) -> None:
    with start_site(limits={"starts_per_subject": "2/minute", "start_bytes": 1_000}) as site:
        async with rest(site, bearer("alice", ALL)) as alice, rest(site, bearer("bob", ALL)) as bob:
            with pytest.raises(RefusedError) as too_large:
                await alice.start("shout", {"text": "x" * 1_000})
            assert (too_large.value.code, too_large.value.status) == (4130, 413)
            for _ in range(2):
                await alice.start("shout", {})
            with pytest.raises(RefusedError) as too_many:
                await alice.start("shout", {})
            assert (too_many.value.code, too_many.value.status) == (4296, 429)
            assert too_many.value.error["retry_after_ms"] > 0
            assert (await bob.start("shout", {}))["state"] == "running"


async def test_a_full_queue_asks_to_come_back(place: StartSite) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    from tests.gateway.starts import State, one_node

    async def wait(state: State) -> State:
        loop.call_soon_threadsafe(entered.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gate.wait(), loop))
        return {}

    graphs = {"wait": one_node("wait", wait)}
    with start_site(graphs=graphs, runs={"max_concurrent": 1, "max_queued": 1}) as site:
        async with rest(site, bearer("alice", ALL)) as alice:
            assert (await alice.start("wait", {}))["state"] == "running"
            await asyncio.wait_for(entered.wait(), 5)
            queued = await alice.start("wait", {})
            assert queued["state"] == "queued"
            response = await alice.http.post("/executions", json={"graph": "wait", "input": {}})
            assert (response.status_code, response.json()["error"]["code"]) == (429, 4295)
            assert response.headers["retry-after"] == "1"
            gate.set()
            assert (await alice.updates(queued["execution_id"]))[-1]["type"] == "workflow_complete"


async def test_a_large_input_goes_over_http(alice: Rest) -> None:
    started = await alice.start("shout", {"text": "x" * 200_000})
    last = (await alice.updates(started["execution_id"]))[-1]
    assert last["type"] == "workflow_complete"


async def test_without_authentication_only_this_machine_starts() -> None:
    with start_site(auth={"enabled": False}) as site:
        async with rest(site, None) as local:
            started = await local.start("shout", {"text": "a"}, execution_id="any")
            assert (await local.request("GET", "/executions/any"))["owner"] is None
            assert started["execution_id"] == "any"
        elsewhere = {"X-Forwarded-For": "203.0.113.7"}
        async with httpx2.AsyncClient(base_url=site.url, headers=elsewhere, trust_env=False) as proxied:
            refused = await proxied.post("/executions", json={"graph": "shout", "input": {}})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, 4030)
            assert (await proxied.get("/graphs")).json() == {"graphs": []}
            assert (await proxied.get("/executions/any")).status_code == 200


async def test_a_gateway_without_graphs_starts_nothing() -> None:
    with start_site(graphs={}) as site:
        async with rest(site, bearer("alice", ALL)) as alice:
            assert await alice.request("GET", "/graphs") == {"graphs": []}
            with pytest.raises(RefusedError) as refused:
                await alice.start("shout", {})
            assert refused.value.code == 4030
