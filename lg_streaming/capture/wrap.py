"""Wrap a node: a function, method, callable object, generator or Runnable, sync or async.

The wrapper is used exactly like the node. It returns the node's result and raises the node's errors; failures of
streaming never reach it. Without an open hub it only calls the node.

`lg_streaming.capture.held_functions` handles objects that hold a node's function: ``staticmethod``, ``@task``, tools.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast, get_type_hints

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import START, StateGraph
from langgraph.pregel._call import identifier

from lg_streaming.capture.chain_steps import flatten_chain
from lg_streaming.capture.enter_node import activate, enter_node
from lg_streaming.capture.yields import (
    ChunkJoiner,
    is_iterator_result,
    pass_on,
    run_generator,
    run_generator_async,
    wrap_iterator,
)
from lg_streaming.errors import NotANodeError
from lg_streaming.publisher import publishers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

    from langchain_core.runnables import ConfigurableFieldSpec, RunnableConfig
    from langchain_core.runnables.graph import Graph
    from pydantic import BaseModel

    from lg_streaming.capture.node import NodeRun
    from lg_streaming.capture.plan import NodePlan

__all__ = ["StreamedRunnable", "get_node_name", "get_plan", "unwrap_node", "wrap_node"]


def get_node_name(target: object) -> str:
    """Return the name of a node: that of its function, its Runnable or its class."""
    if isinstance(target, Runnable):
        return target.get_name()
    while isinstance(target, functools.partial):
        target = cast("functools.partial[Any]", target).func
    return str(getattr(target, "__name__", type(target).__name__))


_ORIGINAL: Final = "__lg_streaming_original__"
_PLAN: Final = "__lg_streaming_plan__"


def unwrap_node(target: object) -> object:
    """Return the node that ``target`` wraps; ``target`` itself if it wraps none."""
    if isinstance(target, StreamedRunnable):
        return target.node
    wrapper, original = getattr(target, _ORIGINAL, (None, None))
    return original if wrapper is target else target  # functools.wraps copies attributes to foreign wrappers


def get_plan(target: object) -> NodePlan | None:
    """Return the plan of a wrapped function, or of the function in a partial, as LangGraph makes them; else None."""
    while isinstance(target, functools.partial):
        partial = cast("functools.partial[Any]", target)
        inside = [each for each in partial.args if callable(each)]
        target = inside[-1] if inside else partial.func
    return getattr(target, _PLAN, None)


_REFUSED: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (StateGraph, "a StateGraph is no node before it is compiled: decorate what compile() returns, or its nodes"),
    (BaseLanguageModel, "a model is no node: decorate the function, chain or agent that calls it"),
    (type, "a class is no node: decorate its method, or an instance that can be called"),
    ((property, cached_property), "a property is no node: decorate a method"),
)


def _validate_node(target: object) -> None:
    """Check that a decorator can wrap ``target``.

    Raises:
        NotANodeError: If it is neither a callable nor a Runnable, or of a kind that cannot work as a node.
    """
    for kind, why in _REFUSED:
        if isinstance(target, kind):
            raise NotANodeError(f"{why} ({target!r:.100})")
    if inspect.iscoroutine(target) or inspect.isasyncgen(target) or inspect.isgenerator(target):
        raise NotANodeError(
            f"a node is a callable or a Runnable, not a {type(target).__name__}: decorate the function itself, "
            f"without calling it ({target!r:.100})"
        )
    if not callable(target) and not isinstance(target, Runnable):
        raise NotANodeError(
            f"a node is a callable or a Runnable, not {type(target).__name__}: {target!r:.100}; "
            "decorate the node's function"
        )


def wrap_node(target: object, plan: NodePlan, name: str | None = None) -> Any:
    """Return a wrapper of ``target`` that streams each attempt by ``plan``.

    Args:
        target: A callable or a Runnable.
        plan: The node's options.
        name: The node's name; without it, that of the function or the Runnable.

    Raises:
        NotANodeError: If ``target`` can be no node.
    """
    _validate_node(target)
    if isinstance(target, Runnable):
        return StreamedRunnable(cast("Runnable[Any, Any]", target), plan)
    node: Callable[..., Any] = cast("Any", target)
    method: object = type(node).__call__
    has_own_call = isinstance(method, FunctionType)  # an instance of a class that defines __call__
    call: Callable[..., Any] = method if has_own_call else node
    if inspect.isasyncgenfunction(call):
        wrap = _wrap_async_generator
    elif inspect.isgeneratorfunction(call):
        wrap = _wrap_generator
    elif inspect.iscoroutinefunction(call):
        wrap = _wrap_coroutine
    else:
        wrap = _wrap_function
    name = name or get_node_name(target)
    wrapper = functools.wraps(node)(wrap(node, plan, name))
    wrapper.__name__ = get_node_name(target)
    if has_own_call:
        wrapper.__annotations__ = _resolve_hints(call)
    setattr(wrapper, _ORIGINAL, (wrapper, target))
    setattr(wrapper, _PLAN, plan)
    return wrapper


def _resolve_hints(call: Any) -> dict[str, Any]:
    """Return the resolved type hints of a callable object: LangGraph reads them from the wrapper."""
    try:
        return get_type_hints(call)
    except Exception:  # noqa: BLE001 (a name that cannot be resolved; LangGraph then takes the graph's own state)
        return {}


def _with_node_config(run: NodeRun, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return ``kwargs`` with the node's config in place of an explicit one, for a thread without a context."""
    if run.config is None or not isinstance(kwargs.get("config"), dict):
        return kwargs
    return {**kwargs, "config": run.config}


def _publish_result(run: NodeRun, result: Any) -> Any:
    """Return what a node's caller gets for ``result``; an iterator goes on as the node."""
    if is_iterator_result(result):
        return wrap_iterator(run, result)
    run.succeed(result)
    return result


def _wrap_function(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    def node(*args: Any, **kwargs: Any) -> Any:
        if not publishers.count or (run := enter_node(plan, name, kwargs.get("config"), args)) is None:
            return target(*args, **kwargs)
        undo = activate(run)
        try:
            result = target(*args, **_with_node_config(run, kwargs))
        except BaseException as error:
            run.fail(error)
            raise
        else:
            return _publish_result(run, result)
        finally:
            undo()

    return node


def _wrap_coroutine(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    async def node(*args: Any, **kwargs: Any) -> Any:
        if not publishers.count or (run := enter_node(plan, name, kwargs.get("config"), args)) is None:
            return await target(*args, **kwargs)
        undo = activate(run)
        try:
            result = await target(*args, **_with_node_config(run, kwargs))
        except BaseException as error:
            run.fail(error)
            raise
        else:
            return _publish_result(run, result)
        finally:
            undo()

    return node


def _wrap_generator(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    def node(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if not publishers.count or (run := enter_node(plan, name, kwargs.get("config"), args)) is None:
            return (yield from cast("Generator[Any, Any, Any]", target(*args, **kwargs)))
        return (yield from run_generator(run, target(*args, **_with_node_config(run, kwargs))))

    return node


def _wrap_async_generator(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    async def node(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        run = enter_node(plan, name, kwargs.get("config"), args) if publishers.count else None
        if run is None:
            steps = pass_on(target(*args, **kwargs))
        else:
            steps = run_generator_async(run, target(*args, **_with_node_config(run, kwargs)))
        async with aclosing(steps):
            async for item in steps:
                yield item

    return node


class StreamedRunnable(RunnableLambda[Any, Any]):
    """Runnable as a node (a ToolNode, an agent, a chain), whose attempts are streamed.

    It is a ``RunnableLambda`` only so that LangGraph finds the subgraph inside a node (`deps`); it makes no LangChain
    run. Its attributes are those of the Runnable inside.
    """

    def __init__(self, node: Runnable[Any, Any], plan: NodePlan, name: str | None = None) -> None:
        super().__init__(node.invoke, name=name or node.get_name())
        self.node = node
        self.plan = plan
        if (path := identifier(node)) is not None:  # the name under which LangGraph caches the node's results
            self.__module__, _, self.__qualname__ = path.rpartition(".")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "node" not in self.__dict__:  # a copy asks before it has anything
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.node, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StreamedRunnable) and (self.node, self.plan) == (other.node, other.plan)

    __hash__ = None  # pyright: ignore[reportAssignmentType] (as of every RunnableLambda)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.node!r})"

    @property
    def deps(self) -> list[Runnable[Any, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Runnable inside, for LangGraph."""
        return [self.node]

    @property
    def afunc(self) -> Callable[..., Any] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """`ainvoke` if LangGraph considers the Runnable inside natively async, as node timeouts require."""
        return self.ainvoke if _is_natively_async(self.node) else None

    @property
    def InputType(self) -> Any:  # noqa: N802 (LangChain's name)
        """Type of the Runnable inside."""
        return self.node.InputType

    @property
    def OutputType(self) -> Any:  # noqa: N802 (LangChain's name)
        """Type of the Runnable inside."""
        return self.node.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """Delegate to the Runnable inside."""
        return cast("type[BaseModel]", self.node.get_input_schema(config))

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """Delegate to the Runnable inside."""
        return cast("type[BaseModel]", self.node.get_output_schema(config))

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """Specs of the Runnable inside."""
        return self.node.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Delegate to the Runnable inside."""
        return self.node.get_graph(config)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the node inside."""
        call = flatten_chain(self.node, config).invoke
        return _wrap_function(call, self.plan, self.get_name())(input, config=config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the node inside."""
        call = flatten_chain(self.node, config).ainvoke
        return await _wrap_coroutine(call, self.plan, self.get_name())(input, config=config, **kwargs)

    # LangGraph calls stream() of a node for event readers: then the inner node yields its chunks too

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the node inside."""
        call: Any = flatten_chain(self.node, config).stream
        run = enter_node(self.plan, self.get_name(), config, (input,)) if publishers.count else None
        if run is None:
            yield from call(input, config, **kwargs)
        else:
            yield from run_generator(run, call(input, run.config or config, **kwargs), ChunkJoiner())

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream the node inside."""
        call: Any = flatten_chain(self.node, config).astream
        run = enter_node(self.plan, self.get_name(), config, (input,)) if publishers.count else None
        if run is not None:
            chunks = run_generator_async(run, call(input, run.config or config, **kwargs), ChunkJoiner())
        else:
            chunks = pass_on(call(input, config, **kwargs))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the node inside, with the joined input."""
        return cast("Iterator[Any]", Runnable.transform(self, input, config, **kwargs))

    def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream the node inside, with the joined input."""
        return cast("AsyncIterator[Any]", Runnable.atransform(self, input, config, **kwargs))


class _ProbeState(TypedDict):
    """State of a graph that never runs."""


def _is_natively_async(node: Runnable[Any, Any]) -> bool:
    """Return whether LangGraph allows a timeout for ``node``, as it decides when it compiles a graph."""
    builder: Any = StateGraph(_ProbeState)
    try:
        builder.add_node("node", node, timeout=1.0).add_edge(START, "node").compile()
    except ValueError:
        return False
    return True
