"""The order of what a call belongs to: its config, the runs around it, an open block, a node, the module."""

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import merge_configs
from langgraph.graph import START, StateGraph

from lg_streaming import current_emitter, stream_all, stream_token
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Run, State, Update, graph_of, model, read

pytestmark = pytest.mark.anyio


@stream_token
async def write(state: State) -> Update:
    return {"messages": [await model(f"text of {state['topic']}").ainvoke("x")]}


GRAPH = graph_of(write)


@stream_token
def write_in_a_thread(state: State) -> Update:
    return {"messages": [model(f"text of {state['topic']}").invoke("x")]}


SYNC = graph_of(write_in_a_thread)


def topics(run: Run) -> list[str]:
    return sorted(run.texts(by=lambda each: (each.metadata.run_id, each.metadata.namespace)).values())


# --- one config, several calls ----------------------------------------------------------------------------------------


async def test_one_config_for_calls_at_once_is_one_run(streaming: StreamingModule) -> None:
    config = streaming.config("e")
    await asyncio.gather(*(GRAPH.ainvoke({"topic": str(n)}, config) for n in range(5)))
    run = await read(streaming, "e")
    assert topics(run) == [f"text of {n}" for n in range(5)]
    assert run.final == "workflow_complete"


async def test_one_config_without_an_id_for_threads_at_once(streaming: StreamingModule) -> None:
    config = streaming.config()
    await asyncio.gather(
        *(
            asyncio.to_thread(
                SYNC.invoke, {"topic": str(n)}, merge_configs(config, {"configurable": {"thread_id": f"t{n}"}})
            )
            for n in range(5)
        )
    )
    for n in range(5):
        run = await read(streaming, f"t{n}")
        assert topics(run) == [f"text of {n}"]


async def test_a_config_inside_itself(streaming: StreamingModule) -> None:
    config = streaming.config("e")

    @stream_token
    async def outer(_: State) -> Update:
        await GRAPH.ainvoke({"topic": "inner"}, config)
        return {"messages": [await model("text of outer").ainvoke("x")]}

    await graph_of(outer).ainvoke({"topic": "x"}, config)
    run = await read(streaming, "e")
    assert run.texts() == {"write": "text of inner", "outer": "text of outer"}
    assert run.types.count("workflow_start") == 1
    assert "parent" not in run.updates[0].data


@pytest.mark.parametrize(
    "way", ["unpacked", "merged", "merged_twice", "with_config", "both", "three_times", "in_batch"]
)
async def test_the_ways_a_config_gets_to_a_call(streaming: StreamingModule, way: str) -> None:
    mine: Any = {"tags": ["mine"], "metadata": {"mine": 1}}
    config: Any = streaming.config("e")
    graph: Any = GRAPH
    if way == "unpacked":
        await graph.ainvoke({"topic": "x"}, {**mine, **config})
    elif way == "merged":
        await graph.ainvoke({"topic": "x"}, merge_configs(mine, config))
    elif way == "merged_twice":
        await graph.ainvoke({"topic": "x"}, merge_configs(config, merge_configs(mine, config)))
    elif way == "with_config":
        await graph.with_config(config).ainvoke({"topic": "x"})
    elif way == "both":
        await graph.with_config(config).ainvoke({"topic": "x"}, streaming.config("e"))
    elif way == "three_times":
        await (
            graph.with_config(streaming.config("e")).with_config(config).ainvoke({"topic": "x"}, streaming.config("e"))
        )
    elif way == "in_batch":
        await graph.abatch([{"topic": "x"}], [config])
    run = await read(streaming, "e")
    assert run.texts() == {"write": "text of x"}
    assert run.types.count("node_complete") <= 1
    assert run.final == "workflow_complete"
    assert "parent" not in run.updates[0].data


@pytest.mark.parametrize("owner", ["call", "service"])
async def test_the_calls_own_id_beats_the_one_of_the_service(streaming: StreamingModule, owner: str) -> None:
    """A service's ``with_config`` names every call; a call that names another execution is that one's."""
    service = GRAPH.with_config(streaming.config() if owner == "call" else streaming.config("service"))
    await service.ainvoke({"topic": "x"}, streaming.config("call"))
    run = await read(streaming, "call")
    assert run.texts() == {"write": "text of x"}
    assert run.final == "workflow_complete"
    service_info = streaming.hub.info("service")
    assert service_info is None or service_info.state != "running"


async def test_what_both_configs_say_holds(streaming: StreamingModule) -> None:
    service = GRAPH.with_config(streaming.config("e", metadata={"by": "the service"}))
    await service.ainvoke({"topic": "x"}, streaming.config("e", owner="alice", priority="low"))
    run = await read(streaming, "e")
    info = streaming.hub.info("e")
    assert info is not None
    assert (info.owner, info.priority, info.metadata) == ("alice", "low", {"by": "the service"})
    assert run.types.count("workflow_start") == 1


async def test_a_batch_with_a_config_for_each_input(streaming: StreamingModule) -> None:
    many = [f"e{n}" for n in range(8)]
    await GRAPH.abatch([{"topic": each} for each in many], [streaming.config(each, owner=each) for each in many])
    await asyncio.to_thread(
        SYNC.batch, [{"topic": each} for each in many], [streaming.config(f"s{each}") for each in many]
    )
    for each in many:
        assert topics(await read(streaming, each)) == [f"text of {each}"]
        assert topics(await read(streaming, f"s{each}")) == [f"text of {each}"]


def _in_steps() -> Any:
    return RunnableLambda(lambda inputs: inputs) | GRAPH


def _with_retry() -> Any:
    return GRAPH.with_retry(stop_after_attempt=2)


def _with_fallbacks() -> Any:
    def fail(_: object) -> Any:
        raise ValueError("this one fails")

    return RunnableLambda(fail).with_fallbacks([GRAPH])


@pytest.mark.parametrize("as_completed", [False, True])
@pytest.mark.parametrize("around", [_in_steps, _with_retry, _with_fallbacks])
async def test_a_batch_of_what_is_made_of_a_graph(
    streaming: StreamingModule, around: Any, *, as_completed: bool
) -> None:
    """LangChain begins the runs of such a batch in tasks that end at once."""
    many = [f"e{n}" for n in range(3)]
    inputs, configs = [{"topic": each} for each in many], [streaming.config(each) for each in many]
    if as_completed:
        assert len([each async for each in around().abatch_as_completed(inputs, configs)]) == len(many)
    else:
        await around().abatch(inputs, configs)
    for each in many:
        run = await read(streaming, each)
        assert topics(run) == [f"text of {each}"]
        assert run.types.count("workflow_start") == 1
        assert run.final == "workflow_complete"


async def test_a_batch_whose_start_is_cancelled(streaming: StreamingModule) -> None:
    reached = asyncio.Event()

    class Waits(AsyncCallbackHandler):
        async def on_chain_start(self, *_: Any, **__: Any) -> None:
            reached.set()
            await asyncio.Event().wait()

    configs: list[Any] = [streaming.config({"callbacks": [Waits()]}, execution_id=each) for each in ("e0", "e1")]
    task = asyncio.create_task(_in_steps().abatch([{"topic": "x"}] * 2, configs))
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for each in ("e0", "e1"):
        assert (await read(streaming, each)).final == "workflow_cancelled"


# --- two modules ------------------------------------------------------------------------------------------------------


async def test_one_modules_config_inside_anothers_node(streaming: StreamingModule) -> None:
    async with StreamingModule() as other:

        @stream_all
        async def lead(_: State) -> Update:
            await GRAPH.ainvoke({"topic": "named"}, other.config("named"))
            await GRAPH.ainvoke({"topic": "same"}, other.config("lead"))
            async with other.execution("block"):
                await GRAPH.ainvoke({"topic": "block"})
            await asyncio.gather(
                *(
                    GRAPH.ainvoke({"topic": f"many {n}"}, (streaming, other)[n % 2].config(f"many-{n}"))
                    for n in range(6)
                )
            )
            return {"messages": [await model("text of lead").ainvoke("x")]}

        await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
        assert (await read(streaming, "lead")).texts() == {"lead": "text of lead"}
        assert (await read(other, "named")).texts() == {"write": "text of named"}
        assert (await read(other, "lead")).texts() == {"write": "text of same"}
        assert (await read(other, "block")).texts() == {"write": "text of block"}
        for n in range(6):
            assert topics(await read((streaming, other)[n % 2], f"many-{n}")) == [f"text of many {n}"]
        assert (await read(other, "named")).updates[0].data["parent"]["execution_id"] == "lead"


async def test_the_activated_module_comes_last(streaming: StreamingModule) -> None:
    async with StreamingModule() as other:
        with other.activate():

            @stream_token
            async def lead(_: State) -> Update:
                await GRAPH.ainvoke({"topic": "inner"})
                return {}

            await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
            async with streaming.execution("block"):
                await GRAPH.ainvoke({"topic": "block"}, {"configurable": {"thread_id": "t"}})
            await GRAPH.ainvoke({"topic": "module"}, {"configurable": {"thread_id": "t"}})
        assert (await read(streaming, "lead")).texts() == {"write": "text of inner"}
        assert (await read(streaming, "block")).texts() == {"write": "text of block"}
        assert (await read(other, "t")).texts() == {"write": "text of module"}


# --- blocks and nodes -------------------------------------------------------------------------------------------------


async def helper(topic: str) -> None:
    """Calls a model and a plain runnable, and writes itself."""
    await model(f"text of {topic}").ainvoke("x")
    await (RunnableLambda(lambda x: x) | model(f" and more of {topic}")).ainvoke("x")
    current_emitter().event("own", {"topic": topic})


def own(run: Run) -> list[str]:
    return [each.data["topic"] for each in run.of("own")]


async def test_a_function_in_a_block_in_a_node(streaming: StreamingModule) -> None:
    @stream_all
    async def lead(_: State) -> Update:
        async with streaming.execution("block"):
            await stream_all(helper)("block")
        await helper("lead")
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
    assert (await read(streaming, "lead")).texts() == {"lead": "text of lead and more of lead"}
    assert own(await read(streaming, "lead")) == ["lead"]
    assert (await read(streaming, "block")).texts() == {"helper": "text of block and more of block"}
    assert own(await read(streaming, "block")) == ["block"]


async def test_what_is_said_in_a_block_of_another_execution_is_not_the_nodes(streaming: StreamingModule) -> None:
    @stream_all
    async def lead(_: State) -> Update:
        async with streaming.execution("block"):
            await helper("block")
        await helper("lead")
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
    assert (await read(streaming, "lead")).texts() == {"lead": "text of lead and more of lead"}
    assert own(await read(streaming, "lead")) == ["lead"]
    assert own(await read(streaming, "block")) == ["block"]


async def test_a_block_of_the_nodes_own_execution_changes_nothing(streaming: StreamingModule) -> None:
    @stream_all
    async def lead(_: State) -> Update:
        async with streaming.execution("lead"):
            await helper("lead")
            await stream_all(helper)("inner")
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
    run = await read(streaming, "lead")
    assert run.texts() == {"lead": "text of lead and more of lead", "helper": "text of inner and more of inner"}
    (namespace,) = {each.metadata.namespace for each in run.of("token") if each.metadata.node_id == "helper"}
    assert namespace is not None
    assert namespace.startswith("lead:")
    assert run.final == "workflow_complete"


async def test_blocks_in_blocks(streaming: StreamingModule) -> None:
    async with streaming.execution("a"):
        async with streaming.execution("b"):
            async with streaming.execution("a"):
                await GRAPH.ainvoke({"topic": "a in b in a"})
            await GRAPH.ainvoke({"topic": "b in a"})
        await GRAPH.ainvoke({"topic": "a"})
        await GRAPH.ainvoke({"topic": "c"}, streaming.config("c"))
    assert topics(await read(streaming, "a")) == ["text of a", "text of a in b in a"]
    assert topics(await read(streaming, "b")) == ["text of b in a"]
    assert topics(await read(streaming, "c")) == ["text of c"]
    assert (await read(streaming, "c")).updates[0].data["parent"]["execution_id"] == "a"


@pytest.mark.parametrize("decorated", [False, True])
async def test_blocks_in_blocks_in_a_node(streaming: StreamingModule, *, decorated: bool) -> None:
    graph = stream_all(GRAPH) if decorated else GRAPH

    @stream_all
    async def lead(_: State) -> Update:
        async with streaming.execution("one"):
            async with streaming.execution("two"):
                await graph.ainvoke({"topic": "two"})
                async with streaming.execution("three"):
                    await graph.ainvoke({"topic": "three"})
                    await stream_all(helper)("three")
            await graph.ainvoke({"topic": "one"})
        await graph.ainvoke({"topic": "lead"})
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
    for each in ("lead", "one", "two"):
        assert topics(await read(streaming, each)) == [f"text of {each}"]
    assert topics(await read(streaming, "three")) == ["text of three", "text of three and more of three"]


@pytest.mark.parametrize("own", ["block", "blocks", "config"])
@pytest.mark.parametrize("around", ["block", "config"])
async def test_a_decorated_graph_in_an_execution_in_an_undecorated_node(
    streaming: StreamingModule, around: str, own: str
) -> None:
    """The node is no part of that execution: it is not over when the execution is."""
    graph = stream_all(GRAPH)

    async def plain(_: State) -> Update:
        if own == "config":
            await graph.ainvoke({"topic": "inner"}, streaming.config("inner"))
            return {}
        around_it = streaming.execution("around") if own == "blocks" else nullcontext()
        async with around_it, streaming.execution("inner"):
            await graph.ainvoke({"topic": "inner"})
        return {}

    if around == "block":
        async with streaming.execution("outer"):
            await graph_of(plain).ainvoke({"topic": "x"})
    else:
        await graph_of(plain).ainvoke({"topic": "x"}, streaming.config("outer"))
    run = await read(streaming, "inner")
    assert topics(run) == ["text of inner"]
    assert [each.metadata.node_id for each in run.of("node_start")] == ["write"]
    assert [each.metadata.node_id for each in run.of("node_complete")] == ["write"]
    assert not (await read(streaming, "outer")).of("node_start")


async def test_a_config_in_a_block_in_a_node_in_a_block(streaming: StreamingModule) -> None:
    @stream_all
    async def lead(_: State) -> Update:
        async with streaming.execution("inner"):
            await GRAPH.ainvoke({"topic": "child"}, streaming.config("child"))
            await GRAPH.ainvoke({"topic": "inner"})
        return {}

    async with streaming.execution("outer"):
        await graph_of(lead).ainvoke({"topic": "x"})
        await GRAPH.ainvoke({"topic": "outer"})
    assert topics(await read(streaming, "outer")) == ["text of outer"]
    assert topics(await read(streaming, "inner")) == ["text of inner"]
    assert topics(await read(streaming, "child")) == ["text of child"]


async def test_a_block_in_an_undecorated_node_of_a_named_call(streaming: StreamingModule) -> None:
    async def plain(_: State) -> Update:
        async with streaming.execution("block"):
            await GRAPH.ainvoke({"topic": "block"})
            await stream_all(helper)("block")
        await GRAPH.ainvoke({"topic": "call"})
        return {}

    await graph_of(plain).ainvoke({"topic": "x"}, streaming.config("call"))
    assert topics(await read(streaming, "call")) == ["text of call"]
    assert (await read(streaming, "block")).texts() == {
        "write": "text of block",
        "helper": "text of block and more of block",
    }


async def test_a_subgraph_is_its_parents_unless_it_is_named(streaming: StreamingModule) -> None:
    named = GRAPH.with_config(streaming.config("named"))

    @stream_all
    async def lead(_: State) -> Update:
        await GRAPH.ainvoke({"topic": "inner"})
        await named.ainvoke({"topic": "named"})
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("lead", lead).add_node("sub", GRAPH).add_node("other", named)
    builder.add_edge(START, "lead").add_edge("lead", "sub").add_edge("sub", "other")
    await builder.compile().ainvoke({"topic": "x"}, streaming.config("lead"))
    assert topics(await read(streaming, "lead")) == ["text of inner", "text of x"]
    assert topics(await read(streaming, "named")) == ["text of named", "text of x"]


async def test_the_callers_stream_of_a_named_child_is_its_own(streaming: StreamingModule) -> None:
    """A node publishes as its text the pieces that a child of another execution streams to it."""

    @stream_all
    async def lead(_: State) -> Update:
        child = GRAPH.astream({"topic": "child"}, streaming.config("child"), stream_mode="messages")
        async for message, _about in child:
            current_emitter().token(message.text)
        return {}

    @stream_all
    def lead_in_a_thread(_: State) -> Update:
        for message, _about in SYNC.stream({"topic": "child"}, streaming.config("child2"), stream_mode="messages"):
            current_emitter().token(message.text)
        return {}

    await graph_of(lead, lead_in_a_thread).ainvoke({"topic": "x"}, streaming.config("lead"))
    run = await read(streaming, "lead")
    assert run.texts() == {"lead": "text of child", "lead_in_a_thread": "text of child"}
    assert topics(await read(streaming, "child")) == ["text of child"]
