"""However a graph is called, each token arrives once, in order, and nothing the graph does changes."""

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig

from lg_streaming import stream_event, stream_progress, stream_token
from lg_streaming.module import StreamingModule
from tests.capture.graphs import TEXT, Input, State, Update, collect, graph_of, model, read


@stream_token
async def write(state: State) -> Update:
    return {"text": (await model().ainvoke(state["topic"])).text}


@stream_token
def write_sync(state: State) -> Update:
    return {"text": model().invoke(state["topic"]).text}


INPUT: Input = {"topic": "rivers"}


@pytest.mark.row("HIVE-29", "HIVE-D1")
async def test_an_async_node_under_ainvoke(streaming: StreamingModule) -> None:
    result = await graph_of(write).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result == {"topic": "rivers", "text": TEXT, "messages": []}
    run = await read(streaming, "e")
    assert run.types[:2] == ["workflow_start", "node_start"]
    assert run.types[-2:] == ["node_complete", "workflow_complete"]
    assert set(run.types[2:-2]) == {"token"}
    sizes = [token.data.get("batch_size", 1) for token in run.of("token")]
    assert sizes[0] == 1
    assert max(sizes) == 10
    assert [token.data["index"] for token in run.of("token")] == [sum(sizes[:n]) for n in range(len(sizes))]
    assert len({token.metadata.message_id for token in run.of("token")}) == 1
    assert run.texts() == {"write": TEXT}


@pytest.mark.row("HIVE-D27")
async def test_the_graph_runs_once_and_its_tokens_are_the_models(streaming: StreamingModule) -> None:
    runs = 0

    @stream_token(flush_interval=0)
    async def counted(state: State) -> Update:
        nonlocal runs
        runs += 1
        return {"text": (await model().ainvoke(state["topic"])).text}

    modes: Any = ["values", "messages"]
    yielded = await collect(graph_of(counted).astream(INPUT, streaming.config(execution_id="e"), stream_mode=modes))
    assert runs == 1
    assert [state["text"] for mode, state in yielded if mode == "values" and "text" in state] == [TEXT]
    said = [chunk.text async for chunk in model().astream("rivers") if chunk.text]
    assert [token.data["content"] for token in (await read(streaming, "e")).of("token")] == said


async def test_a_sync_node_under_ainvoke(streaming: StreamingModule) -> None:
    await graph_of(write_sync).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).texts() == {"write_sync": TEXT}


async def test_a_sync_node_under_invoke_in_a_thread(streaming: StreamingModule) -> None:
    await asyncio.to_thread(graph_of(write_sync).invoke, INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).texts() == {"write_sync": TEXT}


async def test_a_sync_call_that_blocks_the_loop_still_streams_as_it_goes(streaming: StreamingModule) -> None:
    seen: list[str] = []
    sub = streaming.hub.observe("e", types=["token"], in_thread=True).subscribe(
        lambda u: seen.append(u.data["content"])
    )
    graph_of(write_sync).invoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    while len(seen) < len(run.of("token")):
        await asyncio.sleep(0.001)
    sub.dispose()
    assert "".join(seen) == TEXT


def test_without_any_event_loop() -> None:
    streaming = StreamingModule()
    result = graph_of(write_sync).invoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == TEXT

    async def look() -> dict[Any, str]:
        async with streaming:
            return (await read(streaming, "e")).texts()

    assert asyncio.run(look()) == {"write_sync": TEXT}


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "custom", "debug", "checkpoints", "tasks"])
async def test_astream_in_every_mode(streaming: StreamingModule, mode: Any) -> None:
    await collect(graph_of(write).astream(INPUT, streaming.config(execution_id="e"), stream_mode=mode))
    assert (await read(streaming, "e")).texts() == {"write": TEXT}


async def test_astream_messages_gives_the_caller_what_it_gives_without_us(streaming: StreamingModule) -> None:
    async def plain(state: State) -> Update:
        return {"text": (await model().ainvoke(state["topic"])).text}

    theirs = await collect(graph_of(plain, names=("write",)).astream(INPUT, stream_mode="messages"))
    with_us = await collect(graph_of(write).astream(INPUT, streaming.config(execution_id="e"), stream_mode="messages"))
    assert [chunk.content for chunk, _ in with_us] == [chunk.content for chunk, _ in theirs]


async def test_stream_in_a_thread(streaming: StreamingModule) -> None:
    graph = graph_of(write_sync)
    config = streaming.config(execution_id="e")
    await asyncio.to_thread(lambda: list(graph.stream(INPUT, config, stream_mode=["values", "messages"])))
    assert (await read(streaming, "e")).texts() == {"write_sync": TEXT}


async def test_astream_events_v2(streaming: StreamingModule) -> None:
    events = await collect(graph_of(write).astream_events(INPUT, streaming.config(execution_id="e"), version="v2"))
    streamed = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(streamed) == TEXT
    assert (await read(streaming, "e")).texts() == {"write": TEXT}


@pytest.mark.parametrize("node", [write, write_sync])
async def test_astream_events_v3(streaming: StreamingModule, node: Callable[[State], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph warns that this interface is a beta
        stream: Any = await graph_of(node).astream_events(INPUT, streaming.config(execution_id="e"), version="v3")  # pyright: ignore[reportGeneralTypeIssues]
        await collect(stream)
    assert (await read(streaming, "e")).texts() == {node.__name__: TEXT}


async def test_a_chain_with_the_config(streaming: StreamingModule) -> None:
    @stream_token
    async def chain(state: State, config: RunnableConfig) -> Update:
        return {"text": await (model() | StrOutputParser()).ainvoke(state["topic"], config)}

    result = await graph_of(chain).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == TEXT
    assert (await read(streaming, "e")).texts() == {"chain": TEXT}


async def test_model_astream_in_the_node(streaming: StreamingModule) -> None:
    @stream_token
    async def streamer(state: State) -> Update:
        return {"text": "".join([chunk.text async for chunk in model().astream(state["topic"])])}

    await graph_of(streamer).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).texts() == {"streamer": TEXT}


async def test_abatch_makes_an_execution_of_each_input(streaming: StreamingModule) -> None:
    configs = [streaming.config(execution_id=f"e{n}") for n in range(3)]
    await graph_of(write).abatch([INPUT] * 3, configs)
    for n in range(3):
        assert (await read(streaming, f"e{n}")).texts() == {"write": TEXT}


async def test_abatch_in_the_node_keeps_the_messages_apart(streaming: StreamingModule) -> None:
    @stream_token
    async def many(state: State) -> Update:
        answers = await model().abatch([state["topic"]] * 3)
        return {"text": "|".join(answer.text for answer in answers)}

    await graph_of(many).ainvoke(INPUT, streaming.config(execution_id="e"))
    texts = (await read(streaming, "e")).texts(by=lambda update: update.metadata.message_id)
    assert list(texts.values()) == [TEXT] * 3


@pytest.mark.row("HIVE-16")
async def test_stacked_decorators_in_any_order_stream_once(streaming: StreamingModule) -> None:
    async def node(state: State) -> Update:
        return {"text": (await model().ainvoke(state["topic"])).text}

    stacked = stream_token(stream_event(stream_progress(stream_token(node))))
    reverse = stream_progress(stream_token(stream_event(node)))
    for execution_id, decorated in (("a", stacked), ("b", reverse)):
        await graph_of(decorated).ainvoke(INPUT, streaming.config(execution_id=execution_id))
        run = await read(streaming, execution_id)
        assert run.texts() == {"node": TEXT}
        assert len(run.of("node_start")) == len(run.of("node_complete")) == 1


async def test_the_activated_module_sees_a_plain_call(streaming: StreamingModule) -> None:
    with streaming.activate():
        await graph_of(write).ainvoke(INPUT, {"configurable": {"thread_id": "thread-1"}})
        await graph_of(write).ainvoke(INPUT, {"configurable": {"execution_id": "exec-1", "thread_id": "thread-2"}})
    await graph_of(write).ainvoke(INPUT, {"configurable": {"thread_id": "thread-3"}})
    run = await read(streaming, "thread-1")
    assert (run.texts(), run.final) == ({"write": TEXT}, "workflow_complete")
    assert (await read(streaming, "exec-1")).texts() == {"write": TEXT}
    assert sorted(await streaming.hub.log.executions()) == ["exec-1", "thread-1"]


@pytest.mark.row("HIVE-D5")
async def test_without_ids_the_run_id_names_the_execution(streaming: StreamingModule) -> None:
    with streaming.activate():
        await graph_of(write).ainvoke(INPUT)
    (execution_id,) = await streaming.hub.log.executions()
    assert (await read(streaming, execution_id)).texts() == {"write": TEXT}


async def test_an_execution_block_brackets_the_run(streaming: StreamingModule) -> None:
    async with streaming.execution("e", owner="alice", metadata={"why": "test"}) as block:
        await graph_of(write).ainvoke(INPUT)
        block.emitter.custom("note", {"between": True})
        await graph_of(write).ainvoke(INPUT)
    run = await read(streaming, "e")
    assert run.updates[0].data["metadata"] == {"why": "test"}
    assert run.final == "workflow_complete"
    assert list(run.texts(by=lambda update: update.metadata.namespace).values()) == [TEXT, TEXT]


async def test_a_graph_without_decorated_nodes_is_silent(streaming: StreamingModule) -> None:
    async def plain(state: State) -> Update:
        return {"text": (await model().ainvoke(state["topic"])).text}

    with streaming.activate():
        await graph_of(plain).ainvoke(INPUT, {"configurable": {"thread_id": "e"}})
    assert await streaming.hub.log.executions() == ()


async def test_a_graph_that_was_given_its_execution_is_its_run_from_the_start(streaming: StreamingModule) -> None:
    async def broken(state: State) -> Update:
        raise ValueError("before any decorated node")

    with pytest.raises(ValueError, match="before any"):
        await graph_of(broken, write).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.types == ["workflow_start", "workflow_error"]


@pytest.mark.row("HIVE-15")
@pytest.mark.row("HIVE-17")
async def test_switched_off_or_without_a_module_the_node_is_the_plain_node(streaming: StreamingModule) -> None:
    @stream_progress(enabled=False)
    @stream_token(enabled=False)
    async def off(state: State) -> Update:
        return {"text": (await model().ainvoke(state["topic"])).text}

    with streaming.activate():
        assert (await graph_of(off).ainvoke(INPUT, {"configurable": {"thread_id": "e"}}))["text"] == TEXT
    assert (await graph_of(write).ainvoke(INPUT))["text"] == TEXT
    assert await streaming.hub.log.executions() == ()


@pytest.mark.row("HIVE-17")
async def test_an_execution_can_switch_a_decorator_off(streaming: StreamingModule) -> None:
    streaming.hub.configure("e", token={"enabled": False})
    await graph_of(write).ainvoke(INPUT, streaming.config(execution_id="e"))
    await graph_of(write).ainvoke(INPUT, streaming.config(execution_id="f"))
    assert (await read(streaming, "e")).of("token") == []
    assert (await read(streaming, "f")).texts() == {"write": TEXT}


@pytest.mark.row("FLOW-46")
async def test_two_hundred_executions_at_once_do_not_mix(streaming: StreamingModule) -> None:
    @stream_token
    async def echo(state: State) -> Update:
        return {"text": (await model(state["topic"] * 3).ainvoke("go")).text}

    @stream_token
    def echo_sync(state: State) -> Update:
        return {"text": model(state["topic"] * 3).invoke("go").text}

    graph = graph_of(echo, echo_sync)
    await asyncio.gather(
        *(graph.ainvoke({"topic": f"topic {n} and more. "}, streaming.config(execution_id=f"e{n}")) for n in range(200))
    )
    for n in range(200):
        run = await read(streaming, f"e{n}")
        said = f"topic {n} and more. " * 3
        assert run.texts() == {"echo": said, "echo_sync": said}
        assert run.final == "workflow_complete"
