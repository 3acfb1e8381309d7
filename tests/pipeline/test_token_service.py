"""Token streams as a service."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from reactivex.testing import TestScheduler

from lg_streaming import StreamHub, StreamUpdate, current_emitter, stream_token
from lg_streaming.errors import BadRequestError, TokenStreamingError
from lg_streaming.module import StreamingModule
from lg_streaming.pipeline import TokenOptions
from lg_streaming.views import TokenStats, TokenStreamingService
from tests.pipeline.streams import seen, texts, tokens


def upper(token: str, _: Mapping[str, Any]) -> str:
    return token.upper()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.row("HIVE-86")
async def test_the_seeds_own_test(streaming: StreamingModule, clock: TestScheduler) -> None:
    service = streaming.tokens
    service.initialize_token_stream("exec", "node")
    (stream,) = service.get_active_token_streams()
    assert (stream.key, stream.buffer_size) == (("exec", "node"), 50)
    service.close_token_stream("exec", "node")
    service.initialize_token_stream("exec", "node", {"buffer_size": 3})
    service.stream_token("exec", "node", "a")
    service.stream_token("exec", "node", "b")
    service.flush_tokens("exec", "node")
    assert texts(streaming.hub, "exec") == ["a", "b"]
    await streaming.hub.close("exec")


@pytest.mark.row("HIVE-46")
async def test_a_second_initialisation_keeps_the_first(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture
) -> None:
    service = streaming.tokens
    service.initialize_token_stream("e", "n", TokenOptions.from_arguments(buffer_size=7))
    with caplog.at_level(logging.WARNING):
        service.initialize_token_stream("e", "n", {"buffer_size": 8})
    assert "is open already" in caplog.text
    assert [each.buffer_size for each in service.get_active_token_streams()] == [7]
    service.close_token_stream("e", "n")


@pytest.mark.row("HIVE-47")
async def test_a_stream_that_is_not_there_is_opened_with_the_defaults(
    streaming: StreamingModule, clock: TestScheduler
) -> None:
    service = streaming.tokens
    streaming.hub.configure("e", token={"buffer_size": 2, "first_token_immediately": False})
    service.stream_token("e", "n", "a")
    assert texts(streaming.hub) == []
    service.stream_token("e", "n", "b", {"mood": "good"}, role="user")
    service.stream_token("e", "n", "")
    assert tokens(streaming.hub) == [
        {"content": "a", "index": 0, "role": "ai"},
        {"content": "b", "index": 1, "role": "user"},
    ]
    assert seen(streaming.hub)[-1].metadata.node_id == "n"
    await streaming.hub.close("e")


@pytest.mark.row("HIVE-47")
@pytest.mark.row("HIVE-D12")
async def test_metadata_goes_where_it_can_replace_nothing(streaming: StreamingModule) -> None:
    service = streaming.tokens
    service.initialize_token_stream("e:1", "a:b", {"include_metadata": True})
    service.stream_token("e:1", "a:b", "x", {"execution_id": "forged", "sequence_number": 99})
    await streaming.hub.close("e:1")
    update = seen(streaming.hub, "e:1")[1]
    assert update.data["metadata"] == {"execution_id": "forged", "sequence_number": 99}
    assert (update.metadata.execution_id, update.metadata.sequence_number) == ("e:1", 2)
    assert service.get_active_token_streams() == []


@pytest.mark.row("HIVE-48")
@pytest.mark.row("HIVE-51")
async def test_flush_and_close(streaming: StreamingModule, clock: TestScheduler) -> None:
    service = streaming.tokens
    for execution_id, node_id in (("a", "n"), ("a", "m"), ("b", "n")):
        service.initialize_token_stream(execution_id, node_id, {"first_token_immediately": False})
        service.stream_token(execution_id, node_id, f"{execution_id}{node_id}")
    assert texts(streaming.hub, "a") == []
    service.flush_tokens("a", "n")
    assert texts(streaming.hub, "a") == ["an"]
    service.close_execution_token_streams("a")
    assert texts(streaming.hub, "a") == ["an", "am"]
    assert [each.key for each in service.get_active_token_streams()] == [("b", "n")]
    assert texts(streaming.hub, "b") == []
    service.close_token_stream("b", "n")
    service.close_token_stream("b", "n")
    service.flush_tokens("nobody", "knows")
    assert texts(streaming.hub, "b") == ["bn"]
    for execution_id in "ab":
        await streaming.hub.close(execution_id)


@pytest.mark.parametrize("end", ["close", "fail", "cancel"])
@pytest.mark.row("HIVE-D9")
@pytest.mark.row("HIVE-D26")
async def test_the_runs_end_lets_out_what_is_held_and_closes(
    streaming: StreamingModule, clock: TestScheduler, end: str
) -> None:
    streaming.tokens.stream_token("e", "n", "a")
    streaming.tokens.stream_token("e", "n", "b")
    ends = {"close": streaming.hub.close, "fail": streaming.hub.fail, "cancel": streaming.hub.cancel}
    await ends[end]("e", "reason")
    assert [each.type for each in seen(streaming.hub)][1:3] == ["token", "token"]
    assert seen(streaming.hub)[-1].is_final
    assert streaming.tokens.get_active_token_streams() == []


async def test_a_block_ends_them_too(streaming: StreamingModule, clock: TestScheduler) -> None:
    with streaming.execution("e"):
        streaming.tokens.stream_token("e", "n", "a")
        streaming.tokens.stream_token("e", "n", "b")
    assert texts(streaming.hub) == ["a", "b"]
    assert streaming.tokens.get_active_token_streams() == []


@pytest.mark.parametrize(("execution_id", "node_id"), [("a b", "n"), ("", "n"), ("e", ""), ("e", None)])
async def test_bad_ids(streaming: StreamingModule, execution_id: str, node_id: Any) -> None:
    for call in (
        lambda: streaming.tokens.initialize_token_stream(execution_id, node_id),
        lambda: streaming.tokens.stream_token(execution_id, node_id, "x"),
    ):
        with pytest.raises((BadRequestError, TokenStreamingError)):
            call()
    with pytest.raises(TokenStreamingError):
        streaming.tokens.initialize_token_stream("e", "n", {"buffer_size": 5000})


@pytest.mark.row("HIVE-49")
@pytest.mark.row("HIVE-D11")
@pytest.mark.row("HIVE-D28")
async def test_readers_get_the_processed_stream_early_and_late(streaming: StreamingModule) -> None:
    service = streaming.tokens
    early: list[StreamUpdate] = []
    one: list[StreamUpdate] = []
    service.get_token_stream("e").subscribe(early.append)
    service.get_token_stream("e", "n").subscribe(one.append)
    service.initialize_token_stream("e", "n", {"processor": upper, "filter": {"min_length": 2}})
    for word in ("ab", "c", "de"):
        service.stream_token("e", "n", word)
        service.stream_token("e", "m", word)
    service.stream_token("e", "m", "hm", type="thinking")
    await streaming.hub.close("e")
    late: list[StreamUpdate] = []
    completed = asyncio.Event()
    service.get_token_stream("e").subscribe(late.append, on_completed=completed.set)
    await asyncio.wait_for(completed.wait(), 5)
    await until(lambda: len(early) == len(late) and len(one) == 2)
    assert joined_by_node(late) == {"n": "ABDE", "m": "abcdehm"}
    assert [each.data["content"] for each in one] == ["AB", "DE"]
    assert [each.position for each in early] == [each.position for each in late]


def joined_by_node(updates: list[StreamUpdate]) -> dict[str | None, str]:
    found: dict[str | None, str] = {}
    for each in updates:
        found[each.metadata.node_id] = found.get(each.metadata.node_id, "") + each.data["content"]
    return found


@pytest.mark.row("HIVE-50")
@pytest.mark.row("HIVE-D16")
async def test_the_global_stream_has_all_executions_once(streaming: StreamingModule) -> None:
    service = streaming.tokens
    service.stream_token("a", "n", "before")
    got: list[StreamUpdate] = []
    subscription = service.get_global_token_stream().subscribe(got.append)

    @stream_token
    def node() -> None:
        current_emitter().token("from a node")

    await asyncio.to_thread(in_execution, streaming, "b", node)
    service.stream_token("a", "n", " and after")
    await streaming.hub.close("a")
    await until(lambda: len(got) == 3)
    await asyncio.to_thread(in_execution, streaming, "b", node)  # another run of the same execution
    await until(lambda: len(got) == 4)
    by_execution = {(each.metadata.execution_id, each.metadata.sequence_number, each.data["content"]) for each in got}
    assert {(execution, text) for execution, _, text in by_execution} == {
        ("a", "before"),
        ("a", " and after"),
        ("b", "from a node"),
    }
    assert len(by_execution) == len(got) == 4
    subscription.dispose()
    service.stream_token("c", "n", "unheard")
    await streaming.hub.close("c")
    assert len(got) == 4


def in_execution(streaming: StreamingModule, execution_id: str, call: Callable[[], object]) -> None:
    with streaming.execution(execution_id):
        call()


def test_the_global_stream_without_a_loop() -> None:
    streaming = StreamingModule()
    got: list[str] = []
    subscription = streaming.tokens.get_global_token_stream().subscribe(
        lambda update: got.append(update.data["content"])
    )
    for execution_id in ("a", "b"):
        in_execution(streaming, execution_id, lambda name=execution_id: streaming.tokens.stream_token(name, "n", name))

    async def end() -> None:
        await until(lambda: len(got) == 2)
        subscription.dispose()
        await streaming.aclose()

    asyncio.run(end())
    assert sorted(got) == ["a", "b"]


async def test_the_global_stream_begins_now_for_executions_without_an_open_stream(streaming: StreamingModule) -> None:
    await asyncio.to_thread(in_execution, streaming, "a", lambda: streaming.tokens.stream_token("a", "n", "before"))
    got: list[str] = []
    subscription = streaming.tokens.get_global_token_stream().subscribe(
        lambda update: got.append(update.data["content"])
    )
    await asyncio.to_thread(in_execution, streaming, "a", lambda: streaming.tokens.stream_token("a", "n", "after"))
    await until(lambda: got == ["after"])
    subscription.dispose()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_hub_that_closes_ends_global_streams_which_do_not_complete(in_thread: bool) -> None:
    streaming = StreamingModule()
    got: list[str] = []
    completed: list[bool] = []

    def subscribe() -> None:
        streaming.tokens.get_global_token_stream().subscribe(
            lambda update: got.append(update.data["content"]), on_completed=lambda: completed.append(True)
        )

    await (asyncio.to_thread(subscribe) if in_thread else asyncio.sleep(0, subscribe()))
    streaming.tokens.stream_token("a", "n", "first")
    streaming.tokens.flush_tokens("a", "n")
    await until(lambda: got == ["first"])
    streaming.tokens.stream_token("a", "n", "last")
    await asyncio.wait_for(streaming.aclose(), 0.9)
    assert got == ["first", "last"]
    assert not completed


@pytest.mark.row("HIVE-50")
async def test_statistics(clock: TestScheduler) -> None:
    now = 100.0
    hub = StreamHub(monotonic=lambda: now)
    service = TokenStreamingService(hub)
    got: list[TokenStats] = []
    subscription = service.get_token_stats(interval=5.0, scheduler=clock).subscribe(got.append)
    clock.advance_by(0.01)
    assert got == [TokenStats(active_streams=0, total_tokens=0, tokens_per_second=0.0)]
    now = 105.0
    for _ in range(20):
        service.stream_token("e", "n", "x")
    clock.advance_by(5.0)
    assert got[-1] == TokenStats(active_streams=1, total_tokens=20, tokens_per_second=4.0)
    now = 111.0
    assert service.statistics().tokens_per_second == 2.0
    now = 200.0
    assert service.statistics() == TokenStats(active_streams=1, total_tokens=20, tokens_per_second=0.0)
    subscription.dispose()
    await hub.close("e")
    assert service.statistics().active_streams == 0
    await hub.aclose()


@pytest.mark.row("HIVE-52")
async def test_active_streams_are_those_of_nodes_too(streaming: StreamingModule, clock: TestScheduler) -> None:
    service = streaming.tokens

    @stream_token(filter={"min_length": 2}, first_token_immediately=False)
    def node() -> None:
        for word in ("ab", "c", "de"):
            current_emitter().token(word)
        (stream,) = service.get_active_token_streams()
        assert stream.key == ("e", "node")
        assert stream.config.first_token_immediately is False
        assert (stream.total_tokens, stream.rejected, stream.buffered, stream.delivered) == (3, 1, 2, 0)
        service.flush_tokens("e", "node")
        (stream,) = service.get_active_token_streams()
        assert (stream.buffered, stream.delivered, stream.updates, stream.failures) == (0, 2, 1, 0)

    with streaming.execution("e"):
        node()
    assert service.get_active_token_streams() == []
    assert service.statistics().total_tokens == 3


@pytest.mark.row("HIVE-53")
@pytest.mark.row("HIVE-D28")
async def test_idle_streams_are_closed_unless_their_execution_runs(
    streaming: StreamingModule, clock: TestScheduler
) -> None:
    now = 0.0
    service = TokenStreamingService(streaming.hub, clock=lambda: now)
    service.initialize_token_stream("waits", "n")
    service.stream_token("runs", "n", "x")
    now = 299.0
    streaming.hub.registry.sweep()
    assert len(service.get_active_token_streams()) == 2
    now = 301.0
    streaming.hub.registry.sweep()
    assert [each.key for each in service.get_active_token_streams()] == [("runs", "n")]
    await streaming.hub.close("runs")


async def test_a_batch_that_is_too_large_leaves_in_pieces_that_join(clock: TestScheduler) -> None:
    from lg_streaming import StreamingSettings
    from lg_streaming.settings import LimitSettings

    async with StreamingModule(StreamingSettings(limits=LimitSettings(update_bytes=2_000))) as streaming:
        streaming.tokens.initialize_token_stream("e", "n", {"first_token_immediately": False})
        for letter in "abc":
            streaming.tokens.stream_token("e", "n", letter * 900)
        await streaming.hub.close("e")
        assert "".join(texts(streaming.hub)) == "a" * 900 + "b" * 900 + "c" * 900
