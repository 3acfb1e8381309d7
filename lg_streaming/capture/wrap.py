"""Wraps a node: a function, method, callable object, generator or Runnable, sync or async.

The wrapped node is used exactly like the node. It returns what the node returns and raises what the node
raises; nothing that goes wrong in streaming reaches it. With no hub open it is the plain node.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast, get_type_hints

from langchain_core.runnables import Runnable, RunnableLambda

from lg_streaming.capture.enter import activate, enter_node
from lg_streaming.capture.yields import drive, drive_async, yielding, yields
from lg_streaming.scope import publishers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

    from langchain_core.runnables import RunnableConfig

    from lg_streaming.capture.node import NodePlan, NodeRun

__all__ = ["StreamedRunnable", "name_of", "original_of", "wrap_node"]


def name_of(target: object) -> str:
    """What a node is called: its function's, its Runnable's or its class's name."""
    if isinstance(target, Runnable):
        return target.get_name()
    while isinstance(target, functools.partial):
        target = cast("functools.partial[Any]", target).func
    return str(getattr(target, "__name__", type(target).__name__))


_ORIGINAL: Final = "__lg_streaming_original__"


def original_of(target: object) -> object:
    """The node that ``target`` wraps; ``target`` itself when it wraps none."""
    if isinstance(target, StreamedRunnable):
        return target.node
    wrapper, original = getattr(target, _ORIGINAL, (None, None))
    return original if wrapper is target else target  # functools.wraps copies attributes to foreign wrappers


def wrap_node(target: object, plan: NodePlan) -> Any:
    """``target`` with its tries streamed as ``plan`` says. See the module's docstring for what stays the same.

    Raises:
        TypeError: It is neither callable nor a Runnable.
    """
    if isinstance(target, Runnable):
        return StreamedRunnable(cast("Runnable[Any, Any]", target), plan)
    if not callable(target):
        raise TypeError(f"a node is a callable or a Runnable, not {type(target).__name__}: {target!r:.100}")
    node: Callable[..., Any] = cast("Any", target)
    own = type(target) is functools.partial or inspect.isroutine(node)
    call: Callable[..., Any] = node if own else type(node).__call__
    if inspect.isasyncgenfunction(call):
        wrap = _wrap_async_generator
    elif inspect.isgeneratorfunction(call):
        wrap = _wrap_generator
    elif inspect.iscoroutinefunction(call):
        wrap = _wrap_coroutine
    else:
        wrap = _wrap_function
    name = name_of(target)
    wrapper = functools.wraps(node)(wrap(node, plan, name))
    wrapper.__name__ = name
    if not own:
        wrapper.__annotations__ = _hints(call)
    setattr(wrapper, _ORIGINAL, (wrapper, target))
    return wrapper


def _hints(call: Any) -> dict[str, Any]:
    """The type hints of a callable object: LangGraph reads them off the wrapper, which has no module to look in."""
    try:
        return get_type_hints(call)
    except Exception:  # noqa: BLE001 (a name that cannot be resolved; LangGraph then takes the graph's own state)
        return {}


def _config_for(run: NodeRun, kwargs: dict[str, Any]) -> dict[str, Any]:
    """``kwargs`` with the node's own config in place of an explicit one, for a thread without a context."""
    if run.config is None or not isinstance(kwargs.get("config"), dict):
        return kwargs
    return {**kwargs, "config": run.config}


def _wrap_function(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    def node(*args: Any, **kwargs: Any) -> Any:
        if not publishers.count or (run := enter_node(plan, name, kwargs.get("config"), args)) is None:
            return target(*args, **kwargs)
        undo = activate(run)
        try:
            result = target(*args, **_config_for(run, kwargs))
        except BaseException as error:
            run.fail(error)
            raise
        else:
            if yields(result):
                return yielding(run, result)
            run.succeed(result)
            return result
        finally:
            undo()

    return node


def _wrap_coroutine(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    async def node(*args: Any, **kwargs: Any) -> Any:
        if not publishers.count or (run := enter_node(plan, name, kwargs.get("config"), args)) is None:
            return await target(*args, **kwargs)
        undo = activate(run)
        try:
            result = await target(*args, **_config_for(run, kwargs))
        except BaseException as error:
            run.fail(error)
            raise
        else:
            if yields(result):
                return yielding(run, result)
            run.succeed(result)
            return result
        finally:
            undo()

    return node


def _wrap_generator(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    def node(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if not publishers.count or (run := enter_node(plan, name, kwargs.get("config"), args)) is None:
            return (yield from cast("Generator[Any, Any, Any]", target(*args, **kwargs)))
        return (yield from drive(run, target(*args, **_config_for(run, kwargs))))

    return node


def _wrap_async_generator(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    async def node(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        run = enter_node(plan, name, kwargs.get("config"), args) if publishers.count else None
        if run is None:
            async for item in target(*args, **kwargs):
                yield item
            return
        async with aclosing(drive_async(run, target(*args, **_config_for(run, kwargs)))) as steps:
            async for item in steps:
                yield item

    return node


class StreamedRunnable(RunnableLambda[Any, Any]):
    """A Runnable as a node (a ToolNode, a compiled subgraph, an agent), with its tries streamed.

    It is a ``RunnableLambda`` by class only, because that is where LangGraph looks for the subgraph inside a
    node (`deps`); it makes no run of its own.
    """

    def __init__(self, node: Runnable[Any, Any], plan: NodePlan) -> None:
        super().__init__(node.invoke, name=node.get_name())
        self.node = node
        self.plan = plan

    @property
    def deps(self) -> list[Runnable[Any, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The Runnable inside."""
        return [self.node]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Calls the node inside."""
        return _wrap_function(self.node.invoke, self.plan, self.get_name())(input, config=config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Calls the node inside."""
        return await _wrap_coroutine(self.node.ainvoke, self.plan, self.get_name())(input, config=config, **kwargs)

    # LangGraph may drive a node by stream(); what it needs of it is the last chunk, which is the result

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The result as one chunk."""
        yield self.invoke(input, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The result as one chunk."""
        yield await self.ainvoke(input, config, **kwargs)

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The result for the joined input, as one chunk."""
        return cast("Iterator[Any]", Runnable.transform(self, input, config, **kwargs))

    def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The result for the joined input, as one chunk."""
        return cast("AsyncIterator[Any]", Runnable.atransform(self, input, config, **kwargs))
