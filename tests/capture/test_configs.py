"""`streaming.config`: arguments it takes and refuses, and what it keeps of a config that it made before."""

import logging
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from lg_streaming import StreamingModule, stream_all, stream_token
from lg_streaming.errors import BadRequestError
from tests.capture.graphs import TEXT, State, Update, graph_of, model, read

INPUT: dict[str, Any] = {"topic": "rivers"}


async def plain(state: State) -> Update:
    return {"text": (await model().ainvoke("go")).text}


decorated = stream_token(plain)


@pytest.mark.parametrize("again", [1, 2, 3])
async def test_the_last_config_names_the_only_execution(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, again: int
) -> None:
    config = streaming.config("first", owner="alice", metadata={"topic": "rain"}, priority="high")
    for _ in range(again):
        config = streaming.config(config, execution_id="second", metadata={"turn": 2})
    with caplog.at_level(logging.WARNING):
        await graph_of(decorated).ainvoke(INPUT, config)
    assert [info.execution_id for info in streaming.hub.executions()] == ["second"]
    info = streaming.hub.info("second")
    assert info is not None
    assert (info.owner, info.priority, info.metadata) == ("alice", "high", {"topic": "rain", "turn": 2})
    assert (await read(streaming, "second")).texts() == {"plain": TEXT}
    assert not caplog.records


async def test_how_a_graph_is_captured_stays_until_it_is_named_again(streaming: StreamingModule) -> None:
    known = streaming.config("first", capture="all")
    await graph_of(plain).ainvoke(INPUT, streaming.config(known, execution_id="all"))
    assert (await read(streaming, "all")).texts() == {"plain": TEXT}
    await graph_of(plain).ainvoke(INPUT, streaming.config(known, execution_id="none", capture="decorated"))
    assert (await read(streaming, "none")).texts() == {}


async def test_callbacks_and_values_of_the_callers_own_are_kept(streaming: StreamingModule) -> None:
    seen: list[str] = []

    class Chains(BaseCallbackHandler):
        def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append(str(kwargs.get("name")))

    mine: Any = {"callbacks": [Chains()], "recursion_limit": 7, "configurable": {"user": "bob"}}
    config = streaming.config(streaming.config(mine, execution_id="first"), execution_id="second")
    await graph_of(decorated).ainvoke(INPUT, config)
    assert seen
    assert config.get("recursion_limit") == 7
    assert config.get("configurable", {}).get("user") == "bob"


async def test_another_modules_config_stays_in_force(streaming: StreamingModule) -> None:
    async with StreamingModule() as other:
        await graph_of(decorated).ainvoke(INPUT, streaming.config(other.config("theirs"), execution_id="ours"))
        assert [info.execution_id for info in streaming.hub.executions()] == ["ours"]
        assert [info.execution_id for info in other.hub.executions()] == ["theirs"]


@pytest.mark.parametrize("bad", ["a b", "", ".", "..", "line\nbreak", "x" * 257, 5, b"exec-1"])
def test_an_id_that_can_name_nothing_is_refused(bad: Any) -> None:
    with pytest.raises(BadRequestError, match="execution id"):
        StreamingModule().config(execution_id=bad)


@pytest.mark.parametrize("bad", ["topic", 5, ["a"], [("a", 1)], object()])
def test_metadata_that_is_no_mapping_is_refused(bad: Any) -> None:
    streaming = StreamingModule()
    for call in (
        lambda: streaming.config("e", metadata=bad),
        lambda: streaming.hub.open("e", metadata=bad),
        lambda: streaming.hub.create(metadata=bad),
        lambda: streaming.execution("e", metadata=bad).__enter__(),
    ):
        with pytest.raises(BadRequestError, match="metadata is a mapping"):
            call()
    assert not streaming.hub.executions()


@pytest.mark.parametrize("name", ["write", "review", "model"])
async def test_a_decorated_graphs_nodes_have_the_names_they_have_in_it(streaming: StreamingModule, name: str) -> None:
    graph = stream_all(graph_of(plain, names=(name,)))
    await graph.ainvoke(INPUT, streaming.config("decorated"))
    await graph_of(plain, names=(name,)).ainvoke(INPUT, streaming.config("all", capture="all"))
    for execution_id in ("decorated", "all"):
        started = (await read(streaming, execution_id)).one("node_start")
        assert started.data["node_name"] == started.node_id == name
