"""Every keyword of `add_node` works the same on a decorated node: same result or same exception, same graph."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Literal, cast

import pytest
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.errors import NodeError
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import CachePolicy, Command, RetryPolicy, TimeoutPolicy, TracePolicy

from lg_streaming import stream_all
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import State, Update

Make = Callable[[], Any]


class Work:
    """Behaviour of the nodes of one graph: fail the first ``failures`` times, then wait, then answer."""

    def __init__(self, *, failures: int = 0, wait: float = 0.0) -> None:
        self.failures = failures
        self.wait = wait
        self.calls = 0

    def begin(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("not yet")

    def run(self, _: Any = None) -> Update:
        self.begin()
        return {"text": "done"}

    async def arun(self, _: Any = None) -> Update:
        self.begin()
        await asyncio.sleep(self.wait)
        return {"text": "done"}

    def say(self, messages: Any) -> AIMessage:
        self.begin()
        return AIMessage("done")


def coroutine_function(work: Work) -> Any:
    async def node(state: State) -> Update:
        return await work.arun()

    return node


def function(work: Work) -> Any:
    def node(state: State) -> Update:
        return work.run()

    return node


def generator(work: Work) -> Any:
    def node(state: State) -> Any:
        yield work.run()

    return node


def async_generator(work: Work) -> Any:
    async def node(state: State) -> Any:
        yield await work.arun()

    return node


class CallableNode:
    def __init__(self, work: Work) -> None:
        self.work = work

    async def method(self, state: State) -> Update:
        return await self.work.arun()

    async def __call__(self, state: State) -> Update:
        return await self.work.arun()


def tool_node(work: Work) -> Any:
    @tool
    async def step() -> str:
        """Do the step."""
        return (await work.arun())["text"]

    def fail(error: Exception) -> str:
        raise error

    return ToolNode([step], handle_tool_errors=fail)


def agent(work: Work) -> Any:
    return cast("Any", create_agent)(ScriptedChatModel(answers=work.say, first_delay=work.wait), [])


def sequence(work: Work) -> Any:
    async def last(state: Any) -> Update:
        return await work.arun()

    return RunnableLambda(_same_async) | RunnableLambda(last)


def mixed_sequence(work: Work) -> Any:
    return RunnableLambda(_same_async) | RunnableLambda(work.run)


async def _same_async(state: Any) -> Any:
    return state


NODES: dict[str, Callable[[Work], Any]] = {
    "coroutine function": coroutine_function,
    "function": function,
    "generator": generator,
    "async generator": async_generator,
    "method": lambda work: CallableNode(work).method,
    "callable object": CallableNode,
    "partial": lambda work: functools.partial(_with, work),
    "ToolNode": tool_node,
    "agent": agent,
    "RunnableLambda": lambda work: RunnableLambda(coroutine_function(work)),
    "RunnableLambda, threaded": lambda work: RunnableLambda(function(work)),
    "LCEL sequence": sequence,
    "LCEL sequence, part threaded": mixed_sequence,
    "Runnable with a config": lambda work: RunnableLambda(coroutine_function(work)).with_config(tags=["mine"]),
    "threaded Runnable with a config": lambda work: RunnableLambda(function(work)).with_config(tags=["mine"]),
}


async def _with(work: Work, state: State) -> Update:
    return await work.arun()


async def handle(state: State, error: NodeError) -> Update:
    return {"text": f"handled {type(error.error).__name__} of {error.node}"}


def handle_in_a_thread(state: State, config: RunnableConfig, error: NodeError) -> Command[Literal["after"]]:
    assert config.get("metadata")
    return Command(update={"text": f"handled {type(error.error).__name__} of {error.node}"}, goto="after")


FAST = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ConnectionError)
PASSES = 0.2
"""Seconds of a timeout that passes, after a call has begun on a loaded machine too."""
KEYWORDS: dict[str, tuple[dict[str, Any], Callable[[], Work]]] = {
    "none": ({}, Work),
    "retry_policy": ({"retry_policy": FAST}, lambda: Work(failures=2)),
    "retry_policy that is used up": ({"retry_policy": [FAST]}, lambda: Work(failures=9)),
    "cache_policy": ({"cache_policy": CachePolicy()}, Work),
    "timeout": ({"timeout": 30}, Work),
    "timeout that passes": ({"timeout": PASSES}, lambda: Work(wait=20)),
    "timeout, retried": ({"timeout": TimeoutPolicy(run_timeout=PASSES), "retry_policy": FAST}, lambda: Work(wait=20)),
    "idle timeout": ({"timeout": TimeoutPolicy(idle_timeout=30)}, Work),
    "idle timeout that passes": ({"timeout": TimeoutPolicy(idle_timeout=PASSES)}, lambda: Work(wait=20)),
    "error_handler": ({"error_handler": handle}, lambda: Work(failures=1)),
    "error_handler, threaded": ({"error_handler": handle_in_a_thread}, lambda: Work(failures=1)),
    "destinations": ({"destinations": ("after",)}, Work),
    "defer": ({"defer": True}, Work),
    "input_schema": ({"input_schema": State}, Work),
    "metadata": ({"metadata": {"team": "blue"}}, Work),
    "trace_policy": ({"trace_policy": TracePolicy(process_inputs=str)}, Work),
}


async def after(state: State) -> Update:
    return {}


async def outcome(
    streaming: StreamingModule, make: Callable[[Work], Any], name: str, decorate: Callable[[Any], Any]
) -> dict[str, Any]:
    """Run a graph with the node: return its drawing, its result or error, and the number of the node's runs."""
    options, make_work = KEYWORDS[name]
    if "error_handler" in options:
        options = options | {"error_handler": decorate(options["error_handler"])}
    work = make_work()
    builder: Any = StateGraph(State)
    try:
        builder.add_node("step", decorate(make(work)), **options).add_node("after", after).add_edge(START, "step")
        graph = builder.add_edge("step", "after").compile(cache=InMemoryCache[Any]())
    except Exception as error:  # noqa: BLE001 (any error must be the same)
        return {"compile": repr(error)}
    seen: dict[str, Any] = {
        "graph": graph.get_graph().draw_mermaid(),
        "subgraphs": [name for name, _ in graph.get_subgraphs()],
        "metadata": graph.nodes["step"].metadata,
    }
    call = AIMessage("", tool_calls=[{"name": "step", "args": {}, "id": "call-1"}], id="m")
    inputs = {"topic": "rivers", "messages": [call]}
    for execution_id in ("a", "b"):
        try:
            result = await graph.ainvoke(inputs, streaming.config(execution_id=execution_id))
        except Exception as error:  # noqa: BLE001 (the same)
            seen[execution_id] = (type(error), str(error).partition("elapsed")[0].partition("after")[0])
        else:
            messages = [(each.type, each.text) for each in result.pop("messages")]
            seen[execution_id] = (result, messages)
    return seen | {"calls": work.calls}


def plain(node: Any) -> Any:
    return node


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("node", NODES)
async def test_the_same_with_and_without(streaming: StreamingModule, node: str, keyword: str) -> None:
    expected = await outcome(streaming, NODES[node], keyword, plain)
    assert await outcome(streaming, NODES[node], keyword, stream_all) == expected


def test_the_table_has_every_keyword() -> None:
    known = set(StateGraph.add_node.__kwdefaults__ or {})
    assert known == {keyword for options, _ in KEYWORDS.values() for keyword in options}


async def test_the_table_is_not_empty_talk(streaming: StreamingModule) -> None:
    """The plain outcomes differ by keyword, so that the comparison above shows something."""
    plain_agent = {name: await outcome(streaming, agent, name, plain) for name in KEYWORDS}
    assert plain_agent["retry_policy"]["calls"] == 4  # two failures and two calls of the graph
    assert plain_agent["cache_policy"]["calls"] == 1
    assert plain_agent["timeout that passes"]["a"][0].__name__ == "NodeTimeoutError"
    assert plain_agent["idle timeout that passes"]["a"][0].__name__ == "NodeTimeoutError"
    assert plain_agent["error_handler"]["a"][0]["text"] == "handled ConnectionError of step"
    assert "compile" in await outcome(streaming, function, "timeout", plain)
