"""Agents as people build them today, with scripted models: each answer depends on the model's messages alone."""

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from langchain import agents
from langchain.agents import middleware as hooks
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict

from lg_streaming.testing import ScriptedChatModel

create_agent: Any = cast("Any", agents).create_agent  # its types are unknown in part
TodoListMiddleware: Any = cast("Any", hooks).TodoListMiddleware
AgentMiddleware: Any = cast("Any", hooks).AgentMiddleware
Graph = Any
"""A compiled graph; its type parameters are unknown to LangGraph itself."""


def import_packages() -> None:
    """Import what takes seconds: before a test, in the processes that run such a test alone.

    deepagents and structured output ask for langchain_openai, in the middle of a run.
    """
    for name in ("deepagents", "langchain_openai"):
        importlib.import_module(name)


def create_deep_agent(*args: Any, **options: Any) -> Any:
    return cast("Any", importlib.import_module("deepagents")).create_deep_agent(*args, **options)


ASK: dict[str, Any] = {"messages": "Weather?"}


class Messages(TypedDict):
    messages: Annotated[list[Any], add_messages]


@dataclass
class Team:
    """A graph with agents, and the texts of its models that its final state does not have."""

    graph: Graph
    nodes: frozenset[str]
    """Paths of nodes that must start."""
    agents: frozenset[str]
    """The agents that produce text."""
    inside: list[BaseMessage] = field(default_factory=list[BaseMessage])
    """The messages of agents in tools."""
    tools: frozenset[str] = frozenset({"weather"})
    """The tools that are called."""
    calls: dict[str, str] = field(default_factory=dict[str, str])
    """The tool call in which an agent works, for those in tools."""


def call(name: str, id: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id}


def says(name: str, first: AIMessage | str, then: str, *, again: AIMessage | None = None) -> ScriptedChatModel:
    """A model that answers with `first` until tools have answered, then with `then`."""
    answered = [again] if again is not None else []

    def answer(messages: list[BaseMessage]) -> AIMessage | str:
        rounds = sum(message.type == "ai" for message in messages)
        return [first, *answered, then][min(rounds, len(answered) + 1)]

    return ScriptedChatModel(answers=answer, name=name)


@tool
def weather(city: str) -> str:
    """The weather."""
    return f"rain in {city}"


@tool
async def tide(city: str) -> str:
    """The tide."""
    return f"high tide in {city}"


def forecaster(**options: Any) -> Graph:
    first = AIMessage("Let me look. ", tool_calls=[call("weather", "call-w", city="Oslo")])
    options = {"name": "forecaster", "tools": [weather], **options}
    return create_agent(says("forecast", first, "It rains in Oslo."), **options)


def plain() -> Team:
    return Team(forecaster(), frozenset({"model", "tools"}), frozenset({"forecaster"}))


class Hooks(AgentMiddleware):
    """All hooks of a node's kind."""

    def before_agent(self, state: Any, runtime: Any) -> None: ...

    def before_model(self, state: Any, runtime: Any) -> None: ...

    def after_model(self, state: Any, runtime: Any) -> None: ...

    def after_agent(self, state: Any, runtime: Any) -> None: ...


class Again(AgentMiddleware):
    """A model call that is made twice: the first answer is void, but was streamed."""

    def __init__(self, said: list[BaseMessage]) -> None:
        super().__init__()
        self.said = said

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        self.said += handler(request).result
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        self.said += (await handler(request)).result
        return await handler(request)


class Around(AgentMiddleware):
    """Passes models and tools through."""

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await handler(request)


def with_middleware() -> Team:
    said: list[BaseMessage] = []
    nodes = {f"Hooks.{hook}" for hook in ("before_agent", "before_model", "after_model", "after_agent")}
    graph = forecaster(middleware=[Around(), Hooks(), Again(said)])
    return Team(graph, frozenset({"model", "tools"} | nodes), frozenset({"forecaster"}), said)


class Report(BaseModel):
    """A report."""

    city: str
    rain: bool


def with_tool_strategy() -> Team:
    first = AIMessage("Let me look. ", tool_calls=[call("weather", "call-w", city="Oslo")])
    last = AIMessage("Here it is. ", tool_calls=[call("Report", "call-r", city="Oslo", rain=True)])
    model = says("forecast", first, "", again=last)
    graph = create_agent(model, [weather], response_format=ToolStrategy(Report), name="reporter")
    return Team(graph, frozenset({"model", "tools"}), frozenset({"reporter"}))


def with_provider_strategy() -> Team:
    first = AIMessage("Let me look. ", tool_calls=[call("weather", "call-w", city="Oslo")])
    model = says("forecast", first, '{"city": "Oslo", "rain": true}')
    graph = create_agent(model, [weather], response_format=ProviderStrategy(Report), name="reporter")
    return Team(graph, frozenset({"model", "tools"}), frozenset({"reporter"}))


def _ask_sync(said: list[BaseMessage], agent: Graph) -> Any:
    def ask(question: str) -> str:
        messages = agent.invoke({"messages": question})["messages"]
        said.extend(messages)
        return messages[-1].text

    return ask


def _ask_async(said: list[BaseMessage], agent: Graph) -> Any:
    async def ask(question: str) -> str:
        messages = (await agent.ainvoke({"messages": question}))["messages"]
        said.extend(messages)
        return messages[-1].text

    return ask


def sailor() -> Graph:
    first = AIMessage("The tide now. ", tool_calls=[call("weather", "call-t", city="Bergen")])
    return create_agent(says("sail", first, "Sail at noon."), [weather], name="sailor")


def supervisor(*, asynchronous: bool) -> Team:
    """Two agents as tools, asked at once."""
    said: list[BaseMessage] = []
    ask = _ask_async if asynchronous else _ask_sync
    tools = [
        tool("ask_forecaster", description="Ask.")(ask(said, forecaster())),
        tool("ask_sailor", description="Ask.")(ask(said, sailor())),
    ]
    calls = [call("ask_forecaster", "call-1", question="Rain?"), call("ask_sailor", "call-2", question="Wind?")]
    model = says("lead", AIMessage("I ask both. ", tool_calls=calls), "Rain, and sail at noon.")
    graph = create_agent(model, tools, name="lead")
    names = frozenset({"lead", "forecaster", "sailor"})
    called = frozenset({"ask_forecaster", "ask_sailor", "weather"})
    calls = {"forecaster": "call-1", "sailor": "call-2"}
    return Team(graph, frozenset({"model", "tools"}), names, said, called, calls)


def nested() -> Team:
    """An agent in a tool of an agent in a tool."""
    said: list[BaseMessage] = []
    ask = tool("ask_forecaster", description="Ask.")(_ask_sync(said, forecaster()))
    first = AIMessage("I ask on. ", tool_calls=[call("ask_forecaster", "call-2", question="Rain?")])
    middle = create_agent(says("middle", first, "They say rain."), [ask], name="middle")
    ask = tool("ask_middle", description="Ask.")(_ask_sync(said, middle))
    first = AIMessage("I ask. ", tool_calls=[call("ask_middle", "call-1", question="Rain?")])
    graph = create_agent(says("lead", first, "Rain it is."), [ask], name="lead")
    names, tools = frozenset({"lead", "middle", "forecaster"}), frozenset({"ask_middle", "ask_forecaster", "weather"})
    return Team(graph, frozenset({"model", "tools"}), names, said, tools, {"middle": "call-1", "forecaster": "call-2"})


class Keep(AgentMiddleware):
    """A tool that keeps an agent's messages, of which its caller keeps only the last one."""

    def __init__(self, said: list[BaseMessage]) -> None:
        super().__init__()
        self.said = said

    def after_agent(self, state: Any, runtime: Any) -> None:
        self.said.extend(state["messages"])


def deep() -> Team:
    """A deep agent that plans, writes a file and asks a subagent."""
    said: list[BaseMessage] = []
    todo = [{"content": "look", "status": "in_progress"}]
    task_call = call("task", "call-3", description="Rain?", subagent_type="forecaster")

    def lead(messages: list[BaseMessage]) -> AIMessage | str:
        rounds = sum(message.type == "ai" for message in messages)
        answers = [
            AIMessage("A plan. ", tool_calls=[call("write_todos", "call-1", todos=todo)]),
            AIMessage("A note. ", tool_calls=[call("write_file", "call-2", file_path="/note.md", content="rain?")]),
            AIMessage("I ask. ", tool_calls=[task_call, call("read_file", "call-4", file_path="/note.md")]),
            "It rains, deeply.",
        ]
        return answers[rounds]

    first = AIMessage("Let me look. ", tool_calls=[call("weather", "call-w", city="Oslo")])
    sub = {
        "name": "forecaster",
        "description": "Knows the weather.",
        "system_prompt": "Look.",
        "tools": [weather],
        "model": says("forecast", first, "It rains in Oslo."),
        "middleware": [Keep(said)],
    }
    tools = frozenset({"write_todos", "write_file", "read_file", "task", "weather"})
    model = ScriptedChatModel(answers=lead, name="lead")
    graph = create_deep_agent(model=model, subagents=[sub], name="lead", middleware=[TodoListMiddleware()])
    return Team(
        graph, frozenset({"model", "tools"}), frozenset({"lead", "forecaster"}), said, tools, {"forecaster": "call-3"}
    )


def functional() -> Team:
    """An entrypoint whose tasks ask an agent and a model."""
    agent = forecaster()
    closing = ScriptedChatModel(answers=["So much for today."])

    @task
    def look(question: str) -> list[BaseMessage]:
        return agent.invoke({"messages": question})["messages"]

    @task
    def close() -> BaseMessage:
        return closing.invoke("go")

    @entrypoint()
    def report(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [*look(inputs["messages"]).result(), close().result()]}

    return Team(report, frozenset({"report", "report/look"}), frozenset({"forecaster"}))


def in_a_graph() -> Team:
    """An agent as a node of a plain graph, and a model in another node."""
    closing = ScriptedChatModel(answers=["So much for today."])

    def close(state: Messages) -> dict[str, Any]:
        return {"messages": [closing.invoke("go")]}

    builder: Any = StateGraph(Messages)
    builder.add_node("ask", forecaster())
    builder.add_node("close", close)
    builder.add_edge(START, "ask").add_edge("ask", "close")
    nodes = frozenset({"ask", "ask/model", "ask/tools", "close"})
    return Team(builder.compile(), nodes, frozenset({"forecaster"}))


TEAMS: dict[str, Callable[[], Team]] = {
    "plain": plain,
    "middleware": with_middleware,
    "tool strategy": with_tool_strategy,
    "provider strategy": with_provider_strategy,
    "supervisor": lambda: supervisor(asynchronous=False),
    "async supervisor": lambda: supervisor(asynchronous=True),
    "nested": nested,
    "deep": deep,
    "functional": functional,
    "in a graph": in_a_graph,
}
