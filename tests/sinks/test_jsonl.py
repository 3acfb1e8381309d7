"""Files of one JSON line an update: complete lines only, without a hole, and none twice."""

import asyncio
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming import Position
from lg_streaming.backoff import Backoff
from lg_streaming.codec import decode
from lg_streaming.errors import BadRequestError, SinkError
from lg_streaming.hub import SendPolicy, StreamHub
from lg_streaming.sinks import JsonLinesSink
from tests.hub.helpers import MakeHub, collect, publish_many, soon, upto
from tests.support.server import ROOT

AT_ONCE = Backoff(delay=0)


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def numbers(path: Path) -> list[int]:
    return [line["metadata"]["sequence_number"] for line in lines(path)]


async def test_a_line_is_what_every_wire_carries(hub: StreamHub, tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    emitter = hub.emitter("e", node_id="write", category="chat")
    emitter.token("one\ntwo \u2028 three")
    attachment = hub.attach("e", JsonLinesSink(path))
    await hub.close("e")
    await soon(attachment.wait())
    updates = await collect(hub.subscribe("e"))
    assert [decode(line) for line in path.read_bytes().split(b"\n")[:-1]] == updates
    assert len(updates) == 3


async def test_it_appends(hub: StreamHub, tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    for execution_id in ("e", "f"):
        attachment = hub.attach(execution_id, JsonLinesSink(str(path)))
        publish_many(hub, execution_id, range(3))
        await hub.close(execution_id)
        await soon(attachment.wait())
    assert [line["metadata"]["execution_id"] for line in lines(path)] == ["e"] * 5 + ["f"] * 5


async def test_one_file_takes_several_executions(hub: StreamHub, tmp_path: Path) -> None:
    path = tmp_path / "updates.jsonl"
    sink = JsonLinesSink(path)
    attachments = [hub.attach(f"e{number}", sink, shared=True) for number in range(5)]
    for number in range(5):
        publish_many(hub, f"e{number}", range(100))
        await hub.close(f"e{number}")
    for attachment in attachments:
        await soon(attachment.wait())
    await sink.aclose()
    await sink.aclose()
    found = lines(path)
    for number in range(5):
        of_one = [line["metadata"] for line in found if line["metadata"]["execution_id"] == f"e{number}"]
        assert [about["sequence_number"] for about in of_one] == upto(102)


@pytest.mark.parametrize("lost", [b"", b"{", b'{"type":"tok', b'{"type":"token","data":"' + b"x" * 200_000])
async def test_it_goes_on_where_a_file_ends_and_cuts_off_half_a_line(
    hub: StreamHub, tmp_path: Path, lost: bytes
) -> None:
    path = tmp_path / "updates.jsonl"
    publish_many(hub, "e", range(10))
    first, after = await asyncio.to_thread(JsonLinesSink.resume, path)
    assert after is None
    attachment = hub.attach("e", first, after=after)
    await soon(hub.sinks.flush("e"))
    attachment.detach()
    await soon(attachment.wait())
    with path.open("ab") as file:
        file.write(lost)
    publish_many(hub, "e", range(10))
    second, after = await asyncio.to_thread(JsonLinesSink.resume, path)
    state = await hub.describe("e")
    assert state is not None
    assert after == Position(state.epoch, 11)
    await hub.close("e")
    await soon(hub.attach("e", second, after=after).wait())
    assert numbers(path) == upto(22)
    third, after = await asyncio.to_thread(JsonLinesSink.resume, path)
    await soon(hub.attach("e", third, after=after).wait())
    assert numbers(path) == upto(22), "after the end nothing follows"


@given(cut=st.integers(min_value=0, max_value=12_000), other=st.booleans())
def test_wherever_a_file_was_cut_it_becomes_complete(
    tmp_path_factory: pytest.TempPathFactory, cut: int, other: bool
) -> None:
    async def run() -> None:
        path = tmp_path_factory.mktemp("cut") / "updates.jsonl"
        hub = StreamHub()
        hub.publish("e", "note", "x" * 3_000)
        publish_many(hub, "e", range(20))
        await hub.close("e")
        await hub.attach("e", JsonLinesSink(path)).wait()
        whole = path.read_bytes()
        os.truncate(path, min(cut, len(whole)))
        if other and path.read_bytes().endswith(b"\n"):
            publish_many(hub, "f", range(3))
            await hub.close("f")
            await hub.attach("f", JsonLinesSink(path)).wait()
        sink, after = await asyncio.to_thread(JsonLinesSink.resume, path, execution_id="e")
        await hub.attach("e", sink, after=after).wait()
        rest = [line for line in path.read_bytes().splitlines(keepends=True) if b'"execution_id":"f"' not in line]
        assert b"".join(rest) == whole
        await hub.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("size", [10, 65_534, 65_535, 65_536, 65_537, 200_000])
def test_the_last_line_of_an_execution_is_found_however_long_lines_are(tmp_path: Path, size: int) -> None:
    path = tmp_path / "updates.jsonl"

    def line(execution_id: str, number: int) -> str:
        about = {"execution_id": execution_id, "epoch": "ab", "sequence_number": number}
        return json.dumps({"type": "x", "data": "y" * size, "metadata": about}) + "\n"

    path.write_text(line("e", 1) + line("e", 2) + line("f", 7) + line("f", 8) + '{"half')
    assert JsonLinesSink.resume(path)[1] == Position("ab", 8)
    assert JsonLinesSink.resume(path, execution_id="e")[1] == Position("ab", 2)
    assert JsonLinesSink.resume(path, execution_id="g")[1] is None
    path.write_text('{"half')
    assert JsonLinesSink.resume(path)[1] is None


@pytest.mark.parametrize("text", ["hello\n", "{}\n", '{"metadata":{"epoch":1}}\n', "[1]\n", "\n\n"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(BadRequestError, match=r"notes\.txt"):
        JsonLinesSink.resume(path)
    assert path.read_text() == text


@contextmanager
def files_no_longer_than(size: int) -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_leaves_whole_lines_and_what_was_not_written_comes_when_there_is_room(
    hub: StreamHub, tmp_path: Path
) -> None:
    path = tmp_path / "updates.jsonl"
    publish_many(hub, "e", range(20))
    policy = SendPolicy(batch_size=8, attempts=10_000, backoff=Backoff(delay=0.01, max_delay=0.01))
    with files_no_longer_than(2_500):
        attachment = hub.attach("e", JsonLinesSink(path), policy=policy)
        while attachment.errors < 3:
            await asyncio.sleep(0.001)
        assert numbers(path) == upto(len(numbers(path)))
        assert 8 <= len(numbers(path)) < 21
    await hub.close("e")
    await soon(attachment.wait())
    assert numbers(path) == upto(22)
    assert attachment.failed == 0


async def test_a_file_that_cannot_be_written_fails_and_harms_nobody(hub: StreamHub, tmp_path: Path) -> None:
    policy = SendPolicy(attempts=2, backoff=AT_ONCE)
    nowhere = hub.attach("e", JsonLinesSink(tmp_path / "no" / "x.jsonl"), policy=policy, on_error="raise")
    full = hub.attach("e", JsonLinesSink("/dev/full", id="full"), policy=policy, on_error="raise")
    good = hub.attach("e", JsonLinesSink(tmp_path / "x.jsonl"))
    publish_many(hub, "e", range(3))
    await hub.close("e")
    await soon(good.wait())
    with pytest.raises(SinkError, match="No such file"):
        await soon(nowhere.wait())
    with pytest.raises(SinkError, match="No space left"):
        await soon(full.wait())
    assert numbers(tmp_path / "x.jsonl") == upto(5)


async def test_an_open_file_is_written_and_left_open(hub: StreamHub) -> None:
    file = io.BytesIO()
    attachment = hub.attach("e", JsonLinesSink(file))
    publish_many(hub, "e", range(3))
    await hub.close("e")
    await soon(attachment.wait())
    assert not file.closed
    assert len(file.getvalue().splitlines()) == 5
    with pytest.raises(BadRequestError, match="fsync"):
        JsonLinesSink(file, fsync=True)


async def test_with_fsync_each_portion_is_on_the_disk(
    hub: StreamHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    fsync = os.fsync

    def note(file: int) -> None:
        sizes.append(os.fstat(file).st_size)
        fsync(file)

    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / "x.jsonl"
    hub.attach("e", JsonLinesSink(path, fsync=True))
    hub.attach("e", JsonLinesSink(tmp_path / "y.jsonl"))
    for _ in range(2):
        hub.publish("e", "token")
        await soon(hub.sinks.flush("e"))
    assert len(sizes) == 2
    assert sizes[-1] == path.stat().st_size


async def test_a_gap_is_a_line_and_is_resumed_after(make_hub: MakeHub, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    hub.attach("e", JsonLinesSink(path))
    await soon(hub.sinks.flush("e"))
    gap, *rest = lines(path)
    assert (gap["type"], gap["data"]) == ("gap", {"from": 1, "to": 4, "reason": "evicted"})
    assert gap["metadata"]["execution_id"] == "e"
    assert [line["metadata"]["sequence_number"] for line in rest] == [5, 6]
    assert gap["metadata"]["epoch"] == rest[0]["metadata"]["epoch"]
    assert decode(path.read_bytes().splitlines()[0]).position.seq == 4


KILLED = """
import asyncio, sys
from lg_streaming.hub import StreamHub
from lg_streaming.sinks import JsonLinesSink

async def main():
    hub = StreamHub()
    hub.attach("e", JsonLinesSink(sys.argv[1]))
    print("ready", flush=True)
    number = 0
    while True:
        hub.publish("e", "token", {"content": "x" * (number % 300)})
        number += 1
        await asyncio.sleep(0)

asyncio.run(main())
"""


def test_a_process_that_is_killed_leaves_lines_without_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists() or path.stat().st_size < 200_000:
            assert process.poll() is None
        process.kill()
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
    assert [json.loads(line)["metadata"]["sequence_number"] for line in whole] == upto(len(whole))
    position = JsonLinesSink.resume(path)[1]
    assert position is not None
    assert position.seq == len(whole)
