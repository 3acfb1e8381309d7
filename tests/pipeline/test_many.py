"""Many executions: nothing is left of them, and none receives another's updates."""

import asyncio
import gc
import os
import random
import threading

import pytest

from lg_streaming import StreamingSettings, current_emitter, stream_token
from lg_streaming.log import MemoryLog
from lg_streaming.module import StreamingModule
from lg_streaming.pipeline.tokens import TokenPipeline
from lg_streaming.settings import RetentionSettings
from lg_streaming.testing import ScriptedChatModel
from lg_streaming.timer import TIMER
from tests.capture.graphs import State, Update, graph_of, read


@stream_token
def decorated(words: list[str]) -> None:
    for word in words:
        current_emitter().token(word)


@pytest.mark.parametrize(
    "count", [2_000 if os.environ.get("CI") else 600, pytest.param(10_000, marks=pytest.mark.soak)]
)
@pytest.mark.row("HIVE-D26", "FLOW-46")
async def test_nothing_is_left_of_executions(count: int) -> None:
    now, waiting = 0.0, TIMER.waiting  # hubs of other tests may wait for their next look
    settings = StreamingSettings(retention=RetentionSettings(ttl=1.0, record_ttl=2.0))
    threads = threading.active_count()
    gc.collect()
    others = {id(each) for each in gc.get_objects() if isinstance(each, TokenPipeline)}  # of hubs that are still open

    def clock() -> float:
        return now

    async with StreamingModule(settings, log=MemoryLog(settings.retention, monotonic=clock)) as streaming:
        hub, service = streaming.hub, streaming.tokens
        for part in (hub.registry, hub.writer, hub.writer.encoder):
            part.monotonic = clock
        for number in range(count):
            execution_id = f"e{number}"
            with streaming.execution(execution_id):
                decorated(["a", "b", "c"])
                service.stream_token(execution_id, "own", "d")
                service.stream_token(execution_id, "own", "e")
            subscription = service.get_token_stream(execution_id).subscribe()
            subscription.dispose()
            if number % 500 == 0:
                await asyncio.sleep(0)
        assert service.statistics().total_tokens == 5 * count
        assert service.get_active_token_streams() == []
        assert threading.active_count() <= threads + 1  # the one timer
        assert TIMER.waiting <= waiting + 1, "the hub's next look at its runs"
        await asyncio.sleep(0.01)
        gc.collect()
        left = [each for each in gc.get_objects() if isinstance(each, TokenPipeline) and id(each) not in others]
        assert left == []
        now = 10.0
        hub.registry.sweep()
        statistics = hub.statistics()
        assert (statistics.executions, statistics.running, statistics.subscriptions) == (0, 0, 0)
        assert statistics.dropped_late == 0
    assert TIMER.waiting <= waiting


@pytest.mark.parametrize("kind", ["async", "sync", "threaded"])
@pytest.mark.row("HIVE-D12")
async def test_two_hundred_executions_at_once_do_not_hear_each_other(streaming: StreamingModule, kind: str) -> None:
    def text_of(topic: str) -> str:
        return f"All about {topic}, and nothing else than {topic}: " + " ".join(f"{topic}-{n}" for n in range(20))

    @stream_token(batch_size=4)
    async def asynchronous(state: State) -> Update:
        chat = ScriptedChatModel(answers=[text_of(state["topic"])])
        await asyncio.sleep(random.random() / 100)
        return {"text": (await chat.ainvoke("go")).text}

    @stream_token(batch_size=4)
    def synchronous(state: State) -> Update:
        return {"text": ScriptedChatModel(answers=[text_of(state["topic"])]).invoke("go").text}

    graph = graph_of(asynchronous if kind == "async" else synchronous, names=("node",))

    async def run(number: int) -> None:
        topic, config = f"topic{number}", streaming.config(execution_id=f"e{number}")
        if kind == "threaded":
            result = await asyncio.to_thread(graph.invoke, {"topic": topic}, config)
        else:
            result = await graph.ainvoke({"topic": topic}, config)
        assert result["text"] == text_of(topic)

    waiting = TIMER.waiting
    await asyncio.gather(*(run(number) for number in range(200)))
    for number in range(200):
        found = await read(streaming, f"e{number}")
        assert found.texts() == {"node": text_of(f"topic{number}")}
    assert TIMER.waiting <= waiting + 1, "the hub's next look at its runs"


async def test_threads_of_one_node_lose_nothing(streaming: StreamingModule) -> None:
    @stream_token(buffer_size=7, batch_size=3, flush_interval=0.001)
    async def node() -> None:
        emitter = current_emitter()

        def say(name: str) -> None:
            own = emitter.scoped(message_id=name)
            for number in range(300):
                own.token(f"{number},")

        await asyncio.gather(*(asyncio.to_thread(say, str(n)) for n in range(8)))

    async with streaming.execution("e"):
        await node()
    run = await read(streaming, "e")
    told = run.texts(by=lambda update: update.metadata.message_id)
    assert told == {str(n): "".join(f"{number}," for number in range(300)) for n in range(8)}
