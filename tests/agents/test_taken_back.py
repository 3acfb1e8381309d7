"""Agents whose models fail in the middle, and are asked again: the text that counts is that of the final state."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from langchain.agents import middleware as hooks
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from lg_streaming.testing import ScriptedChatModel, ScriptedError
from tests.agents.calling import CAPTURES, WAYS, rotated
from tests.agents.reading import read
from tests.agents.teams import ASK, Graph, Messages, call, create_agent, weather

ModelRetryMiddleware: Any = cast("Any", hooks).ModelRetryMiddleware
ModelFallbackMiddleware: Any = cast("Any", hooks).ModelFallbackMiddleware
RETRY = RetryPolicy(initial_interval=0.0, jitter=False, retry_on=ScriptedError)


def _answer(messages: list[BaseMessage]) -> AIMessage | str:
    if messages[-1].type == "tool":
        return "It rains in Oslo."
    return AIMessage("Let me look. ", tool_calls=[call("weather", "call-w", city="Oslo")])


class FailsLate(ScriptedChatModel):
    """A model that fails in the middle of its answer to a tool, `failures` times."""

    def _fail_after(self) -> int | None:
        return super()._fail_after() if self._late else None

    def _next_answer(self, messages: list[BaseMessage]) -> AIMessage:
        self._late = messages[-1].type == "tool"
        return super()._next_answer(messages)

    _late: bool = False


def shaky(failures: int | None = 1) -> ScriptedChatModel:
    return FailsLate(answers=_answer, fail_after=2, failures=failures)


def agent(*middleware: Any, model: Any = None) -> Graph:
    return create_agent(model or shaky(), [weather], name="forecaster", middleware=middleware)


def by_middleware() -> Graph:
    return agent(ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False))


def by_fallback() -> Graph:
    return agent(ModelFallbackMiddleware(ScriptedChatModel(answers=_answer)), model=shaky(None))


def by_policy() -> Graph:
    """The whole agent is tried again: its text before the failure is void too."""
    builder: Any = StateGraph(Messages)
    builder.add_node("desk", agent(), retry_policy=RETRY).add_edge(START, "desk")
    return builder.compile()


def by_policy_around_a_function() -> Graph:
    inner = agent()

    def desk(state: Messages) -> dict[str, Any]:
        return inner.invoke({"messages": state["messages"]})

    builder: Any = StateGraph(Messages)
    builder.add_node("desk", desk, retry_policy=RETRY).add_edge(START, "desk")
    return builder.compile()


def by_task() -> Graph:
    inner = agent()

    @task(retry_policy=RETRY)
    def look(question: str) -> list[BaseMessage]:
        return inner.invoke({"messages": question})["messages"]

    @entrypoint()
    def report(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"messages": look(inputs["messages"]).result()}

    return cast("Graph", report)


SHAKY: dict[str, Callable[[], Graph]] = {
    "middleware": by_middleware,
    "fallback": by_fallback,
    "policy": by_policy,
    "policy around a function": by_policy_around_a_function,
    "task": by_task,
}
CASES = rotated(SHAKY, CAPTURES, ["invoke", "ainvoke", "messages", "events v2"], each=2)


@pytest.mark.parametrize(("team", "capture", "way"), CASES)
async def test_a_second_try(team: str, capture: str, way: str) -> None:
    how = CAPTURES[capture]
    graph = how.graph(SHAKY[team]())
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            state = await WAYS[way](graph, ASK, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    assert seen.outcome == "workflow_complete"
    (error,) = seen.of("llm_error")
    assert error.message_id is not None
    assert error.message_id in {token.message_id for token in seen.of("token")}
    seen.says(state["messages"])
