"""The graphs of the table: each built anew for every run, with the decorators that the run is to have."""

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.errors import NodeError
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, StreamWriter, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

Wrap = Callable[[Any], Any]
FAST = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=ConnectionError)


class State(TypedDict):
    topic: str
    messages: Annotated[list[Any], add_messages]
    notes: Annotated[list[Any], operator.add]


@dataclass
class Context:
    user: str = "alice"


@dataclass
class Kit:
    """Parts of a graph in one run."""

    model: Callable[[Callable[[list[BaseMessage]], AIMessage]], BaseChatModel]
    sync: bool
    node: Wrap
    """Decorates a node."""
    log: list[Any] = field(default_factory=list[Any])
    """Observations of the program: calls of models, configs, runtimes."""

    def chat(self, script: Callable[[list[BaseMessage]], AIMessage] | None = None) -> BaseChatModel:
        def counted(messages: list[BaseMessage]) -> AIMessage:
            self.log.append(("model", [(each.type, each.text) for each in messages]))
            return (script or _echo)(messages)

        return self.model(counted)

    def pick(self, sync: Any, asynchronous: Any) -> Any:
        """The node for this run's way to call, decorated."""
        return self.node(sync if self.sync else asynchronous)

    def step(self, work: Callable[[Any], Any], name: str = "step") -> Any:
        """A node of a plain function; async where the run is."""

        def step(state: State) -> Any:
            return work(state)

        async def astep(state: State) -> Any:
            return work(state)

        step.__name__ = astep.__name__ = name
        return self.pick(step, astep)

    def ask(self, chat: Any, name: str = "ask") -> Any:
        """A node that calls a model."""

        def ask(state: State) -> Any:
            return {"messages": [chat.invoke(state["messages"])]}

        async def aask(state: State) -> Any:
            return {"messages": [await chat.ainvoke(state["messages"])]}

        ask.__name__ = aask.__name__ = name
        return self.pick(ask, aask)

    def note(self, name: str, config: RunnableConfig) -> None:
        """Notes what a node can see of its config."""
        configurable = config.get("configurable") or {}
        handlers: list[type] = [type(each) for each in getattr(config.get("callbacks"), "handlers", ())]
        self.log.append(
            {
                "name": name,
                "tags": list(config.get("tags") or ()),
                "metadata": dict(config.get("metadata") or {}),
                "configurable": sorted(key for key in configurable if not key.startswith("__")),
                "inside": sorted(key for key in configurable if key.startswith("__")),
                "limit": config.get("recursion_limit"),
                "handlers": [each.__name__ for each in handlers if not each.__module__.startswith("lg_streaming")],
            }
        )


def _echo(messages: list[BaseMessage]) -> AIMessage:
    last = messages[-1].text if messages else "nothing"
    return AIMessage(f"You said {last} in {len(messages)} messages.")


def calls_tool(messages: list[BaseMessage], *, name: str = "look", final: str = "It rains today.") -> AIMessage:
    """A tool call for a human's message, a text for a tool's answer."""
    if isinstance(messages[-1], ToolMessage):
        return AIMessage(f"{final} {messages[-1].text}")
    return AIMessage("", tool_calls=[{"name": name, "args": {"where": "here"}, "id": f"call-{len(messages)}"}])


@dataclass(frozen=True)
class Shape:
    """One graph, and what it is called with, one call after another on one thread."""

    build: Callable[[Kit], Any]
    inputs: tuple[Any, ...] = ()
    parallel: bool = False
    """True if nodes run in parallel: then the order of their steps differs from run to run."""
    functional: bool = False
    checkpoints: bool = True
    context: bool = False

    @property
    def calls(self) -> tuple[Any, ...]:
        return self.inputs or ({"topic": "rivers", "messages": [HumanMessage("Hi", id="human")]},)


def _builder(**options: Any) -> Any:
    return StateGraph(State, **options)


def _compiled(builder: Any, **options: Any) -> Any:
    return builder.compile(checkpointer=InMemorySaver(), **options)


def functions(kit: Kit) -> Any:
    chat = kit.chat()

    def first(state: State, config: RunnableConfig) -> Any:
        kit.note("first", config)
        return {"notes": ["first"]}

    async def afirst(state: State, config: RunnableConfig) -> Any:
        kit.note("first", config)
        return {"notes": ["first"]}

    return _compiled(
        _builder()
        .add_node("first", kit.pick(first, afirst), metadata={"team": "blue"})
        .add_node("ask", kit.ask(chat))
        .add_node("last", kit.step(lambda state: {"notes": [len(state["messages"])]}, "last"))
        .add_edge(START, "first")
        .add_edge("first", "ask")
        .add_edge("ask", "last")
    )


def generators(kit: Kit) -> Any:
    chat = kit.chat()

    def write(state: State) -> Any:
        yield {"notes": ["a"]}
        yield {"messages": [chat.invoke(state["messages"])]}

    async def awrite(state: State) -> Any:
        yield {"notes": ["a"]}
        yield {"messages": [await chat.ainvoke(state["messages"])]}

    return _compiled(_builder().add_node("write", kit.pick(write, awrite)).add_edge(START, "write"))


def streams_itself(kit: Kit) -> Any:
    chat = kit.chat()

    def write(state: State) -> Any:
        chunks = list(chat.stream(state["messages"]))
        return {"messages": [functools.reduce(operator.add, chunks)], "notes": [len(chunks)]}

    async def awrite(state: State) -> Any:
        chunks = [chunk async for chunk in chat.astream(state["messages"])]
        return {"messages": [functools.reduce(operator.add, chunks)], "notes": [len(chunks)]}

    return _compiled(_builder().add_node("write", kit.pick(write, awrite)).add_edge(START, "write"))


def tool_loop(kit: Kit) -> Any:
    @tool
    def look(where: str) -> str:
        """Look out of the window."""
        kit.log.append(("tool", where))
        return f"Rain {where}."

    chat = kit.chat(calls_tool).bind_tools([look])
    return _compiled(
        _builder()
        .add_node("ask", kit.ask(chat))
        .add_node("tools", kit.node(ToolNode([look])))
        .add_edge(START, "ask")
        .add_conditional_edges("ask", tools_condition)
        .add_edge("tools", "ask")
    )


def subgraph(kit: Kit) -> Any:
    inner = _builder().add_node("ask", kit.ask(kit.chat())).add_edge(START, "ask").compile(name="inner")
    return _compiled(
        _builder()
        .add_node("inner", kit.node(inner))
        .add_node("after", kit.step(lambda state: {"notes": [len(state["messages"])]}, "after"))
        .add_edge(START, "inner")
        .add_edge("inner", "after")
    )


def subgraph_in_function(kit: Kit) -> Any:
    inner = _builder().add_node("ask", kit.ask(kit.chat())).add_edge(START, "ask").compile(name="inner")

    def call(state: State, config: RunnableConfig) -> Any:
        return {"messages": inner.invoke({"topic": "x", "messages": state["messages"]})["messages"]}

    async def acall(state: State, config: RunnableConfig) -> Any:
        result = await inner.ainvoke({"topic": "x", "messages": state["messages"]}, config)
        return {"messages": result["messages"]}

    return _compiled(_builder().add_node("call", kit.pick(call, acall)).add_edge(START, "call"))


class Forecast(BaseModel):
    text: str


class Greeter(AgentMiddleware[Any, Any]):
    """A middleware with hooks before, after and around."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log

    def before_model(self, state: Any, runtime: Any) -> Any:
        self.log.append(("before", len(state["messages"])))

    def after_model(self, state: Any, runtime: Any) -> Any:
        self.log.append(("after", type(state["messages"][-1]).__name__))

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        self.log.append(("around", len(request.messages)))
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        self.log.append(("around", len(request.messages)))
        return await handler(request)


def _tools(kit: Kit) -> list[Any]:
    @tool
    def look(where: str) -> str:
        """Look out of the window."""
        kit.log.append(("tool", where))
        return f"Rain {where}."

    return [look]


def agent(kit: Kit) -> Any:
    chat = kit.chat(calls_tool)
    return cast("Any", create_agent)(
        chat,
        _tools(kit),
        middleware=[Greeter(kit.log)],
        name="forecaster",
        system_prompt="Be brief.",
        checkpointer=InMemorySaver(),
    )


def agent_with_retries(kit: Kit) -> Any:
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False, on_failure="continue")
    chat = kit.chat(calls_tool)
    return cast("Any", create_agent)(chat, _tools(kit), middleware=[retry], checkpointer=InMemorySaver())


def agent_as_node(kit: Kit) -> Any:
    made = cast("Any", create_agent)(kit.chat(calls_tool), _tools(kit), name="forecaster")
    return _compiled(_builder().add_node("expert", kit.node(made)).add_edge(START, "expert"))


def agent_as_tool(kit: Kit) -> Any:
    inner = cast("Any", create_agent)(kit.chat(), [], name="inner")

    @tool
    def look(where: str) -> str:
        """Ask the inner agent."""
        return inner.invoke({"messages": [HumanMessage(where, id="inner-human")]})["messages"][-1].text

    @tool("look")
    async def alook(where: str) -> str:
        """Ask the inner agent."""
        result = await inner.ainvoke({"messages": [HumanMessage(where, id="inner-human")]})
        return result["messages"][-1].text

    chosen = look if kit.sync else alook
    return cast("Any", create_agent)(kit.chat(calls_tool), [chosen], name="outer", checkpointer=InMemorySaver())


def structured_agent(kit: Kit) -> Any:
    chat, answer = kit.chat(_forecasts), ToolStrategy(Forecast)
    return cast("Any", create_agent)(chat, [], response_format=answer, checkpointer=InMemorySaver())


def _forecasts(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "Forecast", "args": {"text": "rain"}, "id": "call-f"}])


def structured_output(kit: Kit) -> Any:
    chat: Any = kit.chat(_forecasts).with_structured_output(Forecast)

    def ask(state: State) -> Any:
        return {"notes": [chat.invoke(state["messages"]).text]}

    async def aask(state: State) -> Any:
        return {"notes": [(await chat.ainvoke(state["messages"])).text]}

    return _compiled(_builder().add_node("ask", kit.pick(ask, aask)).add_edge(START, "ask"))


def chains(kit: Kit) -> Any:
    """A chain as a node, with a second try and a second choice."""
    prompt = ChatPromptTemplate.from_messages([("human", "{topic}?")])
    chain: Any = prompt | kit.chat().with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
    chain = chain.with_fallbacks([prompt | WORKS]) | StrOutputParser() | RunnableLambda(lambda text: {"notes": [text]})
    return _compiled(_builder().add_node("chain", kit.node(chain)).add_edge(START, "chain"))


def _works(_: Any) -> AIMessage:
    return AIMessage("second choice")


WORKS: Any = RunnableLambda(_works)


def branches(kit: Kit) -> Any:
    chat = kit.chat()

    def spread(state: State) -> Any:
        return [Send("write", {"topic": str(number)}) for number in range(3)]

    def write(state: State) -> Any:
        return {"notes": [chat.invoke([HumanMessage(state["topic"], id=state["topic"])]).text]}

    async def awrite(state: State) -> Any:
        answer = await chat.ainvoke([HumanMessage(state["topic"], id=state["topic"])])
        return {"notes": [answer.text]}

    return _compiled(
        _builder()
        .add_node("write", kit.pick(write, awrite))
        .add_node("join", kit.step(lambda state: {"notes": [len(state["notes"])]}, "join"), defer=True)
        .add_conditional_edges(START, spread, ["write"])
        .add_edge("write", "join")
    )


def commands(kit: Kit) -> Any:
    """A node goes on to another; one in a subgraph to one of the parent."""
    inner = (
        _builder()
        .add_node("ask", kit.ask(kit.chat()))
        .add_node("leave", kit.step(_to_parent, "leave"))
        .add_edge(START, "ask")
        .add_edge("ask", "leave")
        .compile()
    )

    def go(state: State) -> Command[Literal["inner"]]:
        return Command(update={"notes": ["go"]}, goto="inner")

    async def ago(state: State) -> Command[Literal["inner"]]:
        return Command(update={"notes": ["go"]}, goto="inner")

    return _compiled(
        _builder()
        .add_node("go", kit.pick(go, ago))
        .add_node("inner", kit.node(inner), destinations=("end",))
        .add_node("end", kit.step(lambda state: {"notes": ["end"]}, "end"))
        .add_edge(START, "go")
    )


def _to_parent(state: State) -> Any:
    return Command(graph=Command.PARENT, update={"notes": ["left"], "messages": state["messages"]}, goto="end")


def asks_human(kit: Kit) -> Any:
    chat = kit.chat()

    def ask(state: State) -> Any:
        answer = chat.invoke(state["messages"])
        return {"messages": [answer], "notes": [interrupt({"question": answer.text})]}

    async def aask(state: State) -> Any:
        answer = await chat.ainvoke(state["messages"])
        return {"messages": [answer], "notes": [interrupt({"question": answer.text})]}

    return _compiled(_builder().add_node("ask", kit.pick(ask, aask)).add_edge(START, "ask"))


def breakpoint_before(kit: Kit) -> Any:
    builder = (
        _builder()
        .add_node("ask", kit.ask(kit.chat()))
        .add_node("last", kit.step(lambda state: {"notes": ["last"]}, "last"))
        .add_edge(START, "ask")
        .add_edge("ask", "last")
    )
    return _compiled(builder, interrupt_before=["last"])


def approval(kit: Kit) -> Any:
    human = HumanInTheLoopMiddleware(interrupt_on={"look": True})
    chat = kit.chat(calls_tool)
    return cast("Any", create_agent)(chat, _tools(kit), middleware=[human], checkpointer=InMemorySaver())


def retried(kit: Kit) -> Any:
    chat, tries = kit.chat(), list[int]()

    def work(state: State, config: RunnableConfig) -> None:
        tries.append(1)
        kit.note(f"try {len(tries)}", config)

    def ask(state: State, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        work(state, config)
        answer = chat.invoke(state["messages"])
        if len(tries) < 2:
            raise ConnectionError("not yet")
        return {"messages": [answer]}

    async def aask(state: State, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        work(state, config)
        answer = await chat.ainvoke(state["messages"])
        if len(tries) < 2:
            raise ConnectionError("not yet")
        return {"messages": [answer]}

    return _compiled(_builder().add_node("ask", kit.pick(ask, aask), retry_policy=FAST).add_edge(START, "ask"))


def handled(kit: Kit) -> Any:
    chat = kit.chat()

    def work(state: State) -> Any:
        raise ValueError("broken", {"after": chat.invoke(state["messages"]).text})

    async def awork(state: State) -> Any:
        raise ValueError("broken", {"after": (await chat.ainvoke(state["messages"])).text})

    def handle(state: State, error: NodeError) -> Any:
        return {"notes": [f"{type(error.error).__name__} {error.error.args[0]} of {error.node}"]}

    async def ahandle(state: State, error: NodeError) -> Any:
        return handle(state, error)

    handler = kit.pick(handle, ahandle)
    return _compiled(_builder().add_node("work", kit.pick(work, awork), error_handler=handler).add_edge(START, "work"))


def failing(kit: Kit) -> Any:
    def work(state: State) -> Any:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("broken", 7) from error

    inner = _builder().add_node("work", kit.step(work, "work")).add_edge(START, "work").compile()
    return _compiled(
        _builder()
        .add_node("ask", kit.ask(kit.chat()))
        .add_node("inner", kit.node(inner))
        .add_edge(START, "ask")
        .add_edge("ask", "inner")
    )


def endless(kit: Kit) -> Any:
    return _compiled(
        _builder()
        .add_node("turn", kit.step(lambda state: {"notes": ["turn"]}, "turn"))
        .add_edge(START, "turn")
        .add_edge("turn", "turn")
    ).with_config(recursion_limit=3)


def cached(kit: Kit) -> Any:
    builder = (
        _builder()
        .add_node("ask", kit.ask(kit.chat()), cache_policy=CachePolicy(key_func=_topic))
        .add_node("inner", kit.node(_builder().add_node("ask", kit.ask(kit.chat())).add_edge(START, "ask").compile()))
        .add_edge(START, "ask")
        .add_edge("ask", "inner")
    )
    return _compiled(builder, cache=InMemoryCache[Any]())


def _topic(state: Any, *_: Any) -> str:
    return str(state.get("topic"))


def voices(kit: Kit) -> Any:
    """Stream writers, custom events, and everything that LangGraph injects."""
    chat = kit.chat()

    def note(runtime: Runtime[Context], store: BaseStore, config: RunnableConfig) -> None:
        kit.note("voices", config)
        kit.log.append(("runtime", runtime.context, type(runtime.store).__name__, type(store).__name__))
        kit.log.append(("attempt", getattr(runtime.execution_info, "node_attempt", None)))

    def speak(
        state: State, config: RunnableConfig, *, writer: StreamWriter, store: BaseStore, runtime: Runtime[Context]
    ) -> Any:
        note(runtime, store, config)
        writer({"writer": 1})
        get_stream_writer()({"get": 2})
        runtime.stream_writer({"runtime": 3})
        dispatch_custom_event("mine", {"event": 4})
        store.put(("notes",), "key", {"text": "kept"})
        return {"messages": [chat.invoke(state["messages"])]}

    async def aspeak(
        state: State, config: RunnableConfig, *, writer: StreamWriter, store: BaseStore, runtime: Runtime[Context]
    ) -> Any:
        note(runtime, store, config)
        writer({"writer": 1})
        get_stream_writer()({"get": 2})
        runtime.stream_writer({"runtime": 3})
        await adispatch_custom_event("mine", {"event": 4})
        await store.aput(("notes",), "key", {"text": "kept"})
        return {"messages": [await chat.ainvoke(state["messages"])]}

    builder = _builder(context_schema=Context)
    return _compiled(builder.add_node("speak", kit.pick(speak, aspeak)).add_edge(START, "speak"), store=InMemoryStore())


def functional(kit: Kit) -> Any:
    chat = kit.chat()

    def ask(topic: str) -> str:
        return chat.invoke([HumanMessage(topic, id="asked")]).text

    async def aask(topic: str) -> str:
        return (await chat.ainvoke([HumanMessage(topic, id="asked")])).text

    step: Any = kit.node(task(ask if kit.sync else aask))

    def work(inputs: Any, *, previous: Any = None, config: RunnableConfig) -> Any:
        kit.note("work", config)
        answer = step(inputs["topic"]).result()
        return entrypoint.final(value={"notes": [answer, previous]}, save=answer)

    async def awork(inputs: Any, *, previous: Any = None, config: RunnableConfig) -> Any:
        kit.note("work", config)
        answer = await step(inputs["topic"])
        return entrypoint.final(value={"notes": [answer, previous]}, save=answer)

    made: Any = entrypoint(checkpointer=InMemorySaver())
    return made(kit.pick(work, awork))


ONE: Any = {"topic": "rivers", "messages": [HumanMessage("Hi", id="human")]}
AGAIN: Any = {"topic": "rivers", "messages": [HumanMessage("Again", id="again")]}
APPROVED: Any = Command(resume={"decisions": [{"type": "approve"}]})

SHAPES: dict[str, Shape] = {
    "functions": Shape(functions, (ONE, AGAIN)),
    "generators": Shape(generators),
    "streams itself": Shape(streams_itself),
    "tool loop": Shape(tool_loop),
    "subgraph": Shape(subgraph),
    "subgraph in a function": Shape(subgraph_in_function),
    "agent": Shape(agent, (ONE, AGAIN)),
    "agent with retries": Shape(agent_with_retries),
    "agent as a node": Shape(agent_as_node),
    "agent as a tool": Shape(agent_as_tool),
    "structured agent": Shape(structured_agent),
    "structured output": Shape(structured_output),
    "chains": Shape(chains),
    "Send branches": Shape(branches, parallel=True),
    "commands": Shape(commands),
    "interrupt": Shape(asks_human, (ONE, Command(resume="yes"))),
    "breakpoint": Shape(breakpoint_before, (ONE, None)),
    "approval": Shape(approval, (ONE, APPROVED)),
    "retried": Shape(retried),
    "handled": Shape(handled),
    "failing": Shape(failing),
    "endless": Shape(endless),
    "cached": Shape(cached, (ONE, AGAIN)),
    "voices": Shape(voices, context=True),
    "functional": Shape(functional, (ONE, AGAIN), functional=True),
}

__all__ = ["SHAPES", "Context", "Kit", "Shape", "State"]
