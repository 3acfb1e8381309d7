"""Prompts of a replay: answered by the recording, or by a reader."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError
from lg_streaming.testing import replay
from tests.replaying.files import lines_of, made_up, read, write
from tests.wires.recordings import EXECUTION, SETTINGS, record

pytestmark = pytest.mark.anyio
TIMEOUT = 20.0
PROMPT: dict[str, Any] = {"prompt_id": "p-1", "prompt": "Go on?", "type": "choice", "choices": ["yes", "no"]}
ASKED: list[tuple[float, str, Any]] = [
    (0, "workflow_start", {"run_id": "r-1"}),
    (0, "human_prompt", {**PROMPT, "value": {"question": "Go on?"}}),
    (0, "workflow_interrupted", {"prompts": [PROMPT]}),
    (600, "human_response", {"prompt_id": "p-1", "response": "yes", "responded_by": "ada"}),
    (600, "status", {"status": "resumed"}),
    (600, "workflow_complete", {"result": "done"}),
]


async def until_asked(streaming: StreamingModule, execution_id: str = "made-up") -> Any:
    async for update in streaming.hub.subscribe(execution_id, until="interrupted", timeout=TIMEOUT):
        if update.type == "workflow_interrupted":
            return update.data["prompts"][0]
    raise AssertionError


async def test_a_reader_is_faster_than_the_recording(tmp_path: Path) -> None:
    """The run goes on at once, with the reader's answer in place of the recorded one."""
    path = write(tmp_path / "run.jsonl", made_up(*ASKED))
    async with StreamingModule() as streaming, replay(streaming, path) as replayed:
        prompt = await until_asked(streaming)
        state = await streaming.hub.describe("made-up")
        assert state is not None
        assert state.state == "interrupted"
        with pytest.raises(BadRequestError, match="'yes', 'no'"):
            await streaming.hub.respond("made-up", prompt["prompt_id"], "perhaps")
        await streaming.hub.respond("made-up", prompt["prompt_id"], "no", responder="bob")
        async with asyncio.timeout(TIMEOUT):
            await replayed.wait()
        found = [(each.type, each.data) for each in await read(streaming, "made-up")]
    assert found[-3:] == [
        ("human_response", {"prompt_id": "p-1", "response": "no", "responded_by": "bob"}),
        ("status", {"status": "resumed"}),
        ("workflow_complete", {"result": "done"}),
    ]


async def test_the_recorded_answer_comes_at_its_time(tmp_path: Path) -> None:
    """Updates while the run waits do not resume it."""
    waiting = (300, "workflow_progress", {"progress": 50.0, "total_nodes": 2, "completed_nodes": 1})
    path = write(tmp_path / "run.jsonl", made_up(*ASKED[:3], waiting, *ASKED[3:]))
    async with StreamingModule() as streaming, replay(streaming, path, speed=2000) as replayed:
        async with asyncio.timeout(TIMEOUT):
            await replayed.wait()
        found = [(each.type, each.data) for each in await read(streaming, "made-up")]
    assert found[3:] == [(kind, data) for _, kind, data in (waiting, *ASKED[3:])]


async def test_a_replay_that_pauses_waits_for_a_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", lines_of((await record("approval")).records, EXECUTION))
    async with (
        StreamingModule(SETTINGS) as streaming,
        replay(streaming, path, speed=math.inf, pause_at_prompts=True) as replayed,
    ):
        prompt = await until_asked(streaming, EXECUTION)
        waiting = asyncio.create_task(replayed.wait())
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        with pytest.raises(BadRequestError):  # a review takes decisions, as that of the recorded run
            await streaming.hub.respond(EXECUTION, prompt["prompt_id"], {"decisions": []})
        await streaming.hub.respond(EXECUTION, prompt["prompt_id"], {"decisions": [{"type": "reject"}]})
        async with asyncio.timeout(TIMEOUT):
            await waiting
        last = (await read(streaming, EXECUTION))[-1]
    assert last.type == "workflow_complete"


@pytest.mark.parametrize("pauses", [False, True])
async def test_a_recorded_timeout_is_not_over_at_once(tmp_path: Path, pauses: bool) -> None:
    """The time is as far away as in the recording; a replay that pauses has none."""
    recorded_at = 1767323042.0
    asked = {**PROMPT, "timeout_s": 600, "expires_at": recorded_at + 600}
    updates = [
        (second, kind, {"prompts": [asked]} if kind == "workflow_interrupted" else data) for second, kind, data in ASKED
    ]
    updates[1] = (0, "human_prompt", asked)
    path = write(tmp_path / "run.jsonl", made_up(*[(second + 62, kind, data) for second, kind, data in updates]))
    async with StreamingModule() as streaming, replay(streaming, path, pause_at_prompts=pauses):
        prompt = await until_asked(streaming)
        if pauses:
            assert not prompt.keys() & {"timeout_s", "expires_at"}
        else:
            found = (await read(streaming, "made-up"))[0].timestamp.timestamp()
            assert 400 < prompt["expires_at"] - found < 800
