"""Updates of activities have the shapes of the schema."""

import pytest

from lg_streaming.activity import AgentStream, LLMStream, TaskStream
from lg_streaming.hub import StreamHub
from lg_streaming.payloads import PAYLOADS
from tests.activity.reading import read

_BESIDE = {
    "message_id",
    "provider",
    "agent_id",
    "task_id",
    "parameters",
    "tools",
    "retry_attempt",
    "cost_breakdown",
    "args",
    "index",
}
"""Fields of a model's call that the schema leaves open."""


@pytest.mark.row("CFLOW-14")
@pytest.mark.row("CFLOW-20")
async def test_every_step_has_the_shape_of_the_schema(hub: StreamHub) -> None:
    emitter = hub.emitter("e")
    with AgentStream(emitter, "a1", agent_type="coder", name="n", metadata={"x": 1}, interval=0) as agent:
        for stream in ("stdout", "stderr"):
            agent.output(stream, "x")
        for level in ("debug", "info", "warn", "error", "fatal"):
            agent.log(level, "x", {"y": 1})
        agent.metrics(cpu_percent=1)
        agent.health(False, 1, ["z"])
        agent.started("t1")
        agent.paused("r")
        agent.error("no")
    task = TaskStream(emitter, "t1", name="n", description="d", type="t", dependencies=["t0"], metadata={}, interval=0)
    task.queued()
    task.assigned("a1")
    with task:
        task.progress(1, "s", current_step_number=1, total_steps=2, eta_s=3, metadata={"m": 1})
        task.intermediate("x", "artifact", is_final=True)
        task.metrics(cpu_percent=1)
    TaskStream(emitter).failed("no")
    TaskStream(emitter).cancelled("why")
    with LLMStream(emitter).request(model="m", provider="p", parameters={}, tools=["t"]) as request:
        request.error("no", error_type="timeout", code=1, will_retry=True)
        request.token("x", finish_reason="stop")
        request.tool_call("c", "t", "{", is_complete=False)
        request.tool_call("c", "t", "}")
        request.tool_result("c", 1)
        request.usage(input_tokens=1, cost=1, cost_breakdown={"a": 1})
    updates = await read(hub)
    told = {update.type for update in updates}
    assert {type for type in PAYLOADS if type.startswith(("task:", "agent:"))} <= told  # noqa: A001
    for update in updates:
        shape = PAYLOADS[update.type]
        shape.model_validate(update.data)
        unknown = update.data.keys() - shape.model_fields.keys()
        if update.type.startswith(("task:", "agent:")):
            assert unknown == set(), update.type
        else:
            assert unknown <= _BESIDE | {"finish_reason", "is_final", "metadata", "tool_calls", "tool_call_id"}, (
                update.type
            )
