"""Contract of every ready sink, and of those that call functions, log and queue."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from lg_streaming import StreamUpdate
from lg_streaming.errors import SinkError, StreamingConfigError
from lg_streaming.hub import ClosableSink, CloseReason, PageSink, SendPolicy, Sink, StreamHub
from lg_streaming.hub.sink import AnySink, PolicySink
from lg_streaming.sinks import CallbackSink, JsonLinesSink, LoggingSink, QueueSink, WebhookSink
from tests.hub.helpers import MakeHub, contents, publish_many, seqs, soon, types, until, upto
from tests.sinks.endpoint import Endpoint, endpoint


class Reader:
    """A sink of each kind, and the numbers of what came through it."""

    def __init__(self, sink: AnySink, numbers: Callable[[], list[int]]) -> None:
        self.sink = sink
        self.numbers = numbers


@asynccontextmanager
async def reader_of(kind: str, folder: Path, place: Endpoint) -> AsyncGenerator[Reader]:
    got: list[StreamUpdate] = []
    if kind == "callback":
        yield Reader(CallbackSink(got.append), lambda: seqs(got))
    elif kind == "async callback":

        async def take(update: StreamUpdate) -> None:
            got.append(update)

        yield Reader(CallbackSink(take), lambda: seqs(got))
    elif kind == "queue":
        sink = QueueSink()

        async def read() -> None:
            got.extend([update async for update in sink])

        task = asyncio.create_task(read())
        yield Reader(sink, lambda: seqs(got))
        await soon(task)
    elif kind == "json lines":
        path = folder / "updates.jsonl"
        yield Reader(JsonLinesSink(path), lambda: [each["metadata"]["sequence_number"] for each in lines(path)])
    elif kind == "logging":
        with records_of("test.updates") as records:
            numbers = lambda: [cast("int", cast("tuple[Any, ...]", record.args)[1]) for record in records]  # noqa: E731
            yield Reader(LoggingSink("test.updates"), numbers)
    else:
        yield Reader(WebhookSink(place.url, batch_interval=0.0), place.numbers)


KINDS = ["callback", "async callback", "queue", "json lines", "logging", "webhook"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def records_of(name: str) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def collect() -> Generator[list[logging.LogRecord]]:
        handler, logger = _Records(), logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        yield handler.records
        logger.removeHandler(handler)

    return collect()


@pytest.fixture
def place() -> Generator[Endpoint]:
    with endpoint() as running:
        yield running


@pytest.mark.row("AOS-24", "AOS-15")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_ready_sink_gets_all_in_order_and_is_closed(
    hub: StreamHub, kind: str, tmp_path: Path, place: Endpoint
) -> None:
    async with reader_of(kind, tmp_path, place) as reader:
        sink = reader.sink
        assert isinstance(sink, (Sink, PageSink))
        assert sink.is_active()
        publish_many(hub, "e", range(700))
        attachment = hub.attach("e", sink)
        await soon(hub.sinks.flush("e"))
        for number in range(300):
            hub.publish("e", "token", number)
            await asyncio.sleep(0)
        await hub.close("e")
        await soon(attachment.wait())
        await until(lambda: reader.numbers() == upto(1_002))
        assert (attachment.reason, attachment.errors, attachment.delivered) == ("completed", 0, 1_002)
        assert not sink.is_active()
        assert isinstance(sink, ClosableSink)
        await sink.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_ready_sink_that_is_detached_ends(hub: StreamHub, kind: str, tmp_path: Path, place: Endpoint) -> None:
    async with reader_of(kind, tmp_path, place) as reader:
        attachment = hub.attach("e", reader.sink)
        publish_many(hub, "e", range(10))
        await soon(hub.sinks.flush("e"))
        attachment.detach()
        await soon(attachment.wait())
        publish_many(hub, "e", range(10))
        await until(lambda: reader.numbers() == upto(11))
        assert not reader.sink.is_active()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_ready_sink_that_was_never_sent_to_closes(
    hub: StreamHub, kind: str, tmp_path: Path, place: Endpoint
) -> None:
    async with reader_of(kind, tmp_path, place) as reader:
        attachment = hub.attach("e", reader.sink)
        await hub.aclose()
        await soon(attachment.wait())
        assert attachment.reason == "hub_closed"
        assert attachment.errors == 0


# ---------------------------------------------------------------- functions
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_plain_function_is_called_in_one_thread_of_its_own_or_on_the_loop(
    hub: StreamHub, in_thread: bool
) -> None:
    threads: set[threading.Thread] = set()
    reasons: list[CloseReason] = []

    def note(update: StreamUpdate) -> None:
        threads.add(threading.current_thread())

    sink = CallbackSink(note, on_closed=reasons.append, id="mine", in_thread=in_thread)
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(100))
    await soon(hub.sinks.flush("e"))
    await hub.close("e")
    await soon(attachment.wait())
    assert attachment.sink_id == "mine"
    assert len(threads) == 1
    assert (threading.current_thread() in threads) is not in_thread
    assert reasons == ["completed"]


async def test_a_function_that_blocks_does_not_hold_up_the_loop_nor_another_sink(hub: StreamHub) -> None:
    go_on = threading.Event()
    slow: list[StreamUpdate] = []
    quick: list[StreamUpdate] = []

    def block(update: StreamUpdate) -> None:
        go_on.wait(10)
        slow.append(update)

    attachment = hub.attach("e", CallbackSink(block))
    hub.attach("e", CallbackSink(quick.append))
    publish_many(hub, "e", range(10))
    await until(lambda: len(quick) == 11)
    assert slow == []
    go_on.set()
    await hub.close("e")
    await soon(attachment.wait())
    assert seqs(slow) == upto(12)


async def test_a_function_that_hangs_fails_and_goes_on_when_it_returns(hub: StreamHub) -> None:
    go_on = threading.Event()
    got: list[StreamUpdate] = []

    def block(update: StreamUpdate) -> None:
        if update.data == 0:
            go_on.wait(10)
        got.append(update)

    attachment = hub.attach("e", CallbackSink(block), send_timeout=0.05)
    publish_many(hub, "e", [0, 1])
    await soon(hub.sinks.flush("e"))
    assert attachment.failed == 3
    publish_many(hub, "e", [2])
    await soon(hub.sinks.flush("e"))
    assert attachment.failed == 4, "the thread is still in the first call"
    go_on.set()
    await until(lambda: contents(got) == [0])
    publish_many(hub, "e", [3])
    await soon(hub.sinks.flush("e"))
    assert contents(got) == [0, 3], "what was given up does not come late"


@pytest.mark.parametrize("how", ["plain", "in loop", "async", "object", "returns awaitable"])
async def test_where_a_function_raises_that_update_alone_has_failed(
    hub: StreamHub, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[StreamUpdate] = []

    def take(update: StreamUpdate) -> None:
        if update.data in (2, 3):
            raise ValueError("no")
        got.append(update)

    async def take_later(update: StreamUpdate) -> None:
        await asyncio.sleep(0)
        take(update)

    class Taker:
        async def __call__(self, update: StreamUpdate) -> None:
            take(update)

    def hand_on(update: StreamUpdate) -> object:
        return take_later(update) if update.data != 1 else take(update)

    sink = {
        "plain": CallbackSink(take),
        "in loop": CallbackSink(take, in_thread=False),
        "async": CallbackSink(take_later),
        "object": CallbackSink(Taker()),
        "returns awaitable": CallbackSink(hand_on),
    }[how]
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(6))
    await soon(hub.sinks.flush("e"))
    assert contents(got) == [0, 1, 4, 5]
    assert (attachment.delivered, attachment.failed) == (5, 2)
    assert caplog.records[0].exc_info


async def test_an_async_end_is_awaited(hub: StreamHub) -> None:
    reasons: list[str] = []

    async def over(reason: CloseReason) -> None:
        await asyncio.sleep(0)
        reasons.append(reason)

    attachment = hub.attach("e", CallbackSink(print, on_closed=over))
    attachment.detach()
    await soon(attachment.wait())
    assert reasons == ["detached"]


# ---------------------------------------------------------------- queues
@pytest.mark.row("PYEV-04", "PYEV-05", "HIVE-62")
async def test_several_queues_each_get_what_matches(hub: StreamHub) -> None:
    from lg_streaming import UpdateFilter

    everything, chat = QueueSink(), QueueSink()
    hub.attach("e", everything)
    hub.attach("e", chat, filter=UpdateFilter.of(categories=["chat"]))
    hub.emitter("e", category="chat").token("a")
    hub.emitter("e", category="document").token("b")
    await soon(hub.sinks.flush("e"))
    assert isinstance(everything.queue, asyncio.Queue)
    assert [everything.queue.get_nowait() is not None for _ in range(3)] == [True] * 3
    update = chat.queue.get_nowait()
    assert update is not None
    assert update.data["content"] == "a"
    assert chat.queue.empty()


@pytest.mark.row("AOS-26", "PYEV-06", "PYEV-D3")
@pytest.mark.parametrize("ending", ["close", "fail"])
async def test_the_iteration_ends_after_what_is_in_the_queue(hub: StreamHub, ending: str) -> None:
    sink = QueueSink()
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(5))
    await (hub.close("e") if ending == "close" else hub.fail("e", "no"))
    await soon(attachment.wait())
    assert not sink.is_active()
    assert seqs([update async for update in sink]) == upto(7)
    assert [update async for update in sink] == [], "it has ended for who comes later, too"
    assert sink.reason == {"close": "completed", "fail": "failed"}[ending]


@pytest.mark.row("AOS-26")
async def test_closing_a_queue_wakes_who_waits_for_it(hub: StreamHub) -> None:
    sink = QueueSink()
    attachment = hub.attach("e", sink)
    waits = asyncio.create_task(anext(aiter(sink), None))
    await asyncio.sleep(0)
    await sink.aclose()
    assert await soon(waits) is None
    hub.publish("e", "token")
    await soon(attachment.wait())
    assert sink.queue.qsize() <= 1, "nothing more was put in"


@pytest.mark.row("AOS-D8", "PYEV-D4")
async def test_a_full_queue_waits_and_nothing_is_lost(hub: StreamHub) -> None:
    sink = QueueSink(5)
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(50))
    await hub.close("e")
    await until(lambda: sink.queue.qsize() == 5)
    await asyncio.sleep(0.02)
    assert sink.queue.qsize() == 5
    largest = 0
    got: list[StreamUpdate] = []
    async for update in sink:
        got.append(update)
        largest = max(largest, sink.queue.qsize())
    assert seqs(got) == upto(52)
    assert largest <= 6  # the end has a separate place
    await soon(attachment.wait())
    assert (attachment.errors, sink.dropped) == (0, 0)


@pytest.mark.row("AOS-D8")
async def test_a_full_queue_may_let_go_of_the_oldest(hub: StreamHub) -> None:
    sink = QueueSink(5, overflow="drop_oldest")
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(50))
    await hub.close("e")
    await soon(attachment.wait())
    assert seqs([update async for update in sink]) == [48, 49, 50, 51, 52]
    assert sink.dropped == 47


@pytest.mark.row("PYEV-06", "AOS-D8")
@pytest.mark.parametrize("size", [1_000, 2])
async def test_a_queue_whose_reader_left_is_detached(
    hub: StreamHub, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    sink = QueueSink(size)
    attachment = hub.attach("e", sink)
    publish_many(hub, "e", range(10))

    async def read_one() -> int:
        async for update in sink:
            return update.metadata.sequence_number
        return 0

    assert await soon(read_one()) == 1
    await until(lambda: hub.publish("e", "token") or hub.sinks.attached("e") == [])
    await soon(attachment.wait())
    assert attachment.reason == "inactive"
    assert hub.statistics().subscriptions == 0
    assert caplog.records == []


@pytest.mark.parametrize("change", [{"maxsize": 0}, {"overflow": "explode"}])
async def test_a_queue_needs_a_bound_and_knows_what_to_do_there(change: dict[str, Any]) -> None:
    with pytest.raises(StreamingConfigError, match=next(iter(change))):
        QueueSink(**change)


def test_a_queue_is_of_one_event_loop() -> None:
    with pytest.raises(StreamingConfigError, match="event loop"):
        QueueSink()
    hub = StreamHub()

    async def make() -> QueueSink:
        return QueueSink()

    attachment = hub.attach("e", asyncio.run(make()), on_error="raise")
    hub.publish("e", "token")
    with pytest.raises(SinkError, match="on the event loop that reads it"):
        attachment.join(10)
    asyncio.run(hub.aclose())


# ---------------------------------------------------------------- logging
@pytest.mark.row("FLOW-11")
async def test_each_update_is_one_record_with_execution_number_type_and_data(hub: StreamHub) -> None:
    hub.publish("e", "token", {"content": "hello"})
    hub.publish("e", "a\nb", "c\nd")
    with records_of("test.updates") as records:
        hub.attach("e", LoggingSink("test.updates", logging.WARNING), types=["token", "a*"])
        await soon(hub.sinks.flush("e"))
    assert [record.getMessage() for record in records] == [
        """e #2 'token' {"content":"hello"}""",
        r"""e #3 'a\nb' "c\nd" """.strip(),
    ]
    first: Any = records[0]
    assert (first.levelno, first.event, first.execution_id) == (logging.WARNING, "stream_update", "e")
    assert first.update_type == "token"


async def test_data_may_be_left_out_and_is_cut(hub: StreamHub) -> None:
    hub.publish("e", "token", "x" * 5_000)
    with records_of("test.updates") as records:
        hub.attach("e", LoggingSink("test.updates", data=False), types=["token"])
        hub.attach("e", LoggingSink(logging.getLogger("test.updates")), types=["token"])
        hub.attach("e", LoggingSink("test.updates", logging.DEBUG), types=["token"])
        await soon(hub.sinks.flush("e"))
    assert sorted(len(record.getMessage()) < 20 for record in records) == [False, True]
    assert max(len(record.getMessage()) for record in records) < 1_050


async def test_the_sinks_that_know_it_best_say_how_they_are_sent_to(hub: StreamHub, tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "x.jsonl")
    assert isinstance(sink, PolicySink)
    assert hub.attach("e", sink).policy == sink.policy
    own = SendPolicy(batch_size=3, timeout=4)
    assert hub.attach("f", CallbackSink(print), policy=own, send_timeout=5).policy == SendPolicy(
        batch_size=3, timeout=5
    )


async def test_a_gap_reaches_a_function(make_hub: MakeHub) -> None:
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    got: list[StreamUpdate] = []
    hub.attach("e", CallbackSink(got.append))
    await soon(hub.sinks.flush("e"))
    assert types(got) == ["gap", "token", "token"]


def test_what_cannot_be_called_or_is_no_level_is_refused_at_once() -> None:
    number: Any = 3
    for make in (
        lambda: CallbackSink(number),
        lambda: CallbackSink(print, on_closed=number),
        lambda: LoggingSink(level="LOUD"),
    ):
        with pytest.raises(StreamingConfigError):
            make()
    assert LoggingSink(level="WARNING").is_active()
