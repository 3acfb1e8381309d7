"""Updates are wrapped once, cut into pieces, and readers go on in step."""
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.filters import ALL, UpdateFilter
from lg_streaming.gateway.delivery.frames import CHUNK_BYTES, FrameCache, Frames, web_socket_frame
from lg_streaming.gateway.delivery.ticker import BatchTicker
from lg_streaming.gateway.transports.packets import EncodeBatch, EncodeEach, Packets
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from lg_streaming.publisher import NO_SCOPE


def record(seq: int, content: str = "x", kind: str = "token") -> StoredUpdate:
    body = orjson.dumps({"type": kind, "data": content, "metadata": {"node_id": "n"}})[:-2]
    return StoredUpdate.from_pending(PendingUpdate(kind, NO_SCOPE, "medium", 0.0, body), seq, "e")


@given(st.lists(st.one_of(st.text(max_size=300), st.integers(100, 70_000).map(lambda size: "é" * size)), max_size=8))
def test_texts_come_back_out_of_their_frames(texts: list[str]) -> None:
    frames = Frames(b"".join(web_socket_frame(text.encode()) for text in texts), count=len(texts))
    assert list(frames.texts()) == texts


@given(st.lists(st.integers(0, 2 * CHUNK_BYTES), max_size=12))
def test_pages_are_cut_into_pieces_and_nothing_is_lost(sizes: list[int]) -> None:
    records = [record(seq, "x" * size) for seq, size in enumerate(sizes, 1)]
    pieces = list(FrameCache().frames("a", records, ALL, EncodeEach(Packets("/"))))
    texts = [text for piece in pieces for text in piece.texts()]
    assert texts == [f'42["token",{each.json.decode()}]' for each in records]
    for piece in pieces:
        assert piece.count == 1 or piece.size <= CHUNK_BYTES + 32 * piece.count


def test_one_event_is_named_by_its_kind_and_a_batch_is_one_event() -> None:
    records = [record(1), record(2, kind="milestone"), record(3, kind="task:done"), record(4, kind="workflow_complete")]
    each = EncodeEach(Packets("/live")).encode("a", records)
    assert [text.partition('",')[0] for text in each.texts()] == [
        '42/live,["token',
        '42/live,["progress',
        '42/live,["event',
        '42/live,["status',
    ]
    (text,) = EncodeBatch(Packets("/")).encode('a"b', records).texts()
    name, payload = orjson.loads(text[2:])
    assert name == "updates"
    assert payload == {"execution_id": 'a"b', "updates": [orjson.loads(each.json) for each in records]}


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        self.calls += 1
        return Frames(b"".join(each.json for each in records))


def test_readers_at_the_same_place_share_what_was_wrapped() -> None:
    frames, encode = FrameCache(max_bytes=1_000), Counting()
    records = [record(1), record(2)]
    first = list(frames.frames("a", records, ALL, encode))
    assert list(frames.frames("a", list(records), ALL, encode)) == first
    assert encode.calls == 1
    list(frames.frames("b", records, ALL, encode))
    list(frames.frames("a", records, UpdateFilter.of(events=["token"]), encode))
    list(frames.frames("a", records[1:], ALL, encode))
    assert encode.calls == 4


def test_the_cache_is_bounded() -> None:
    frames, encode = FrameCache(max_bytes=1_000), Counting()
    for seq in range(1, 200):
        list(frames.frames("a", [record(seq)], ALL, encode))
    list(frames.frames("a", [record(1)], ALL, encode))
    assert encode.calls == 200


@pytest.mark.parametrize(
    ("times", "together"),
    [([0.1, 0.102, 0.109], True), ([0.1, 0.1005, 0.1099], True), ([0.1, 0.111], False), ([0.119, 0.1295], True)],
)
async def test_readers_of_one_interval_go_on_in_one_turn_of_the_loop(times: list[float], together: bool) -> None:
    now = 0.0
    pacer = BatchTicker(0.02, clock=lambda: now)
    woken: list[float | None] = []

    async def reader(at: float) -> None:
        nonlocal now
        now = at
        await pacer.next()
        woken.append(at)
        if len(woken) == 1:
            asyncio.get_running_loop().call_soon(woken.append, None)

    await asyncio.wait_for(asyncio.gather(*map(reader, times)), 5)
    assert (woken[: len(times)] == times) is together


async def test_without_an_interval_nobody_waits() -> None:
    await asyncio.wait_for(BatchTicker(0.0).next(), 1)


async def test_readers_rest_as_long_as_their_work_took() -> None:
    loop, skipped, work = asyncio.get_running_loop(), 0.0, 0.05

    def clock() -> float:
        return loop.time() + skipped

    pacer = BatchTicker(0.2, clock)

    async def reader() -> tuple[float, float]:
        """Return the times at which a reader's work began in the first tick, and of the second tick."""
        nonlocal skipped
        await pacer.next()
        began = clock()
        skipped += work
        await pacer.next()
        return began, clock()

    await pacer.next()  # far from where one beat gives way to the next
    times = await asyncio.wait_for(asyncio.gather(*(reader() for _ in range(3))), 10)
    began = min(began for began, _ in times)
    assert min(again for _, again in times) >= began + 2 * 3 * work


async def test_readers_that_need_not_wait_for_a_beat_rest_too() -> None:
    loop, skipped, work = asyncio.get_running_loop(), 0.0, 5.0

    def clock() -> float:
        return loop.time() + skipped

    pacer = BatchTicker(0.2, clock)
    for _ in range(3):
        await pacer.turn(clock() - 1)  # at once
        skipped += work
    await asyncio.sleep(0)
    resting = asyncio.create_task(pacer.turn(clock() - 1))
    await asyncio.sleep(0.5)
    assert not resting.done()
    skipped += 3 * work
    await asyncio.wait_for(pacer.turn(clock() - 1), 10)
    resting.cancel()


def test_filters_that_clients_make_up_are_not_collected() -> None:
    frames, encode = FrameCache(), EncodeEach(Packets("/"))
    held = [UpdateFilter.of(node_ids=[f"{number}-{name}" for name in range(17)]) for number in range(3_000)]
    few = [UpdateFilter.of(node_ids=[str(number)]) for number in range(3_000)]
    for each in (*held, *few):
        for records in ([record(1)], [record(1), record(2)]):
            assert sum(piece.count for piece in frames.frames("a", records, each, encode)) == len(records)
    kept = {id(key[index]) for cache, index in ((frames._cached, 2), (frames._cached_ends, 1)) for key in cache}
    assert not kept & {id(each) for each in held}
    assert len(kept) <= 1_024
