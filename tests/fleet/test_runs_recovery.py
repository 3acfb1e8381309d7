"""Runs whose process is killed, stopped or paused, and that go on in another one."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lg_streaming.events import StreamUpdate
from tests.fleet.durable import LEASE, Durable, types_of, until_interrupted
from tests.fleet.processes import Member, finals, until

START = "run = await streaming.runs.start({graph!r}, {{'answers': []}}, execution_id={e!r}, owner='alice', {options})"


BOTH = pytest.mark.parametrize("checkpoints", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of the checkpoints: a file of SQLite, or in tests with `BOTH` PostgreSQL too."""
    if getattr(request, "param", "sqlite") == "postgres":
        return request.getfixturevalue("shared_postgres").url
    return str(tmp_path / "checkpoints.db")


@pytest.fixture
def e() -> str:
    """An execution, whose thread no other test has."""
    return f"e-{uuid4().hex[:8]}"


@pytest.fixture
async def shared(
    checkpoints: str, tmp_path: Path, request: pytest.FixtureRequest, redis_prefix: str
) -> AsyncGenerator[Durable]:
    """Processes that share a log."""
    log = request.getfixturevalue("shared_redis").url
    async with Durable.of(checkpoints=checkpoints, folder=tmp_path, log=log, prefix=redis_prefix) as durable:
        yield durable


@pytest.fixture
async def alone(checkpoints: str, tmp_path: Path) -> AsyncGenerator[Durable]:
    """Processes that have a memory log each."""
    async with Durable.of(checkpoints=checkpoints, folder=tmp_path) as durable:
        yield durable


async def begin(member: Member, e: str, graph: str = "asking", options: str = "") -> str:
    """Start a run; return its id."""
    return await member.do(START.format(graph=graph, e=e, options=options) + "\nreturn run.run_id")


async def answer(member: Member, e: str, prompt_id: str, response: Any = "yes") -> str:
    """Answer a prompt; return `ok`, or the name of the error."""
    try:
        await member.do(f"await hub.respond({e!r}, {prompt_id!r}, {response!r})")
    except AssertionError as error:
        return str(error).partition(":")[0]
    return "ok"


async def answer_when_ready(member: Member, e: str, prompt_id: str, response: Any = "yes") -> None:
    """Answer a prompt of a run whose process has died, until its lease has ended."""

    async def answered() -> bool:
        return await answer(member, e, prompt_id, response) == "ok"

    await until(answered, "an answer")


def prompts_in(updates: list[StreamUpdate]) -> list[str]:
    """Return the ids of prompts, each once."""
    return list(dict.fromkeys(each.data["prompt_id"] for each in updates if each.type == "human_prompt"))


def result_of(updates: list[StreamUpdate]) -> Any:
    assert updates[-1].type == "workflow_complete", types_of(updates)
    return updates[-1].data["result"]


@BOTH
async def test_killed_while_it_waits_and_answered_through_the_next(shared: Durable, e: str) -> None:
    one, two = await shared.start(), await shared.start()
    run_id = await begin(one, e)
    (prompt_id,) = prompts_in(await until_interrupted(one, e))
    one.kill()
    await answer_when_ready(two, e, prompt_id)
    updates = await two.read(e)
    assert result_of(updates)["answers"] == ["yes"]
    assert finals(updates) == ["workflow_complete"]
    assert {each.metadata.run_id for each in updates} == {run_id}
    assert shared.calls == ["first", "ask one", "ask one", "last"]
    starts = [each for each in updates if each.type == "node_start" and each.metadata.node_id == "one"]
    assert [each.metadata.scope.attempt for each in starts] == [1, 2]
    assert await two.do("return len(await streaming.runs.recovery.records.all())") == 0


@BOTH
async def test_killed_while_it_waits_and_answered_through_the_next_with_a_memory_log(alone: Durable, e: str) -> None:
    one = await alone.start()
    run_id = await begin(one, e)
    (prompt_id,) = prompts_in(await until_interrupted(one, e))
    one.kill()
    two = await alone.start()
    updates = await until_interrupted(two, e)
    assert types_of(updates)[0] == "workflow_start"
    assert updates[0].data["resumed_from"] == run_id
    assert prompts_in(updates) == [prompt_id]
    assert (await two.do(f"return (await hub.describe({e!r})).owner")) == "alice"
    assert await answer(two, e, prompt_id) == "ok"
    updates = await two.read(e)
    assert result_of(updates)["answers"] == ["yes"]
    assert finals(updates) == ["workflow_complete"]
    assert alone.calls == ["first", "ask one", "ask one", "last"]


async def test_an_answer_alone_restores_a_run_of_a_lost_memory_log(alone: Durable, e: str) -> None:
    one = await alone.start()
    await begin(one, e)
    (prompt_id,) = prompts_in(await until_interrupted(one, e))
    one.kill()
    two = await alone.start()
    assert await answer(two, e, "another") == "PromptError"
    assert await answer(two, e, prompt_id) == "ok"
    assert await answer(two, e, prompt_id) == "PromptError"
    assert result_of(await two.read(e))["answers"] == ["yes"]
    assert await answer(two, "never-seen", prompt_id) == "PromptError"


async def test_cancel_of_a_run_whose_process_is_gone(shared: Durable, e: str) -> None:
    one, two = await shared.start(), await shared.start()
    await begin(one, e)
    await until_interrupted(one, e)
    one.kill()

    async def cancelled() -> bool:
        try:
            return await two.do(f"return await hub.cancel({e!r}, 'enough')")
        except AssertionError:
            return False  # its lease has not ended

    await until(cancelled, "a cancel")
    assert finals(await two.read(e)) == ["workflow_cancelled"]
    assert shared.calls == ["first", "ask one"]


async def test_cancel_of_a_run_of_a_lost_memory_log(alone: Durable, e: str) -> None:
    one = await alone.start()
    await begin(one, e)
    await until_interrupted(one, e)
    one.kill()
    two = await alone.start()
    assert await two.do(f"return await hub.cancel({e!r}, 'enough')")
    assert finals(await two.read(e)) == ["workflow_cancelled"]


@BOTH
async def test_killed_while_it_works(shared: Durable, e: str) -> None:
    one, two, three = await shared.start(), await shared.start(), await shared.start()
    run_id = await begin(one, e, "working", "on_abandoned='resume'")
    await shared.reach("work")
    await until(lambda: kept(one, e), "the mark in the log")
    one.kill()
    await shared.reach("work", 2)
    shared.open_gate()
    updates = await two.read(e)
    assert result_of(updates)["done"] == ["work", "last"]
    assert finals(updates) == ["workflow_complete"]
    assert {each.metadata.run_id for each in updates} == {run_id}
    assert shared.calls == ["first", "work", "work", "last"], "one process goes on, from the last checkpoint"
    starts = [each for each in updates if each.type == "node_start" and each.metadata.node_id == "work"]
    assert [each.metadata.scope.attempt for each in starts] == [1, 2]
    del three


async def saved(member: Member, e: str) -> bool:
    """Return whether the checkpoint before the node `work` is stored: LangGraph stores it while the node begins."""
    config = {"configurable": {"thread_id": e}}
    return await member.do(f"return (await streaming.graphs['working'].aget_state({config})).next == ('work',)")


async def kept(member: Member, e: str) -> bool:
    """Return whether the run survives its process, and the checkpoint before the node `work` is stored."""
    return await saved(member, e) and bool(
        await member.do(
            f"return await hub.log._io.run(hub.log._store.command('HGET', hub.log.keys.execution({e!r}).state, 'a'))"
        )
    )


async def test_without_resume_a_killed_run_ends(shared: Durable, e: str) -> None:
    one, two = await shared.start(), await shared.start()
    await begin(one, e, "working")
    await shared.reach("work")
    one.kill()
    assert finals(await two.read(e)) == ["workflow_abandoned"]
    assert shared.calls == ["first", "work"]


@BOTH
async def test_killed_while_it_works_with_a_memory_log(alone: Durable, e: str) -> None:
    one = await alone.start()
    await begin(one, e, "working", "on_abandoned='resume'")
    await alone.reach("work")
    await until(lambda: saved(one, e), "the checkpoint")
    one.kill()
    two = await alone.start()
    assert await two.do(f"return await hub.control.restore({e!r})") is False, "another process may work on the thread"
    run = await two.do(f"return str(await streaming.runs.recover({e!r}))")
    assert e in run
    await alone.reach("work", 2)
    alone.open_gate()
    assert result_of(await two.read(e))["done"] == ["work", "last"]
    assert alone.calls == ["first", "work", "work", "last"]


@BOTH
async def test_two_processes_get_an_answer_at_once_after_the_death(shared: Durable, e: str) -> None:
    one, two, three = await shared.start(), await shared.start(), await shared.start()
    await begin(one, e)
    (prompt_id,) = prompts_in(await until_interrupted(one, e))
    one.kill()
    accepted: list[str] = []

    async def race() -> bool:
        answers = await asyncio.gather(answer(two, e, prompt_id, "two"), answer(three, e, prompt_id, "three"))
        accepted.extend(each for each, found in zip(("two", "three"), answers, strict=True) if found == "ok")
        return bool(accepted)

    await until(race, "an answer")
    updates = await two.read(e)
    assert result_of(updates)["answers"] == accepted
    assert len(accepted) == 1
    assert shared.calls == ["first", "ask one", "ask one", "last"]


async def test_killed_between_two_answers(shared: Durable, e: str) -> None:
    one, two = await shared.start(), await shared.start()
    await begin(one, e, "asking-two")
    first, second = prompts_in(await until_interrupted(one, e))
    assert await answer(one, e, first, "1") == "ok"
    await one.do("await streaming.runs.recovery.records.flush()")
    one.kill()
    await answer_when_ready(two, e, second, "2")
    updates = await two.read(e)
    assert sorted(result_of(updates)["answers"]) == ["1", "2"]
    assert finals(updates) == ["workflow_complete"]
    assert [each.data["prompt_id"] for each in updates if each.type == "human_response"] == [first, second]


async def test_killed_between_two_answers_with_a_memory_log(alone: Durable, e: str) -> None:
    one = await alone.start()
    await begin(one, e, "asking-two")
    prompts = prompts_in(await until_interrupted(one, e))
    assert await answer(one, e, prompts[0], "lost") == "ok"
    one.kill()
    two = await alone.start()
    assert sorted(prompts_in(await until_interrupted(two, e))) == sorted(prompts), "both are open again"
    for prompt_id in prompts:
        assert await answer(two, e, prompt_id, "again") == "ok"
    assert result_of(await two.read(e))["answers"] == ["again", "again"]


async def test_paused_beyond_the_lease_while_it_works(shared: Durable, e: str) -> None:
    one, two = await shared.start(), await shared.start()
    await one.do(START.format(graph="working", e=e, options="on_abandoned='resume'") + "\nhub.run = run")
    await shared.reach("work")
    await until(lambda: kept(one, e), "the mark in the log")
    one.pause()
    await shared.reach("work", 2)
    one.go_on()
    ended = await one.do("done = await asyncio.gather(hub.run, return_exceptions=True)\nreturn type(done[0]).__name__")
    assert ended == "RunRefusedError"
    shared.open_gate()
    updates = await two.read(e)
    assert result_of(updates)["done"] == ["work", "last"]
    assert finals(updates) == ["workflow_complete"]
    assert shared.calls == ["first", "work", "work", "last"]


async def test_paused_beyond_the_lease_while_it_waits(shared: Durable, e: str) -> None:
    one, two = await shared.start(), await shared.start()
    await begin(one, e)
    (prompt_id,) = prompts_in(await until_interrupted(one, e))
    one.pause()
    await asyncio.sleep(2 * LEASE)
    await answer_when_ready(two, e, prompt_id)
    updates = await two.read(e)
    one.go_on()
    assert finals(updates) == ["workflow_complete"]
    assert await answer(one, e, prompt_id) == "PromptError"
    assert shared.calls == ["first", "ask one", "ask one", "last"]


@pytest.mark.parametrize("graph", ["asking", "working"])
async def test_a_graceful_stop(shared: Durable, e: str, graph: str) -> None:
    one, two = await shared.start(), await shared.start()
    await begin(one, e, graph, "on_abandoned='resume'")
    if graph == "asking":
        (prompt_id,) = prompts_in(await until_interrupted(one, e))
        await one.stop()
        await answer_when_ready(two, e, prompt_id)
    else:
        await shared.reach("work")
        await until(lambda: kept(one, e), "the mark in the log")
        await one.stop()
        await shared.reach("work", 2)
        shared.open_gate()
    updates = await two.read(e)
    assert finals(updates) == ["workflow_complete"]


async def test_a_process_that_starts_later_takes_up_what_is_left(shared: Durable, e: str) -> None:
    one = await shared.start()
    await begin(one, e)
    (prompt_id,) = prompts_in(await until_interrupted(one, e))
    await one.stop()
    two = await shared.start()
    three = await shared.start()
    assert await answer(three, e, prompt_id) == "ok"
    assert finals(await two.read(e)) == ["workflow_complete"]
