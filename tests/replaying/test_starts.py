"""Starts of runs replay the recording: in the program, and for stock clients of other systems."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph_sdk import get_client

from lg_streaming import StreamingModule
from lg_streaming.cli.replay import ReplayOptions, make_app
from lg_streaming.errors import RunCancelledError
from lg_streaming.testing import RecordedError, Recording, replay
from tests.replaying.files import lines_of, made_up, read, write
from tests.support.npm import run_checks
from tests.support.server import serve
from tests.wires.recordings import EXECUTION, SETTINGS, record

pytestmark = pytest.mark.anyio
JS = Path(__file__).parents[1] / "wires" / "ai_sdk" / "js"
TIMEOUT = 20.0


def question(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text, "id": text}]}


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = asyncio.run(record("two runs"))
    return write(tmp_path_factory.mktemp("recorded") / "run.jsonl", lines_of(found.records, EXECUTION))


def options(path: Path) -> ReplayOptions:
    return ReplayOptions(
        path=str(path),
        host="127.0.0.1",
        port=0,
        speed=math.inf,
        executions=(),
        loop=False,
        pause_at_prompts=False,
        origins=(),
        open_page=False,
    )


@pytest.fixture(scope="module")
def url(two_runs: Path) -> Generator[str]:
    with Recording(two_runs) as recording, serve(make_app(recording, options(two_runs))[0]) as server:
        yield server.url


def texts_of(state: Any) -> list[str]:
    return [each.content if hasattr(each, "content") else each["content"] for each in state["messages"]]


async def test_the_questions_of_a_thread_get_the_recorded_runs_in_turn(two_runs: Path) -> None:
    """The thread has the questions that were asked here. The third question gets the first run again, with new ids."""
    async with StreamingModule(SETTINGS) as streaming, replay(streaming, two_runs, speed=math.inf, play=False):
        for text in ("one", "two", "three"):
            result = await streaming.runs.run("replay", question(text), execution_id="x")
        updates = await read(streaming, "x")
    answers = ["It rains in Oslo, and it will rain.", "First. ", "Second.", "Third and last."]
    assert texts_of(result) == ["one", answers[0], "two", *answers[1:], "three", answers[0]]
    ids = [each.id for each in result["messages"]]
    assert len(set(ids)) == len(ids)
    assert [each.data["name"] for each in updates if each.type == "workflow_start"] == ["replay"] * 3
    assert not [each for each in updates if each.node_id == "replay"]
    runs = list(dict.fromkeys(each.run_id for each in updates))
    progress = [each for each in updates if each.type == "workflow_progress" and each.run_id == runs[1]]
    assert {each.data["total_nodes"] for each in progress} == {3}  # of the recorded graph
    shown = [each.data["values"] for each in updates if each.type == "state" and each.data["values"]["messages"]]
    assert {texts_of(each)[0] for each in shown} == {"one"}


@pytest.mark.parametrize("name", ["failure", "cancel"])
async def test_a_run_ends_as_recorded(tmp_path: Path, name: str) -> None:
    recorded = (await record(name)).records
    path = write(tmp_path / "run.jsonl", lines_of(recorded, EXECUTION))
    async with StreamingModule(SETTINGS) as streaming, replay(streaming, path, speed=math.inf, play=False):
        run = await streaming.runs.start("replay", question("one"), execution_id="x")
        with pytest.raises(RecordedError if name == "failure" else RunCancelledError) as caught:
            await run
        last, wanted = (await read(streaming, "x"))[-1], recorded[-1].update
    assert (last.type, last.data) == (wanted.type, wanted.data)
    assert name == "cancel" or type(caught.value).__name__ == "ScriptedError"


async def test_the_fields_of_the_recorded_state(tmp_path: Path) -> None:
    """A recording of another graph than a chat takes its own input, and gives its own result."""
    result = {"topic": "rain", "pages": [1, 2]}
    path = write(
        tmp_path / "run.jsonl",
        made_up((0, "workflow_start", {"run_id": "r", "name": "book"}), (0, "workflow_complete", {"result": result})),
    )
    async with StreamingModule() as streaming, replay(streaming, path, speed=math.inf, play=False):
        found = await streaming.runs.run("book", {"topic": "snow"})
    assert {name: found[name] for name in result} == result


async def test_several_executions_are_names_of_graphs(tmp_path: Path) -> None:
    start, done = (0, "workflow_start", {"run_id": "r"}), (0, "workflow_complete", None)
    first = made_up(start, done, execution_id="one")
    second = made_up(start, (0, "mark", None), done, execution_id="two")
    path = write(tmp_path / "run.jsonl", [*first, *second])
    async with StreamingModule() as streaming, replay(streaming, path, speed=math.inf, play=False):
        assert set(streaming.graphs) == {"replay", "one", "two"}
        await streaming.runs.run("two", {}, execution_id="x")
        assert "mark" in {each.type for each in await read(streaming, "x")}


async def test_the_langgraph_sdk_reads_a_replay(url: str) -> None:
    async with get_client(url=url, api_key=None) as client:
        thread = await client.threads.create()
        modes: list[Any] = ["messages-tuple", "values"]
        text, states = "", list[Any]()
        async for part in client.runs.stream(
            thread["thread_id"], "replay", input=question("What now?"), stream_mode=modes
        ):
            if part.event == "messages":
                text += str(cast("Any", part.data)[0]["content"])
            elif part.event == "values":
                states.append(part.data)
        state = await client.threads.get_state(thread["thread_id"])
    assert text == "It rains in Oslo, and it will rain."
    assert texts_of(states[-1]) == texts_of(state["values"]) == ["What now?", text]


async def test_the_ai_sdk_reads_a_replay(url: str) -> None:
    checks = await run_checks(JS / "replay.mjs", url)
    for name in ("two questions", "the script ends"):
        assert checks[name].passed, checks[name].detail
