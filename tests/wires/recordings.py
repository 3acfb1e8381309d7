"""Updates of real runs, recorded once: what every wire has to read the same."""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from langchain import agents
from langchain.agents import middleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from lg_streaming import StreamingModule, current_emitter
from lg_streaming.log.base import StoredUpdate
from lg_streaming.runs import GraphRun
from lg_streaming.testing import ScriptedChatModel

__all__ = ["EXECUTION", "RECORDINGS", "Recording", "record_all"]

EXECUTION = "chat-1"
SETTINGS: dict[str, Any] = {
    "runs": {"publish_states": True, "state_bytes": 8192},
    "token_defaults": {"buffer_size": 3, "batch_size": 3, "flush_interval": 0},
    "limits": {"update_bytes": 16_384},
}
ODD = 'Grüße 👩‍👩‍👧‍👦 \u2028\u2029\u0085 \r\n "quoted" \\ <b>&amp; data: x\n\n: ping \x1b[0m 雨 \u202eabc __proto__'
create_agent: Any = cast("Any", agents).create_agent
HumanInTheLoopMiddleware: Any = cast("Any", middleware).HumanInTheLoopMiddleware
Drive = Callable[[StreamingModule, GraphRun], Awaitable[None]]


@dataclass(frozen=True, slots=True, repr=False)
class Recording:
    """The records of an execution."""

    name: str
    records: Sequence[StoredUpdate]

    def __repr__(self) -> str:
        return f"<{self.name}: {in_short(self.records)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the updates in short: hypothesis warns of long representations, which fails a test."""
        printer.text(repr(self))


def in_short(records: Sequence[StoredUpdate]) -> str:
    """The types and namespaces of updates."""
    return " ".join(f"{each.type}@{each.scope.namespace or ''}" for each in records)[:4000]


def model(*answers: Any, **options: Any) -> ScriptedChatModel:
    return ScriptedChatModel(answers=list(answers), **options)


def turns(*answers: AIMessage | str) -> ScriptedChatModel:
    """A model that answers by the number of answers that are in the conversation."""

    def answer(messages: list[BaseMessage]) -> AIMessage | str:
        last = max(index for index, each in enumerate(messages) if each.type == "human")
        return answers[sum(each.type == "ai" for each in messages[last:])]

    return ScriptedChatModel(answers=answer)


def call(name: str, id: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id}


def chain(*models: ScriptedChatModel, retry: RetryPolicy | None = None) -> Any:
    """A graph of nodes, each of which asks its model."""
    builder = StateGraph(MessagesState)
    before = START
    for number, each in enumerate(models, 1):
        builder.add_node(f"write{number}", functools.partial(_ask, each), retry_policy=retry)
        builder.add_edge(before, f"write{number}")
        before = f"write{number}"
    return builder.compile(checkpointer=InMemorySaver())


async def _ask(asked: ScriptedChatModel, state: MessagesState) -> dict[str, Any]:
    return {"messages": [await asked.ainvoke(state["messages"])]}


@tool
def weather(city: str) -> str:
    """The weather."""
    return f"rain in {city}"


@tool
async def tide(city: str) -> dict[str, Any]:
    """The tide."""
    return {"city": city, "metres": 1.5}


@tool
def broken(city: str) -> str:
    """Fails."""
    raise ValueError(f"no data of {city}")


# ---------------------------------------------------------------- graphs
def text() -> Any:
    return chain(model("It rains in Oslo, and it will rain."))


def several_messages() -> Any:
    return chain(model("First. "), model("Second."), model("Third and last."))


def reasoning() -> Any:
    thought = AIMessage([{"type": "reasoning", "reasoning": "Rain? Yes."}, {"type": "text", "text": "It rains."}])
    return chain(model(thought), model("So it does."))


def parallel_tools() -> Any:
    first = AIMessage(
        "Let me look. ", tool_calls=[call("weather", "c-1", city="Oslo"), call("tide", "c-2", city="Moss")]
    )
    return create_agent(turns(first, "Rain and high tide."), tools=[weather, tide], checkpointer=InMemorySaver())


def tool_after_tool() -> Any:
    """Two rounds of tools, the first without any text."""
    first = AIMessage("", tool_calls=[call("weather", "c-1", city="Oslo")])
    second = AIMessage("Again. ", tool_calls=[call("weather", "c-2", city="Bergen")])
    return create_agent(turns(first, second, "Rain in both."), tools=[weather], checkpointer=InMemorySaver())


def tool_error() -> Any:
    async def run(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except ValueError as error:
            return ToolMessage(f"failed: {error}", tool_call_id=request.tool_call["id"], status="error")

    guarded = cast("Any", middleware).wrap_tool_call(run)
    first = AIMessage("", tool_calls=[call("broken", "c-1", city="Oslo")])
    return create_agent(
        turns(first, "I do not know."), tools=[broken], middleware=[guarded], checkpointer=InMemorySaver()
    )


def subgraphs() -> Any:
    first = AIMessage("I ask. ", tool_calls=[call("weather", "c-1", city="Oslo")])
    inner = create_agent(turns(first, "Rain."), tools=[weather], name="forecaster")
    builder = StateGraph(MessagesState).add_node("child", inner)
    builder.add_node("sum", functools.partial(_ask, model("In short: rain.")))
    builder.add_edge(START, "child").add_edge("child", "sum")
    return builder.compile(checkpointer=InMemorySaver())


class Topics(TypedDict, total=False):
    texts: Annotated[list[str], operator.add]
    topic: str


def branches() -> Any:
    """Parallel branches of one node, whose texts mix in the log."""

    async def write(state: Topics) -> Topics:
        topic = state.get("topic", "")
        answer = await model(f"{topic} is one. {topic} is two. {topic} is three.").ainvoke(topic)
        return {"texts": [str(answer.text)]}

    def fan_out(_: Topics) -> list[Send]:
        return [Send("write", {"topic": topic}) for topic in ("Rain", "Snow", "Hail")]

    builder = StateGraph(Topics).add_node("write", write).add_conditional_edges(START, fan_out, ["write"])
    return builder.compile(checkpointer=InMemorySaver())


def retries() -> Any:
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, retry_on=Exception)
    return chain(model("A text that is taken back twice.", fail_after=4, failures=2), model("Then."), retry=policy)


def asks() -> Any:
    async def ask(state: MessagesState) -> dict[str, Any]:
        answer = interrupt({"question": "Go on?"})
        return {"messages": [await model(f"You answered {answer}.").ainvoke("")]}

    builder = StateGraph(MessagesState).add_node("write", functools.partial(_ask, model("I need to ask. ")))
    builder.add_node("ask", ask).add_edge(START, "write").add_edge("write", "ask")
    return builder.compile(checkpointer=InMemorySaver())


def approves() -> Any:
    first = AIMessage("", tool_calls=[call("weather", "c-1", city="Oslo")])
    guard = HumanInTheLoopMiddleware(interrupt_on={"weather": True})
    return create_agent(turns(first, "It rains."), tools=[weather], middleware=[guard], checkpointer=InMemorySaver())


def fails() -> Any:
    return chain(model("Before. "), model("This text ends in the middle.", fail_after=3))


def waits() -> Any:
    """Writes, and then waits for its cancellation."""

    async def wait(state: MessagesState) -> dict[str, Any]:
        current_emitter().custom("waiting", {})
        await asyncio.Event().wait()
        return {}

    builder = StateGraph(MessagesState).add_node("write", functools.partial(_ask, model("A beginning.")))
    return builder.add_node("wait", wait).add_edge(START, "write").add_edge("write", "wait").compile()


def custom() -> Any:
    async def write(state: MessagesState) -> dict[str, Any]:
        emitter, writer = current_emitter(), get_stream_writer()
        writer({"step": 1, "__proto__": {"odd": True}})
        emitter.custom("weather", {"id": "oslo", "temperature": 3.5, "none": None})
        emitter.progress(1, 2)
        answer = await model("With data.").ainvoke("")
        emitter.custom("weather", {"id": "oslo", "temperature": 4.5})
        emitter.event("own:type", [1, 2, {"three": 3}])
        emitter.error("a passing problem")
        return {"messages": [answer]}

    return StateGraph(MessagesState).add_node("write", write).add_edge(START, "write").compile()


def unicode() -> Any:
    first = AIMessage(ODD, tool_calls=[{"name": "weather", "args": {"city": ODD}, "id": "c-1"}])
    return create_agent(turns(first, ODD + ODD), tools=[weather], checkpointer=InMemorySaver())


def large() -> Any:
    """Pieces that are larger than one update may be."""
    whole = "".join(f"{number:05d} drops of rain, " for number in range(3000))

    def split(text: str) -> list[str]:
        return [text[at : at + 40_000] for at in range(0, len(text), 40_000)]

    pieces = model(whole, split=split)

    async def write(state: Topics) -> Topics:
        await pieces.ainvoke("")
        return {}

    return StateGraph(Topics).add_node("write", write).add_edge(START, "write").compile(checkpointer=InMemorySaver())


# ---------------------------------------------------------------- driving
async def respond(streaming: StreamingModule, run: GraphRun, value: object) -> None:
    """Answer the first prompt of a run."""
    async for update in streaming.hub.subscribe(EXECUTION, until="interrupted", timeout=5):
        if update.type == "workflow_interrupted":
            await streaming.hub.respond(EXECUTION, update.data["prompts"][0]["prompt_id"], value)
    await run


async def cancel(streaming: StreamingModule, run: GraphRun) -> None:
    async for update in streaming.hub.subscribe(EXECUTION, timeout=5):
        if update.type == "custom":
            await streaming.hub.cancel(EXECUTION, "enough")


async def again(streaming: StreamingModule, run: GraphRun) -> None:
    """A second run in the same conversation."""
    await run
    await streaming.runs.run(several_messages(), ask("And then?", "u-2"), execution_id=EXECUTION)


async def finish(streaming: StreamingModule, run: GraphRun) -> None:
    try:
        await run
    except Exception:  # noqa: BLE001 (a recorded failure)
        return


def ask(question: str = "Weather?", id: str = "u-1") -> dict[str, Any]:
    return {"messages": [HumanMessage(question, id=id)]}


GRAPHS: dict[str, tuple[Callable[[], Any], Drive]] = {
    "text": (text, finish),
    "several messages": (several_messages, finish),
    "reasoning": (reasoning, finish),
    "parallel tools": (parallel_tools, finish),
    "tool after tool": (tool_after_tool, finish),
    "tool error": (tool_error, finish),
    "subgraphs": (subgraphs, finish),
    "branches": (branches, finish),
    "retries": (retries, finish),
    "interrupt": (asks, functools.partial(respond, value="yes")),
    "approval": (approves, functools.partial(respond, value={"decisions": [{"type": "approve"}]})),
    "rejection": (approves, functools.partial(respond, value={"decisions": [{"type": "reject", "message": "no"}]})),
    "failure": (fails, finish),
    "cancel": (waits, cancel),
    "custom data": (custom, finish),
    "unicode": (unicode, finish),
    "large texts": (large, finish),
    "two runs": (text, again),
}
RECORDINGS = list(GRAPHS)


async def record(name: str) -> Recording:
    """Run a graph, and return its updates."""
    graph, drive = GRAPHS[name]
    async with StreamingModule(SETTINGS) as streaming:
        value = {} if name in {"branches", "large texts"} else ask()
        run = await streaming.runs.start(graph(), value, execution_id=EXECUTION)
        await drive(streaming, run)
        found = await streaming.hub.log.read(EXECUTION, 0, 100_000)
        assert found is not None
        records = list(found.records)
    return Recording(name, records)


async def record_all() -> dict[str, Recording]:
    """Record every run."""
    return {name: await record(name) for name in RECORDINGS}
