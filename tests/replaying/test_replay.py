"""Readers of a replay get the recorded updates, on both logs."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from collections.abc import Generator, Mapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError
from lg_streaming.sinks import JsonLinesSink
from lg_streaming.testing import Recording, replay
from lg_streaming.testing.replaying.graph import RecordedError
from lg_streaming.texts import TextAssembly
from tests.replaying.files import lines_of, made_up, read, shape, write
from tests.support.redis_server import RedisServer
from tests.wires.recordings import RECORDINGS, SETTINGS, record_all
from tests.wires.recordings import Recording as Recorded

TIMEOUT = 20.0


class Runs(dict[str, Recorded]):
    """Recorded runs by name, with a short representation: hypothesis warns of long ones."""

    def __repr__(self) -> str:
        return f"<{len(self)} runs>"


@pytest.fixture(scope="module")
def recorded() -> Runs:
    return Runs(asyncio.run(record_all()))


@pytest.fixture(scope="module", params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Generator[str]:
    if request.param == "memory":
        yield "memory://"
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    yield server.url


def module(log: str) -> StreamingModule:
    return StreamingModule({**SETTINGS, "log": log, "redis": {"prefix": f"replay-{uuid4().hex}"}})


@settings(
    max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.lists(st.sampled_from(RECORDINGS), min_size=1, max_size=3, unique=True), seed=st.integers(0, 1 << 32))
def test_readers_get_the_recorded_updates(recorded: dict[str, Recorded], log: str, names: list[str], seed: int) -> None:
    """Several executions are in one file, in any mixture, some lines twice."""
    queues = {name: lines_of(recorded[name].records, name.replace(" ", "-")) for name in names}
    wanted = {name: [shape(each.update) for each in recorded[name].records] for name in names}
    lines: list[str] = []
    random = Random(seed)
    while left := [name for name in queues if queues[name]]:
        name = random.choice(left)
        taken = random.randint(1, len(queues[name]))
        part, queues[name] = queues[name][:taken], queues[name][taken:]
        lines += part + part[-1:] * random.randint(0, 1)

    async def check() -> None:
        async with module(log) as streaming, replay(streaming, path, speed=math.inf) as replayed:
            async with asyncio.timeout(TIMEOUT):
                await replayed.wait()
            for name in names:
                updates = await read(streaming, name.replace(" ", "-"))
                assert [shape(each) for each in updates] == wanted[name]
                texts, before = TextAssembly(), TextAssembly()
                for each in updates:
                    texts.add(each)
                for each in recorded[name].records:
                    before.add(each.update)
                assert [each.text for each in texts.messages] == [each.text for each in before.messages]

    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "run.jsonl", lines)
        asyncio.run(check())


pytestmark = pytest.mark.anyio


async def play(path: Path, execution_id: str = "made-up", **options: Any) -> list[Any]:
    async with StreamingModule(SETTINGS) as streaming, replay(streaming, path, **options) as replayed:
        async with asyncio.timeout(TIMEOUT):
            await replayed.wait()
        return await read(streaming, execution_id)


START: Mapping[str, Any] = {"run_id": "r-1", "name": "story"}


async def test_the_pace(tmp_path: Path) -> None:
    """Pauses are shortened by the speed. Time in which no run was open is not waited for."""
    lines = made_up((0, "workflow_start", START), (2, "token", {"content": "a"}), (4, "workflow_complete", {}))
    later = made_up((900, "workflow_start", START), (901, "workflow_complete", {}), run_id="r-2")
    path = write(tmp_path / "run.jsonl", [*lines, *later])
    updates = await play(path, speed=10)
    times = [each.timestamp.timestamp() - updates[0].timestamp.timestamp() for each in updates]
    assert [each.type for each in updates[::2]] == ["workflow_start", "workflow_complete", "workflow_complete"]
    for found, least in zip(times, [0, 0.2, 0.4, 0.5, 0.6], strict=True):
        assert least - 0.02 <= found < least + 5


async def test_a_sink_writes_what_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with StreamingModule() as streaming:
        attached = streaming.hub.attach("doc", JsonLinesSink(path))
        streaming.hub.emit("doc", "saved", {"pages": 4}, category="document")
        await streaming.hub.close("doc", {"done": True})
        await attached.wait()
    packed = tmp_path / "run.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    found = [shape(each) for each in await play(packed, "doc", speed=math.inf)]
    assert [(kind, data) for kind, data, _ in found] == [
        ("workflow_start", {}),
        ("saved", {"pages": 4}),
        ("workflow_complete", {"result": {"done": True}}),
    ]
    assert found[1][2]["category"] == "document"


async def test_a_recording_that_was_cut_off(tmp_path: Path) -> None:
    """The run ends as one whose process is gone. Half a line at the end is left out."""
    lines = made_up((0, "workflow_start", START), (0, "token", {"content": "a"}))
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join([*lines, '{"type":"tok']))
    updates = await play(path, speed=math.inf)
    assert [each.type for each in updates] == ["workflow_start", "token", "workflow_abandoned"]
    assert updates[-1].data == {"reason": "recording_ended"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{}"], "line 1: not an update: type is a string"),
        ([*made_up((0, "token", {})), "", "no JSON", *made_up((1, "token", {}))], "line 3: not an update: b'no JSON"),
        ([json.dumps({"type": "token", "data": {}})], "line 1: not an update: metadata is an object"),
        ([], "has no update"),
        (made_up((0, "token", {}), execution_id="a b"), "line 1: an execution id holds printable"),
        (made_up((0, "token", {}), execution_id="x" * 300), "has at most 256 characters, this one 300"),
    ],
    ids=["no type", "no JSON", "no metadata", "empty", "id with a space", "long id"],
)
async def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "run.jsonl", lines)
    with pytest.raises(BadRequestError) as caught:
        await asyncio.to_thread(Recording, path)
    assert message in caught.value.message
    assert str(path) in caught.value.message


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else "m-1"


@pytest.mark.parametrize("number", [1, 2], ids=["first round", "second round"])
async def test_odd_data_is_replayed(tmp_path: Path, number: int) -> None:
    """Other programs write recordings, too: with a byte order mark, and with data of any shape."""
    asked = {"prompt_id": "p-1", "type": "unheard", "expires_at": "never", "timeout_s": "long"}
    interruptions: list[Any] = [{**asked, "expires_at": True}, {"prompt_id": []}, 5]
    lines = made_up(
        (0, "workflow_start", {"name": ["story"], "metadata": 5, "run_id": {}, "title": True}),
        (0, "custom", json.loads("[" * 700 + "]" * 700)),
        *((0, kind, None) for kind in ("token", "usage", "progress", "human_prompt", "human_response", "unheard of")),
        (0, "human_prompt", asked),
        (0, "workflow_interrupted", {"prompts": interruptions}),
        (0, "human_response", {"prompt_id": ["p-1"]}),
        (0, "workflow_error", {"error": {"type": "a\0b", "message": {}, "causes": [{"type": ""}, None]}}),
    )
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    async with StreamingModule() as streaming, replay(streaming, path, speed=math.inf, loop=number > 1) as replayed:
        ends = 0
        async with asyncio.timeout(TIMEOUT):
            async for update in streaming.hub.subscribe("made-up", follow=True):
                ends += update.type == "workflow_error"
                if ends == number:
                    break
        if number == 1:
            await replayed.wait()
        started = await streaming.runs.start("replay", {"messages": "Again?"})
        with pytest.raises(RecordedError):
            await started
        last = (await read(streaming, started.execution_id))[-1]
    assert last.type == "workflow_error"


async def test_a_recording_that_loses_its_lines_ends_as_abandoned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = made_up((0, "workflow_start", START), (0, "token", {"content": "made-up" * 99}))
    path = write(tmp_path / "run.jsonl", lines)
    with await asyncio.to_thread(Recording, path) as recording:
        path.write_text(f'{lines[0]}\nmade-up: "made-up"' + "x" * 400)
        async with StreamingModule() as streaming, replay(streaming, recording, speed=math.inf) as replayed:
            with pytest.raises(BadRequestError, match="not an update"):
                await replayed.wait()
            last = (await read(streaming, "made-up"))[-1]
    assert (last.type, last.data) == ("workflow_abandoned", {"reason": "replay_failed"})
    assert "replay made-up has failed: not an update" in caplog.text


async def test_bad_options(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", made_up((0, "token", {})))
    with pytest.raises(BadRequestError, match="has no execution 'other'; it has 'made-up'"):
        await play(path, executions=["other"])
    with pytest.raises(BadRequestError, match="speed is a number above 0, not 0"):
        await play(path, speed=0)
    damaged = tmp_path / "run.gz"
    damaged.write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(BadRequestError, match="damaged gzip"):
        await play(damaged)


async def test_a_reader_cancels(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", made_up((0, "workflow_start", START), (600, "workflow_complete", {})))
    async with StreamingModule() as streaming, replay(streaming, path) as replayed:
        await anext(aiter(streaming.hub.subscribe("made-up", timeout=TIMEOUT)))
        assert await streaming.hub.cancel("made-up", "enough")
        async with asyncio.timeout(TIMEOUT):
            await replayed.wait()
        last = (await read(streaming, "made-up"))[-1]
    assert (last.type, last.data) == ("workflow_cancelled", {"reason": "enough"})


async def test_a_replay_that_is_stopped_ends_its_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", made_up((0, "workflow_start", START), (600, "workflow_complete", {})))
    async with StreamingModule() as streaming:
        async with replay(streaming, path):
            await anext(aiter(streaming.hub.subscribe("made-up", timeout=TIMEOUT)))
            assert "story" in streaming.graphs
        assert (await read(streaming, "made-up"))[-1].type == "workflow_cancelled"
        assert list(streaming.graphs) == []


async def test_a_loop_has_new_ids(tmp_path: Path) -> None:
    """Pages know messages by their ids: the second answer must not replace the first."""
    token = {"content": "a", "message_id": "m-1"}
    path = write(
        tmp_path / "run.jsonl", made_up((0, "workflow_start", START), (0, "token", token), (0, "workflow_complete", {}))
    )
    found: list[str] = []
    async with StreamingModule() as streaming, replay(streaming, path, speed=math.inf, loop=True):
        async for update in streaming.hub.subscribe("made-up", types=["token"], follow=True, timeout=TIMEOUT):
            found.append(update.data["message_id"])
            if len(found) == 2:
                break
    assert found == ["m-1", "m-1-2"]
