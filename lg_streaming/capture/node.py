"""Wraps a node: a function, method, callable object, generator or Runnable, sync or async.

The wrapped node is used exactly like the node. It returns what the node returns and raises what the node
raises; nothing that goes wrong in streaming reaches it. With no hub open it is the plain node.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, get_type_hints

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand

from lg_streaming.capture.graph import binding_of
from lg_streaming.capture.tap import TAP, listening_var, tap_var
from lg_streaming.emitter import Emitter, emitter_var
from lg_streaming.errors import describe_error
from lg_streaming.scope import Binding, Scope, execution_var, publishers

if TYPE_CHECKING:
    from contextvars import Token
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

__all__ = ["NodePlan", "NodeStream", "name_of", "original_of", "wrap_node"]

logger = logging.getLogger(__name__)


class NodeStream(Protocol):
    """What is made of what a node does; one for each try of a node."""

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:  # noqa: A002
        """One thing that happened in the node, from its ``node_start`` to what ended it."""
        ...

    def activate(self) -> Callable[[], None]:
        """Sets the stream's own context variables; returns what takes that back, called in the same context."""
        ...


class NodePlan(Protocol):
    """What a decorated node asks for."""

    @property
    def node_id(self) -> str | None:
        """The node's id; None for its name in the graph, or the function's name."""
        ...

    @property
    def listens(self) -> bool:
        """Whether it wants to hear the models and tools inside the node, which makes models stream."""
        ...

    @property
    def enabled(self) -> bool:
        """Whether it wants anything at all."""
        ...

    def open(self, emitter: Emitter) -> NodeStream:
        """Starts the stream of one try of the node."""
        ...


class NodeRun:
    """One try of a decorated node."""

    __slots__ = (
        "_listens",
        "_started",
        "_stream",
        "binding",
        "block",
        "emitter",
        "graph_namespace",
        "name",
        "run_ids",
        "scope",
    )

    def __init__(
        self,
        plan: NodePlan,
        binding: Binding,
        block: Binding | None,
        name: str,
        scope: Scope,
        graph_namespace: str | None,
    ) -> None:
        self.binding = binding
        self.block = block
        """The ``execution(...)`` block that was in force when the node was entered."""
        self.name = name
        self.scope = scope
        self.graph_namespace = graph_namespace
        self.run_ids: set[UUID] = set()
        self.emitter = Emitter(binding.publisher, binding.execution_id, scope, strict=False)
        self._stream = plan.open(self.emitter)
        self._listens = plan.listens
        self._started = time.perf_counter()

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:  # noqa: A002
        """Gives the stream one thing that happened. Never raises."""
        try:
            self._stream.take(type, data, scope)
        except Exception:
            logger.exception("an update of type %r of node %r is lost", type, self.name)

    def report(self, type: str, **data: Any) -> None:  # noqa: A002
        """Says something about the node itself."""
        self.hear(type, {"node_id": self.scope.node_id, "node_name": self.name, **data}, self.scope)

    def start(self) -> None:
        """The node begins."""
        self.report("node_start", attempt=self.scope.attempt)

    def succeed(self, result: object) -> None:
        """The node returned."""
        self.report("node_complete", result=result, duration_s=self._elapsed())
        TAP.forget(self)

    def fail(self, error: BaseException) -> None:
        """The node raised: sorts out what that means."""
        match error:
            case ParentCommand():
                self.report("node_complete", result=error.args[0] if error.args else None, duration_s=self._elapsed())
            case GraphInterrupt():
                self.binding.publisher.pause(self.binding.execution_id, self.binding.run_id, _task(self.scope.namespace, self.scope.node_id))
                self.report("node_interrupted", interrupts=_interrupts(error), duration_s=self._elapsed())
            case asyncio.CancelledError() | GeneratorExit() | KeyboardInterrupt() | GraphBubbleUp():
                self.report("node_error", error={"message": "cancelled", "code": "cancelled"}, duration_s=self._elapsed())
            case _:
                described = describe_error(error, debug=self.binding.publisher.debug)
                self.report("node_error", error=described, duration_s=self._elapsed())
        TAP.forget(self)

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._started, 6)

    def activate(self) -> Callable[[], None]:
        """Puts the node in force in the present context; returns what takes that back."""
        run: Token[NodeRun | None] = _run_var.set(self)
        listening = listening_var.set(self)
        tap = tap_var.set(TAP if self._listens else None)
        emitter = emitter_var.set(self.emitter)
        undo_stream = self._stream.activate()

        def undo() -> None:
            undo_stream()
            emitter_var.reset(emitter)
            tap_var.reset(tap)
            listening_var.reset(listening)
            _run_var.reset(run)

        return undo


_run_var: ContextVar[NodeRun | None] = ContextVar("lg_streaming_node", default=None)


def _interrupts(error: GraphInterrupt) -> list[dict[str, Any]]:
    interrupts = error.args[0] if error.args else ()
    return [{"id": getattr(each, "id", None), "value": getattr(each, "value", None)} for each in interrupts]


def _task(namespace: str | None, node_id: str | None) -> str:
    return f"{namespace}\n{node_id}"


def _enter(plan: NodePlan, name: str, config: RunnableConfig | None) -> NodeRun | None:
    """A run of the node, started; None when nobody listens or streaming cannot."""
    try:
        if not plan.enabled:
            return None
        config = config or var_child_runnable_config.get()
        outer, block = _run_var.get(), execution_var.get()
        if outer is not None and outer.block is block:
            binding = outer.binding
        else:
            binding = block or binding_of(config)
        if binding is None:
            return None
        identity = _identify(plan, name, config, binding, outer)
        if identity is None:
            return None
        scope, graph_namespace = identity
        run = NodeRun(plan, binding, block, name, scope, graph_namespace)
        run.start()
    except Exception as error:  # noqa: BLE001 (streaming must never change what a node does)
        logger.warning("node %r runs without streaming: %s", name, error, exc_info=error)
        return None
    return run


def _identify(
    plan: NodePlan, name: str, config: RunnableConfig | None, binding: Binding, outer: NodeRun | None
) -> tuple[Scope, str | None] | None:
    """Who the node is, and LangGraph's own namespace for it. None for the node that is in force, wrapped twice.

    The namespace tells ``Send`` branches apart and is the same for every try of a node.
    """
    metadata: dict[str, Any] = (config.get("metadata") if config is not None else None) or {}
    graph_namespace: str | None = metadata.get("langgraph_checkpoint_ns")
    number = functools.partial(binding.publisher.next_attempt, binding.execution_id)
    if graph_namespace is not None and (outer is None or outer.graph_namespace != graph_namespace):
        node_id = plan.node_id or metadata.get("langgraph_node") or name
        attempt = number(_task(graph_namespace, node_id))
        return Scope(run_id=binding.run_id, node_id=node_id, namespace=graph_namespace, attempt=attempt), graph_namespace
    if outer is not None and outer.name == name:
        return None
    # called as a function: each call is a piece of work of its own, not another try of the one before
    namespace = name if outer is None else f"{outer.scope.namespace}/{name}"
    call = number(namespace)
    scope = Scope(
        run_id=binding.run_id, node_id=plan.node_id or name, namespace=f"{namespace}:{call}", attempt=1
    )
    return scope, graph_namespace


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


def wrap_node(target: Any, plan: NodePlan) -> Any:
    """``target`` with its tries streamed as ``plan`` says. See the module's docstring for what stays the same.

    Raises:
        TypeError: It is neither callable nor a Runnable.
    """
    if isinstance(target, Runnable):
        return StreamedRunnable(cast("Runnable[Any, Any]", target), plan)
    if not callable(target):
        raise TypeError(f"a node is a callable or a Runnable, not {type(target).__name__}: {target!r:.100}")
    call = target if inspect.isroutine(target) or isinstance(target, functools.partial) else type(target).__call__
    if inspect.isasyncgenfunction(call):
        wrap = _wrap_async_generator
    elif inspect.isgeneratorfunction(call):
        wrap = _wrap_generator
    elif inspect.iscoroutinefunction(call):
        wrap = _wrap_coroutine
    else:
        wrap = _wrap_function
    name = name_of(target)
    wrapper = functools.wraps(target)(wrap(target, plan, name))
    wrapper.__name__ = name
    if call is not target and not isinstance(target, functools.partial):
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
    """``kwargs`` with the tap in an explicit ``config``, so that it also reaches a thread without a context."""
    config = kwargs.get("config")
    callbacks = config.get("callbacks") if isinstance(config, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(callbacks, BaseCallbackManager):
        return kwargs
    manager = callbacks.copy()
    if TAP not in manager.handlers:
        manager.add_handler(TAP, inherit=True)
    if manager.parent_run_id is not None:
        TAP.adopt(manager.parent_run_id, run)
    return {**kwargs, "config": {**cast("dict[str, Any]", config), "callbacks": manager}}


def _wrap_function(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    def node(*args: Any, **kwargs: Any) -> Any:
        if not publishers.count or (run := _enter(plan, name, kwargs.get("config"))) is None:
            return target(*args, **kwargs)
        undo = run.activate()
        try:
            result = target(*args, **_config_for(run, kwargs))
        except BaseException as error:
            run.fail(error)
            raise
        else:
            run.succeed(result)
            return result
        finally:
            undo()

    return node


def _wrap_coroutine(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    async def node(*args: Any, **kwargs: Any) -> Any:
        if not publishers.count or (run := _enter(plan, name, kwargs.get("config"))) is None:
            return await target(*args, **kwargs)
        undo = run.activate()
        try:
            result = await target(*args, **_config_for(run, kwargs))
        except BaseException as error:
            run.fail(error)
            raise
        else:
            run.succeed(result)
            return result
        finally:
            undo()

    return node


def _wrap_generator(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    def node(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if not publishers.count or (run := _enter(plan, name, kwargs.get("config"))) is None:
            return (yield from target(*args, **kwargs))
        steps = target(*args, **_config_for(run, kwargs))
        item: Any = None
        try:
            while True:
                # in force only while the generator itself runs: between two steps its caller's code does
                undo = run.activate()
                try:
                    item = steps.send(None)
                except StopIteration as end:
                    run.succeed(end.value if end.value is not None else item)
                    return end.value
                finally:
                    undo()
                yield item
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            steps.close()

    return node


def _wrap_async_generator(target: Callable[..., Any], plan: NodePlan, name: str) -> Callable[..., Any]:
    async def node(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        run = _enter(plan, name, kwargs.get("config")) if publishers.count else None
        if run is None:
            async for item in target(*args, **kwargs):
                yield item
            return
        steps = target(*args, **_config_for(run, kwargs))
        item = None
        try:
            while True:
                undo = run.activate()
                try:
                    item = await anext(steps)
                except StopAsyncIteration:
                    run.succeed(item)
                    return
                finally:
                    undo()
                yield item
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            await steps.aclose()

    return node


class StreamedRunnable(RunnableLambda[Any, Any]):
    """A Runnable as a node (a ToolNode, a compiled subgraph, an agent), with its tries streamed.

    It is a ``RunnableLambda`` by class only, because that is where LangGraph looks for the subgraph inside a
    node (:attr:`deps`); it makes no run of its own.
    """

    def __init__(self, node: Runnable[Any, Any], plan: NodePlan) -> None:
        super().__init__(node.invoke, name=node.get_name())
        self.node = node
        self.plan = plan

    @property
    def deps(self) -> list[Runnable[Any, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The Runnable inside."""
        return [self.node]

    def _enter(self, config: RunnableConfig | None) -> NodeRun | None:
        return _enter(self.plan, self.get_name(), config) if publishers.count else None

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Calls the node inside."""
        run = self._enter(config)
        if run is None:
            return self.node.invoke(input, config, **kwargs)
        undo = run.activate()
        try:
            result = self.node.invoke(input, _config_for(run, {"config": config})["config"], **kwargs)
        except BaseException as error:
            run.fail(error)
            raise
        else:
            run.succeed(result)
            return result
        finally:
            undo()

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Calls the node inside."""
        run = self._enter(config)
        if run is None:
            return await self.node.ainvoke(input, config, **kwargs)
        undo = run.activate()
        try:
            result = await self.node.ainvoke(input, _config_for(run, {"config": config})["config"], **kwargs)
        except BaseException as error:
            run.fail(error)
            raise
        else:
            run.succeed(result)
            return result
        finally:
            undo()

    # LangGraph may drive a node by stream(); what it needs of it is the last chunk, which is the result
    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The result as one chunk."""
        yield self.invoke(input, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The result as one chunk."""
        yield await self.ainvoke(input, config, **kwargs)

    def transform(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The result for the joined input, as one chunk."""
        yield from Runnable.transform(self, input, config, **kwargs)

    async def atransform(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The result for the joined input, as one chunk."""
        async for chunk in Runnable.atransform(self, input, config, **kwargs):
            yield chunk
