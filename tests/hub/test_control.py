"""Requests to runs: cancelling, and responses to prompts."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lg_streaming import StreamingModule, StreamingSettings, current_emitter, stream_event
from lg_streaming.errors import BadRequestError, HubClosedError, PromptError, UpdateTooLargeError
from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings
from lg_streaming.views import TokenStreamingService
from tests.hub.helpers import MakeHub, collect, soon, types, until


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule(StreamingSettings(limits=LimitSettings(cancel_grace=0.5))) as module:
        yield module


async def everything(hub: StreamHub, execution_id: str = "e") -> list[Any]:
    return await collect(hub.subscribe(execution_id))


def ask(hub: StreamHub, prompt_id: str = "p1", **scope: Any) -> None:
    hub.emitter("e", **scope).event("human_prompt", {"prompt_id": prompt_id, "prompt": "Go on?", "type": "approval"})


# ---------------------------------------------------------------- cancelling
async def test_a_run_nobody_handles_ends_at_once(hub: StreamHub) -> None:
    assert await hub.cancel("e") is False
    hub.open("e")
    assert await hub.cancel("e", "enough") is True
    updates = await everything(hub)
    assert (types(updates), updates[-1].data) == (["workflow_start", "workflow_cancelled"], {"reason": "enough"})
    assert await hub.cancel("e") is False


async def test_handlers_are_called_once_a_run_and_the_run_ends_by_its_own_outcome(hub: StreamHub) -> None:
    told: list[Any] = []

    async def later(reason: str | None) -> None:
        await asyncio.sleep(0)
        told.append(("later", reason))
        await hub.close("e", "what there was")

    hub.on_cancel("e", lambda reason: told.append(("now", reason)))
    hub.on_cancel("e", later)
    undone = hub.on_cancel("e", lambda reason: told.append("never"))
    undone()
    undone()
    hub.open("e")
    assert await hub.cancel("e", "enough")
    assert await hub.cancel("e", "again")
    assert types(await everything(hub)) == ["workflow_start", "workflow_complete"]
    assert told == [("now", "enough"), ("later", "enough")]
    hub.open("e")
    assert await hub.cancel("e", "the next run")
    await until(lambda: not hub.registry.is_running("e"))
    assert told[2:] == [("now", "the next run"), ("later", "the next run")]


async def test_a_run_that_does_not_heed_is_ended_after_the_grace(make_hub: MakeHub) -> None:
    hub = make_hub(cancel_grace=0.01)
    hub.on_cancel("e", lambda reason: None)
    emitter = hub.emitter("e")
    emitter.workflow_start()
    assert await hub.cancel("e", "enough")
    updates = await everything(hub)
    assert (updates[-1].type, updates[-1].data) == ("workflow_cancelled", {"reason": "enough"})
    emitter.token("too late")
    assert hub.statistics().dropped_late == 1


async def test_the_grace_is_over_for_its_own_run_only(make_hub: MakeHub) -> None:
    hub = make_hub(cancel_grace=0.01)
    hub.on_cancel("e", lambda reason: None)
    hub.open("e")
    await hub.cancel("e")
    await hub.close("e")
    hub.open("e")
    await asyncio.sleep(0.05)
    assert hub.registry.is_running("e")
    hub.open("later")
    hub.on_cancel("later", lambda reason: None)
    await hub.cancel("later")
    await hub.aclose()
    await asyncio.sleep(0.05)  # a closed hub takes nothing, and nothing fails


async def test_what_handlers_raise_is_logged_and_goes_no_further(
    make_hub: MakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub = make_hub(cancel_grace=0.01)

    def now(reason: str | None) -> None:
        raise RuntimeError("at once")

    async def later(reason: str | None) -> None:
        raise RuntimeError("later")

    hub.on_cancel("e", now)
    hub.on_cancel("e", later)
    hub.open("e")
    assert await hub.cancel("e")
    assert types(await everything(hub))[-1] == "workflow_cancelled"
    assert [record.message for record in caplog.records] == ["a handler of execution 'e' failed"] * 2


async def test_closing_a_hub_stops_handlers_that_go_on(make_hub: MakeHub) -> None:
    hub = make_hub()
    stopped = asyncio.Event()

    async def endless(reason: str | None) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    hub.on_cancel("e", endless)
    hub.open("e")
    await hub.cancel("e")
    await asyncio.sleep(0)
    await hub.aclose()
    assert stopped.is_set()


async def test_a_handler_needs_an_execution_that_can_be(hub: StreamHub) -> None:
    with pytest.raises(BadRequestError):
        hub.on_cancel("a b", lambda reason: None)
    with pytest.raises(BadRequestError):
        hub.on_response("", lambda prompt_id, response: None)


# ---------------------------------------------------------------- blocks
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_cancelling_a_run_cancels_the_task_of_its_block(streaming: StreamingModule, asynchronous: bool) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        if asynchronous:
            async with streaming.execution("e"), streaming.execution("e"):
                inside.set()
                await asyncio.Event().wait()
        else:
            with streaming.execution("e"):
                inside.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await soon(inside.wait())
    assert await streaming.hub.cancel("e", "enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    updates = await everything(streaming.hub)
    assert (types(updates), updates[-1].data) == (["workflow_start", "workflow_cancelled"], {"reason": "enough"})


async def test_a_block_may_clean_up_and_end_well(streaming: StreamingModule) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with streaming.execution("e") as block:
            try:
                inside.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                block.emitter.custom("note", {"told": str(error)})
                await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await soon(inside.wait())
    await streaming.hub.cancel("e", "enough")
    await task
    updates = await everything(streaming.hub)
    assert types(updates) == ["workflow_start", "custom", "workflow_complete"]
    assert updates[1].data["data"] == {"told": "enough"}


async def test_a_block_on_another_loop_is_cancelled_from_here(streaming: StreamingModule) -> None:
    inside = asyncio.Event()
    here = asyncio.get_running_loop()

    async def work() -> None:
        async with streaming.execution("e"):
            here.call_soon_threadsafe(inside.set)
            await asyncio.Event().wait()

    def elsewhere() -> str:
        try:
            asyncio.run(work())
        except asyncio.CancelledError:
            return "cancelled"
        return "went on"

    running = asyncio.create_task(asyncio.to_thread(elsewhere))
    await soon(inside.wait())
    await streaming.hub.cancel("e")
    assert await soon(running) == "cancelled"
    assert types(await everything(streaming.hub)) == ["workflow_start", "workflow_cancelled"]


async def test_a_block_without_a_task_ends_after_the_grace(streaming: StreamingModule) -> None:
    inside, may_leave = asyncio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    def work() -> None:
        with streaming.execution("e") as block:
            emitter = block.emitter
            here.call_soon_threadsafe(inside.set)
            asyncio.run_coroutine_threadsafe(may_leave.wait(), here).result()
            emitter.token("too late")

    running = asyncio.create_task(asyncio.to_thread(work))
    await soon(inside.wait())
    assert await streaming.hub.cancel("e")
    assert types(await everything(streaming.hub)) == ["workflow_start", "workflow_cancelled"]
    may_leave.set()
    await soon(running)
    assert types(await everything(streaming.hub)) == ["workflow_start", "workflow_cancelled"]


async def test_a_cancel_that_comes_too_late_hits_nothing_else(streaming: StreamingModule) -> None:
    async with streaming.execution("e"):
        cancelling = asyncio.create_task(streaming.hub.cancel("e"))
        await asyncio.sleep(0)  # asked; the task of this test would be cancelled at its next step
    assert await cancelling
    await asyncio.sleep(0)
    assert types(await everything(streaming.hub)) == ["workflow_start", "workflow_complete"]


# ---------------------------------------------------------------- prompts
async def test_the_first_answer_wins(hub: StreamHub) -> None:
    told: list[Any] = []
    hub.on_response("e", lambda prompt_id, response: told.append((prompt_id, response)))
    undo = hub.on_response("e", lambda prompt_id, response: told.append("never"))
    undo()
    ask(hub, node_id="review")
    await hub.respond("e", "p1", {"approved": True})
    with pytest.raises(PromptError):
        await hub.respond("e", "p1", {"approved": False})
    await hub.close("e")
    updates = await everything(hub)
    assert types(updates) == ["workflow_start", "human_prompt", "human_response", "workflow_complete"]
    assert updates[2].data == {"prompt_id": "p1", "response": {"approved": True}}
    assert (updates[2].metadata.node_id, updates[2].metadata.run_id) == ("review", updates[1].metadata.run_id)
    assert told == [("p1", {"approved": True})]


async def test_the_prompt_of_a_node_with_stream_event_can_be_answered(streaming: StreamingModule) -> None:
    answers: list[Any] = []

    @stream_event
    async def review(_: Any) -> None:
        emitter = current_emitter()
        emitter.event("human_prompt", {"prompt_id": "p1", "prompt": "Go on?", "type": "approval"})
        await streaming.hub.respond("e", "p1", "yes")

    streaming.hub.on_response("e", lambda prompt_id, response: answers.append((prompt_id, response)))
    async with streaming.execution("e"):
        await review({})
    assert answers == [("p1", "yes")]


async def test_what_was_never_asked_or_is_over_takes_no_answer(hub: StreamHub) -> None:
    for execution_id in ("nothing", "e"):
        with pytest.raises(PromptError) as refused:
            await hub.respond(execution_id, "p1", "yes")
        assert refused.value.closes == "no"
        hub.open("e")
    ask(hub)
    await hub.close("e")
    hub.open("e")
    with pytest.raises(PromptError):
        await hub.respond("e", "p1", "yes")
    hub.publish("e", "human_prompt", "not an object")
    hub.publish("e", "human_prompt", {"prompt_id": 7})
    await hub.close("e")
    assert types(await everything(hub))[-3:] == ["human_prompt", "human_prompt", "workflow_complete"]


async def test_an_answer_that_is_too_large_leaves_the_prompt_open(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=1_024)
    ask(hub)
    with pytest.raises(UpdateTooLargeError):
        await hub.respond("e", "p1", "x" * 2_000)
    await hub.respond("e", "p1", "short")


async def test_open_prompts_are_bounded(hub: StreamHub) -> None:
    hub.open("e")
    for index in range(1_001):
        ask(hub, f"p{index}")
    with pytest.raises(PromptError):
        await hub.respond("e", "p0", "yes")
    await hub.respond("e", "p1", "yes")
    await hub.respond("e", "p1000", "yes")


async def test_a_closed_hub_takes_no_answer(make_hub: MakeHub) -> None:
    hub = make_hub()
    ask(hub)
    await hub.aclose()
    with pytest.raises(HubClosedError):
        await hub.respond("e", "p1", "yes")


async def test_text_that_was_said_before_an_unheeding_run_is_ended_is_not_lost(make_hub: MakeHub) -> None:
    hub = make_hub(cancel_grace=0.01)
    hub.on_cancel("e", lambda reason: None)
    hub.open("e")
    service = TokenStreamingService(hub)
    service.initialize_token_stream(
        "e", "write", {"buffer_size": 100, "flush_interval": 60, "first_token_immediately": False}
    )
    service.stream_token("e", "write", "held")
    assert await hub.cancel("e")
    updates = await everything(hub)
    assert types(updates) == ["workflow_start", "token", "workflow_cancelled"]
    assert updates[1].data["content"] == "held"
    assert hub.statistics().dropped_late == 0
