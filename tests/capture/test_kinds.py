"""Every kind of node works decorated in a real graph, and its text arrives; other objects are refused."""

import abc
import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import CachePolicy, RetryPolicy

from lg_streaming import (
    stream_all,
    stream_event,
    stream_progress,
    stream_token,
    streaming_options,
)
from lg_streaming.errors import NotANodeError, StreamingConfigError
from lg_streaming.module import StreamingModule
from tests.capture.graphs import TEXT, Input, State, Update, graph_of, model, read

INPUT: Input = {"topic": "rivers"}

Decorator = Callable[..., Any]

DECORATORS: dict[str, Decorator] = {
    "stream_token": stream_token,
    "stream_token()": stream_token(),
    "stream_event": stream_event,
    "stream_event()": stream_event(),
    "stream_progress": stream_progress,
    "stream_progress()": stream_progress(),
    "stream_all": stream_all,
    "stream_all(…)": stream_all(token=True, event={}, progress=True),
}
SAYS_TEXT = {"stream_token", "stream_token()", "stream_all", "stream_all(…)"}


async def write(state: State) -> Update:
    return {"text": (await model().ainvoke("go")).text}


def write_in_a_thread(state: State) -> Update:
    return {"text": model().invoke("go").text}


async def write_with(tone: str, state: State) -> Update:
    assert tone == "dry"
    return {"text": (await model().ainvoke("go")).text}


def a_method(decorate: Decorator) -> Any:
    class Nodes:
        @decorate
        async def write(self, state: State) -> Update:
            assert isinstance(self, Nodes)
            return await write(state)

    return Nodes().write


def a_static_method(decorate: Decorator, *, ours_first: bool, by: str) -> Any:
    class Nodes:
        if ours_first:

            @decorate
            @staticmethod
            async def write(state: State) -> Update:
                return await write(state)
        else:

            @staticmethod
            @decorate
            async def write(state: State) -> Update:
                return await write(state)

    class Below(Nodes):
        pass

    return {"class": Nodes, "instance": Nodes(), "subclass": Below, "instance of a subclass": Below()}[by].write


def a_class_method(decorate: Decorator, *, ours_first: bool, by: str) -> Any:
    class Nodes:
        if ours_first:

            @decorate
            @classmethod
            async def write(cls, state: State) -> Update:
                assert issubclass(cls, Nodes)
                return await write(state)
        else:

            @classmethod
            @decorate
            async def write(cls, state: State) -> Update:
                assert issubclass(cls, Nodes)
                return await write(state)

    class Below(Nodes):
        pass

    return {"class": Nodes, "instance": Nodes(), "subclass": Below, "instance of a subclass": Below()}[by].write


def an_abstract_method(decorate: Decorator, *, ours_first: bool) -> Any:
    class Base(abc.ABC):  # noqa: B024 (its method is abstract)
        if ours_first:

            @decorate
            @abc.abstractmethod
            async def write(self, state: State) -> Update:
                return await write(state)
        else:

            @abc.abstractmethod
            @decorate
            async def write(self, state: State) -> Update:
                return await write(state)

    class Nodes(Base):
        async def write(self, state: State) -> Update:
            return await super().write(state)

    with pytest.raises(TypeError, match="abstract"):
        Base()  # pyright: ignore[reportAbstractUsage]
    return Nodes().write


def a_partial_method(decorate: Decorator, *, static: bool = False) -> Any:
    async def with_self(self: object, tone: str, state: State) -> Update:
        return await write_with(tone, state)

    class Nodes:
        write = decorate(functools.partialmethod(staticmethod(write_with) if static else with_self, "dry"))

    return Nodes().write


def topic_of(state: State) -> str:
    return state["topic"]


def text_of(message: AIMessage) -> Update:
    return {"text": message.text}


def unchanged(node: Any) -> Any:
    return node


class AsyncCallable:
    async def __call__(self, state: State) -> Update:
        return await write(state)


class ThreadedCallable:
    def __call__(self, state: State) -> Update:
        return write_in_a_thread(state)


def a_task(decorate: Decorator, *, ours_first: bool, threaded: bool) -> Any:
    inner: Any
    if threaded:

        def step(topic: str) -> str:
            return model().invoke(topic).text

        inner = step
    else:

        async def step_async(topic: str) -> str:
            return (await model().ainvoke(topic)).text

        inner = step_async
    made: Any = task
    work: Any = decorate(made(inner)) if ours_first else made(decorate(inner))
    assert type(work) is type(made(inner))

    async def node(state: State) -> Update:
        return {"text": await work(state["topic"])}

    return node


BY = ["class", "instance", "subclass", "instance of a subclass"]
KINDS: dict[str, Callable[[Decorator], Any]] = {
    "coroutine function": lambda decorate: decorate(write),
    "function": lambda decorate: decorate(write_in_a_thread),
    "method": a_method,
    "bound method": lambda decorate: decorate(AsyncCallable().__call__),
    **{
        f"{name} {'below' if ours_first else 'above'} ours, by {by}": functools.partial(
            make, ours_first=ours_first, by=by
        )
        for name, make in (("staticmethod", a_static_method), ("classmethod", a_class_method))
        for ours_first in (True, False)
        for by in BY
    },
    "abstract method below ours": functools.partial(an_abstract_method, ours_first=True),
    "abstract method above ours": functools.partial(an_abstract_method, ours_first=False),
    "partial": lambda decorate: decorate(functools.partial(write_with, "dry")),
    "partial of a decorated one": lambda decorate: functools.partial(decorate(write_with), "dry"),
    "partialmethod": a_partial_method,
    "partialmethod of a staticmethod": functools.partial(a_partial_method, static=True),
    "callable object": lambda decorate: decorate(AsyncCallable()),
    "callable object, threaded": lambda decorate: decorate(ThreadedCallable()),
    "Runnable": lambda decorate: decorate(RunnableLambda(write)),
    "Runnable, threaded": lambda decorate: decorate(RunnableLambda(write_in_a_thread)),
    "LCEL sequence": lambda decorate: decorate(RunnableLambda(topic_of) | model() | RunnableLambda(text_of)),
    "task below ours": functools.partial(a_task, ours_first=True, threaded=False),
    "task above ours": functools.partial(a_task, ours_first=False, threaded=False),
    "task below ours, threaded": functools.partial(a_task, ours_first=True, threaded=True),
    "task above ours, threaded": functools.partial(a_task, ours_first=False, threaded=True),
}


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("kind", KINDS)
async def test_it_works_in_a_graph(streaming: StreamingModule, kind: str, decorator: str) -> None:
    node = KINDS[kind](DECORATORS[decorator])
    result = await graph_of(node, names=("write",)).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == TEXT
    run = await read(streaming, "e")
    assert run.final == "workflow_complete"
    assert [update.type for update in run.of("node_start", "node_complete")] == ["node_start", "node_complete"]
    assert "".join(run.texts().values()) == (TEXT if decorator in SAYS_TEXT else "")


def test_a_cached_function_keeps_its_hints_and_its_cache() -> None:
    @stream_token
    @functools.lru_cache
    def double(number: int) -> int:
        return 2 * number

    cached: Any = double
    assert [double(2), double(2)] == [4, 4]
    assert cached.__wrapped__.cache_info().hits == 1
    assert double.__annotations__ == {"number": int, "return": int}


# ---------------------------------------------------------------- LangGraph's functional API


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("threaded", [True, False])
async def test_a_task_keeps_its_name_retries_and_cache(
    streaming: StreamingModule, *, ours_first: bool, threaded: bool
) -> None:
    calls: list[str] = []

    def run(topic: str) -> str:
        calls.append(topic)
        if len(calls) == 1:
            raise ConnectionError("once")
        return topic.upper()

    async def run_async(topic: str) -> str:
        return run(topic)

    options: dict[str, Any] = {
        "name": "shout",
        "retry_policy": RetryPolicy(initial_interval=0.001, retry_on=ConnectionError),
        "cache_policy": CachePolicy(),
    }
    make: Any = task
    made: Any = make(**options)
    inner: Any = run if threaded else run_async
    shout: Any = stream_event(made(inner)) if ours_first else made(stream_event(inner))
    cache = InMemoryCache[Any]()

    @entrypoint(cache=cache)
    async def work(topic: str) -> list[str]:
        return [await shout(topic), await shout(topic)]

    for execution_id in ("a", "b"):
        assert await work.ainvoke("hi", streaming.config(execution_id=execution_id)) == ["HI", "HI"]
    assert calls == ["hi", "hi"]  # one failed, one worked, and the cache answered the others
    run_a = await read(streaming, "a")
    assert [update.type for update in run_a.of("node_start", "node_error", "node_complete")] == [
        "node_start",
        "node_error",
        "node_start",
        "node_complete",
    ]
    assert {update.metadata.node_id for update in run_a.of("node_start")} == {"shout"}
    await shout.aclear_cache(cache)
    await work.ainvoke("hi", streaming.config(execution_id="c"))
    assert len(calls) == 3


@pytest.mark.parametrize("ours_first", [True, False])
async def test_an_entrypoint_streams_and_keeps_what_it_saves(streaming: StreamingModule, *, ours_first: bool) -> None:
    async def total(number: int, *, previous: int | None) -> int:
        await model().ainvoke("go")
        return number + (previous or 0)

    made: Any = entrypoint(checkpointer=InMemorySaver())
    work: Any = stream_token(made(total)) if ours_first else made(stream_token(total))
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    assert await work.ainvoke(1, streaming.config(config, execution_id="a")) == 1
    assert await work.ainvoke(2, streaming.config(config, execution_id="b")) == 3
    assert (await work.aget_state(config)).values == 3
    if not ours_first:
        assert "".join((await read(streaming, "b")).texts().values()) == TEXT


# ---------------------------------------------------------------- tools


class Ask(BaseTool):
    name: str = "ask"
    description: str = "Ask a question."
    calls: int = 0

    def _run(self, question: str) -> str:
        self.calls += 1
        return model().invoke(question).text


class AskAsync(Ask):
    async def _arun(self, question: str, config: RunnableConfig) -> str:
        assert config.get("metadata")
        self.calls += 1
        return (await model().ainvoke(question)).text


def ask(question: str) -> str:
    """Ask a question."""
    return model().invoke(question).text


async def ask_async(question: str, state: Annotated[Any, InjectedState]) -> str:
    """Ask a question."""
    assert state["messages"]
    return (await model().ainvoke(question)).text


async def ask_in_a_coroutine(question: str) -> str:
    """Ask a question."""
    return (await model().ainvoke(question)).text


def decorated_then_tool(decorate: Decorator) -> BaseTool:
    make: Any = tool
    return make(decorate(ask))


def an_async_tool() -> BaseTool:
    make: Any = tool
    return make("ask")(ask_async)


TOOLS: dict[str, Callable[[Decorator], BaseTool]] = {
    "@tool below ours": lambda decorate: decorate(tool(ask)),
    "@tool above ours": decorated_then_tool,
    "async @tool below ours": lambda decorate: decorate(an_async_tool()),
    "async @tool above ours": lambda decorate: StructuredTool.from_function(coroutine=decorate(ask_async), name="ask"),
    "Tool": lambda decorate: decorate(Tool("ask", ask, "Ask a question.")),
    "StructuredTool of both": lambda decorate: decorate(
        StructuredTool.from_function(ask, ask_in_a_coroutine, name="ask", description="Ask a question.")
    ),
    "class of tools": lambda decorate: decorate(Ask()),
    "async class of tools": lambda decorate: decorate(AskAsync()),
}


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("kind", TOOLS)
async def test_a_tool_stays_a_tool_and_its_run_streams(streaming: StreamingModule, kind: str, decorator: str) -> None:
    plain, decorated = TOOLS[kind](unchanged), TOOLS[kind](DECORATORS[decorator])
    assert isinstance(decorated, type(plain).__mro__[0 if type(plain) is type(decorated) else 1])
    assert (decorated.name, decorated.description, decorated.args) == (plain.name, plain.description, plain.args)
    bound: Any = model().bind_tools([decorated])
    assert bound.kwargs == model().bind_tools([plain]).kwargs  # pyright: ignore[reportAttributeAccessIssue]
    argument = "__arg1" if kind == "Tool" else "question"
    call = AIMessage("", tool_calls=[{"name": "ask", "args": {argument: "food?"}, "id": "call-1"}])
    graph: Any = StateGraph(MessagesState).add_node("tools", ToolNode([decorated])).add_edge(START, "tools").compile()
    result = await graph.ainvoke({"messages": [call]}, streaming.config(execution_id="e"))
    assert isinstance(result["messages"][-1], ToolMessage)
    assert (result["messages"][-1].content, result["messages"][-1].tool_call_id) == (TEXT, "call-1")
    run = await read(streaming, "e")
    assert "".join(run.texts().values()) == (TEXT if decorator in SAYS_TEXT else "")
    name = "ask_async" if kind == "async @tool above ours" else "ask"  # the function's, where ours is below
    assert [update.data["node_name"] for update in run.of("node_start")] == [name]


def test_a_decorated_tool_leaves_the_plain_one_alone_and_keeps_its_own_state() -> None:
    plain = Ask()
    decorated = stream_event(stream_token(plain))
    assert decorated.invoke({"question": "food?"}) == TEXT
    assert (plain.calls, decorated.calls) == (0, 1)
    assert isinstance(decorated, Ask)
    assert type(decorated).__name__ == "Ask"
    options = streaming_options(decorated)
    assert options is not None
    assert options.token is not None
    assert options.event is not None
    assert options.progress is None
    assert streaming_options(plain) is None


class ClassMethod:
    @classmethod
    async def write(cls, state: State) -> Update:
        return await write(state)


def test_options_of_what_holds_a_function_can_be_read_back() -> None:
    class_method: Any = vars(ClassMethod)["write"]
    holders: list[Any] = [
        stream_event(stream_token(staticmethod(write))),
        stream_event(stream_token(class_method)),
        stream_event(stream_token(functools.partialmethod(write))),
        stream_event(stream_token(task(write))),
        stream_event(task(stream_token(write))),
        stream_event(tool(stream_token(ask))),
    ]
    for holder in holders:
        options = streaming_options(holder)
        assert options is not None, holder
        assert options.token is not None, holder
        assert options.event is not None, holder


# ---------------------------------------------------------------- what is refused


class Refused:
    @property
    def value(self) -> int:
        return 1

    @functools.cached_property
    def cached(self) -> int:
        return 1

    @functools.singledispatchmethod
    def dispatched(self, state: State) -> Update:
        return {}


def a_generator() -> Any:
    yield 1


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "builder": (lambda: StateGraph(State), "decorate what compile() returns, or its nodes"),
    "model": (model, "decorate the function, chain or agent that calls it"),
    "class": (lambda: AsyncCallable, "decorate its method, or an instance"),
    "dataclass or model class": (lambda: Ask, "decorate its method, or an instance"),
    "property": (lambda: vars(Refused)["value"], "decorate a method"),
    "cached_property": (lambda: vars(Refused)["cached"], "decorate a method"),
    "singledispatchmethod": (lambda: vars(Refused)["dispatched"], "decorate the node's function"),
    "staticmethod of a class": (lambda: staticmethod(AsyncCallable), "decorate its method, or an instance"),
    "generator": (a_generator, "without calling it"),
    "string": (lambda: "write", "not str: 'write'"),
    "None": (lambda: None, "not NoneType: None"),
    "number": (lambda: 7, "not int: 7"),
    "dict": (lambda: {"a": write}, "not dict: "),
    "object that cannot be called": (object, "not object: "),
}


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_in_one_sentence(kind: str, decorator: str) -> None:
    make, remedy = REFUSED[kind]
    with pytest.raises(NotANodeError) as caught:
        DECORATORS[decorator](make())
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, StreamingConfigError)


@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_coroutine_is_refused(decorator: str) -> None:
    coroutine = asyncio.sleep(0)
    with pytest.raises(NotANodeError, match="not a coroutine: decorate the function itself, without calling it"):
        DECORATORS[decorator](coroutine)
    coroutine.close()


@pytest.mark.parametrize("given", [None, "yes", 1, [("buffer_size", 1)]])
@pytest.mark.parametrize("name", ["token", "event", "progress"])
def test_stream_all_takes_options_or_a_bool(name: str, given: Any) -> None:
    with pytest.raises(StreamingConfigError, match=f"{name} is a mapping of options, True or False, not "):
        stream_all(**{name: given})
