"""Answers from a process that does not hold the run: checked where it runs, exactly one wins."""

import asyncio

import pytest

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, PromptError
from lg_streaming.settings import RedisSettings, StreamingSettings
from tests.fleet.processes import Fleet
from tests.hub.helpers import collect
from tests.runs.people import asked, branches
from tests.support.redis_server import RedisServer

_START = """
from tests.runs.graphs import asking
p.run = await streaming.runs.start(asking({"question": "Go?", "type": "choice", "choices": ["a", "b"]}), {},
                                   execution_id="e", owner="ann")
"""


@pytest.mark.row("HIVE-75")
async def test_a_run_of_another_process_is_answered(fleet: Fleet) -> None:
    holder = await fleet.start()
    hub = await fleet.hub()
    await holder.do(_START)
    seen = await asyncio.wait_for(collect(hub.subscribe("e", until="interrupted")), 10)
    (prompt,) = seen[-1].data["prompts"]
    with pytest.raises(BadRequestError, match="one of 'a', 'b'") as caught:
        await hub.respond("e", prompt["prompt_id"], "c", responder="bob")
    assert caught.value.details["allowed"] == ["a", "b"]
    await hub.respond("e", prompt["prompt_id"], "b", responder="bob")
    with pytest.raises(PromptError):
        await hub.respond("e", prompt["prompt_id"], "a")
    assert await holder.do("return (await p.run)['answer']") == "b"
    updates = await asyncio.wait_for(collect(hub.subscribe("e")), 10)
    (response,) = [each.data for each in updates if each.type == "human_response"]
    assert response == {"prompt_id": prompt["prompt_id"], "response": "b", "responded_by": "bob"}
    assert updates[-1].type == "workflow_complete"


async def test_answers_of_several_processes_at_once(shared_redis: RedisServer, redis_prefix: str) -> None:
    settings = StreamingSettings(log=shared_redis.url, redis=RedisSettings(prefix=redis_prefix))
    async with StreamingModule(settings) as a, StreamingModule(settings) as b:
        run = await a.runs.start(branches("x", "y"), {}, execution_id="e")
        prompts = await asked(b)
        works = [
            module.hub.respond("e", each.data["prompt_id"], number, responder=str(number))
            for each in prompts
            for number, module in enumerate((a, b, b, a))
        ]
        results = await asyncio.gather(*works, return_exceptions=True)
        assert [type(each) for each in results].count(PromptError) == 6
        assert results.count(None) == 2
        answers = (await run)["answers"]
        updates = await asyncio.wait_for(collect(b.hub.subscribe("e")), 10)
        responses = [each.data for each in updates if each.type == "human_response"]
        assert sorted(answer for _, answer in answers) == sorted(each["response"] for each in responses)
        assert all(each["responded_by"] == str(each["response"]) for each in responses)
