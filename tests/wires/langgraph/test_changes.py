"""Threads that are changed while runs work on them, or wait for their turn."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from lg_streaming import StreamHub
from lg_streaming.gateway.dialects.langgraph import threads
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError
from tests.wires.langgraph.python_checks import Place, client_of, human, read, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(place: Place) -> AsyncGenerator[Any]:
    async with client_of(place.url) as found:
        yield found


async def busy_thread(client: Any, text: str, **options: str) -> tuple[str, str]:
    """A thread, and its run in the middle of the node `say`."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "agent", input=human(text), **options)

    async def works() -> bool:
        return (await client.threads.get_state(thread))["next"] == ["say"]

    await until(works)
    return thread, run["run_id"]


@pytest.mark.parametrize("wait", [True, False])
async def test_a_first_run_that_is_taken_back_leaves_no_state(wait: bool, client: Any, place: Place) -> None:
    thread, run = await busy_thread(client, f"say one |{place.gate()}|")
    await client.runs.cancel(thread, run, wait=wait, action="rollback")
    state = await client.threads.get_state(thread)
    assert (state["values"], state["next"]) == ({}, [])
    assert (await client.threads.get(thread))["values"] is None


async def test_starts_at_once_that_take_back_each_other_leave_one_run(client: Any, place: Place) -> None:
    gate, thread = place.gate(), (await client.threads.create())["thread_id"]
    texts = (f"say m{n} |{gate}|" for n in range(8))
    starts = (client.runs.create(thread, "agent", input=human(each), multitask_strategy="rollback") for each in texts)
    runs = await asyncio.gather(*starts)
    (last,) = await client.runs.list(thread)
    assert last["run_id"] in {each["run_id"] for each in runs}
    place.open(gate)
    await client.runs.join(thread, last["run_id"])
    assert len((await client.threads.get_state(thread))["values"]["messages"]) == 2


async def test_a_deleted_thread_takes_the_runs_that_wait_for_their_turn_with_it(client: Any, place: Place) -> None:
    gate = place.gate()
    thread, _ = await busy_thread(client, f"say one |{gate}|")
    waiting = [await client.runs.create(thread, "agent", input=human(f"say m{n}")) for n in range(2)]
    streams = [
        asyncio.create_task(read(client.runs.join_stream(thread, each["run_id"], last_event_id="-1")))
        for each in waiting
    ]
    await client.threads.delete(thread)
    place.open(gate)
    async with asyncio.timeout(10):
        ended = await asyncio.gather(*streams, return_exceptions=True)
    assert all(isinstance(each, NotFoundError) or each == [] for each in ended), ended
    with pytest.raises(NotFoundError):
        await client.threads.get(thread)


async def test_of_answers_at_once_the_last_one_goes_on(on_redis: Place) -> None:
    """Two tabs answer an interrupt each, while a process reads the log later than it writes it."""
    async with client_of(on_redis.url) as client:
        thread = (await client.threads.create())["thread_id"]
        asked = await client.runs.wait(thread, "agent", input=human("two"))
        answers = ({"resume": {each["id"]: "yes"}} for each in asked["__interrupt__"])
        found = await asyncio.gather(*(client.runs.wait(thread, "agent", command=each) for each in answers))
        assert [each for each in found if len(each.get("messages", [])) == 3], found
        run = (await client.runs.list(thread))[0]
        assert run["status"] == "success"
        frames = await read(client.runs.join_stream(thread, run["run_id"], last_event_id="-1"))
        assert len(frames[-1].data["messages"]) == 3


async def test_an_update_of_an_unknown_checkpoint_changes_nothing(client: Any) -> None:
    thread = (await client.threads.create())["thread_id"]
    before = await client.runs.wait(thread, "agent", input=human("say one"))
    checkpoint = {"checkpoint_id": "no-such", "checkpoint_ns": "", "thread_id": thread}
    with pytest.raises(UnprocessableEntityError):
        await client.threads.update_state(thread, {"note": "x"}, checkpoint=checkpoint)
    assert (await client.threads.get_state(thread))["values"] == before


async def test_a_run_that_goes_on_after_its_cancellation_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_END_TIMEOUT", 0.01)
    hub = StreamHub()
    hub.runs.begin_run("stubborn")
    await hub.writer.flush()
    with pytest.raises(RefusedError, match="has not ended") as refusal:
        await threads.wait_for_run(hub, "stubborn")
    await hub.aclose()
    assert refusal.value.status == 504
