"""Run a graph or a function and collect its updates."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeVar, cast, overload, runtime_checkable

from lg_streaming.errors import StreamingConfigError
from lg_streaming.publisher import new_id

if TYPE_CHECKING:
    from lg_streaming.capture import RunnableConfig
    from lg_streaming.events import StreamUpdate
    from lg_streaming.module import StreamingModule
    from lg_streaming.texts import MessageText

__all__ = ["Collected", "collect", "collect_sync"]

T = TypeVar("T")

_FOR_GRAPHS: Final = "input, config and capture are for graphs: give a function its arguments with a lambda"


class Collected(Sequence["StreamUpdate"]):
    """The updates of one execution, in order: a sequence with the queries that tests need.

    Args:
        updates: The updates.
        result: The result of the graph or the function.
        error: Its exception, when `collect` was called with ``raises=False``.
    """

    def __init__(
        self, updates: Sequence[StreamUpdate], *, result: Any = None, error: BaseException | None = None
    ) -> None:
        self._updates = tuple(updates)
        self.result: Any = result
        self.error = error

    @overload
    def __getitem__(self, index: int) -> StreamUpdate: ...
    @overload
    def __getitem__(self, index: slice) -> Collected: ...
    def __getitem__(self, index: int | slice) -> StreamUpdate | Collected:
        """Return one update, or a slice of them."""
        if isinstance(index, slice):
            return self._part(self._updates[index])
        return self._updates[index]

    def __len__(self) -> int:
        return len(self._updates)

    def __iter__(self) -> Iterator[StreamUpdate]:
        return iter(self._updates)

    def __repr__(self) -> str:
        return f"<Collected {' '.join(self.types)}>"

    @property
    def types(self) -> list[str]:
        """Return the type of each update."""
        return [update.type for update in self._updates]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of updates of each type."""
        return dict(Counter(self.types))

    @property
    def text(self) -> str:
        """Return the text of all messages, in the order in which they began, by the rules of `TextAssembly`.

        It omits messages of failed model calls, and the text of a node's attempts before its last one.
        """
        return "".join(message.text for message in self.messages)

    @property
    def texts(self) -> dict[str, str]:
        """Return the same by node id. `messages` also has agents and node paths."""
        joined: dict[str, str] = {}
        for message in self.messages:
            if message.text:
                joined[message.node_id or ""] = joined.get(message.node_id or "", "") + message.text
        return joined

    @property
    def messages(self) -> list[MessageText]:
        """Return the messages of `text`, each with ``text``, ``thinking``, ``agent_type`` and node ``path``."""
        from lg_streaming.texts import TextAssembly  # noqa: PLC0415 (a test plugin imports nothing before it is used)

        assembly = TextAssembly()
        for update in self._updates:
            assembly.add(update)
        return assembly.messages

    @property
    def nodes(self) -> list[str]:
        """Return the nodes that started, in order; a node that started twice appears twice."""
        return [update.node_id or "" for update in self._updates if update.type == "node_start"]

    @property
    def progress(self) -> list[float]:
        """Return the percentages of the ``progress`` updates."""
        return [update.data["progress"] for update in self._updates if update.type == "progress"]

    @property
    def outcome(self) -> str | None:
        """Return the last run's outcome, such as ``workflow_complete``; None while it has not ended."""
        ended = (each.type for each in reversed(self._updates) if each.is_final or each.type == "workflow_interrupted")
        return next(ended, None)

    def of(self, *types: str, node: str | None = None, agent: str | None = None) -> Collected:
        """Return a part of the updates.

        Args:
            types: Their types; all types when none is given.
            node: The id of their node.
            agent: The name of their agent.
        """
        return self._part(
            [
                update
                for update in self._updates
                if (not types or update.type in types)
                and (node is None or update.node_id == node)
                and (agent is None or update.agent_type == agent)
            ]
        )

    def one(self, type: str, *, node: str | None = None, agent: str | None = None) -> StreamUpdate:
        """Return the only update of a type, and of a node or an agent where one is given.

        Raises:
            AssertionError: If the number of such updates is not 1.
        """
        found = self.of(type, node=node, agent=agent)
        if len(found) != 1:
            names = (("node", node), ("agent", agent))
            where = "".join(f" of {kind} {name!r}" for kind, name in names if name is not None)
            raise AssertionError(f"one {type!r} update{where} was expected, and {len(found)} came: {self!r}")
        return found[0]

    def _part(self, updates: Sequence[StreamUpdate]) -> Collected:
        return Collected(updates, result=self.result, error=self.error)


@runtime_checkable
class _Graph(Protocol):
    """A compiled graph, or another Runnable."""

    def invoke(self, input: Any, config: Any = None, /) -> Any: ...

    def ainvoke(self, input: Any, config: Any = None, /) -> Awaitable[Any]: ...


async def collect(
    target: object,
    input: Any = None,
    /,
    *,
    streaming: StreamingModule | None = None,
    config: RunnableConfig | None = None,
    execution_id: str | None = None,
    capture: Literal["decorated", "all"] | None = None,
    timeout: float | None = 10.0,  # noqa: ASYNC109 (a test sets its limit in the call)
    raises: bool = True,
) -> Collected:
    """Run ``target`` as an execution and return all its updates.

    ```python
    updates = await collect(graph, {"messages": "Weather?"})
    assert updates.text == "It rains."
    ```

    Args:
        target: A compiled graph, another Runnable, an awaitable, or a function without arguments, sync or async. Or
            the id of an execution, for its updates up to now.
        input: The input of a graph.
        streaming: The module to use; a new one, which is closed at the end, when not given.
        config: A config of your own for a graph: its thread, its callbacks.
        execution_id: The execution; a new one when not given.
        capture: For a graph: ``"all"`` captures every node, as for `StreamingModule.config`.
        timeout: Seconds until the run is cancelled; None for no limit. A sync function is not interrupted.
        raises: False returns the exception of ``target`` as ``error``, with the updates before it.

    Raises:
        TimeoutError: If ``target`` takes longer than ``timeout``.
        StreamingConfigError: If ``target`` cannot be run.
        Exception: If ``target`` raised it, and ``raises`` is True.
    """
    from lg_streaming.module import StreamingModule  # noqa: PLC0415 (a test plugin may not import LangGraph)

    async with StreamingModule() if streaming is None else contextlib.nullcontext(streaming) as module:
        if isinstance(target, str):
            return Collected(await _updates(module, target))
        execution_id = execution_id or new_id()
        result, error = None, None
        try:
            async with asyncio.timeout(timeout):
                result = await _run(target, input, module, _Call(config, execution_id, capture))
        except Exception as raised:
            if raises:
                raise
            error = raised
        return Collected(await _updates(module, execution_id), result=result, error=error)


class _Call(NamedTuple):
    """The options of a call."""

    config: RunnableConfig | None
    execution_id: str
    capture: Literal["decorated", "all"] | None

    def config_of(self, streaming: StreamingModule) -> RunnableConfig:
        """Return the config that a graph is called with."""
        return streaming.config(self.config, execution_id=self.execution_id, capture=self.capture)

    def check_is_bare(self, input: Any) -> None:
        """Refuse what only a graph can be given."""
        if input is not None or self.config is not None or self.capture is not None:
            raise StreamingConfigError(_FOR_GRAPHS)


async def _run(target: object, input: Any, streaming: StreamingModule, call: _Call) -> Any:
    if isinstance(target, _Graph):
        return await target.ainvoke(input, call.config_of(streaming))
    call.check_is_bare(input)
    if not (inspect.isawaitable(target) or callable(target)):
        raise StreamingConfigError(
            f"collect takes a graph, an awaitable, a function or the id of an execution, not {target!r:.100}"
        )
    async with streaming.execution(call.execution_id):
        result: Any = target if inspect.isawaitable(target) else cast("Callable[[], Any]", target)()
        return await result if inspect.isawaitable(result) else result


async def _updates(streaming: StreamingModule, execution_id: str) -> list[StreamUpdate]:
    """Return the updates in the log, without waiting for more."""
    return await streaming.events.replay_events(execution_id)


def collect_sync(
    target: object,
    input: Any = None,
    /,
    *,
    streaming: StreamingModule | None = None,
    config: RunnableConfig | None = None,
    execution_id: str | None = None,
    capture: Literal["decorated", "all"] | None = None,
    timeout: float | None = 10.0,
    raises: bool = True,
) -> Collected:
    """Do what `collect` does in a program without an event loop: a graph is called with ``invoke``.

    The target runs in a new thread, with the caller's context variables. It cannot be cancelled: after ``timeout`` it
    continues, and its updates are lost.

    Args:
        target: A compiled graph or another Runnable, a sync function without arguments, or the id of an execution.
        input: The input of a graph.
        streaming: The module to use; a new one, which is closed at the end, when not given.
        config: A config of your own for a graph.
        execution_id: The execution; a new one when not given.
        capture: For a graph: ``"all"`` captures every node, as for `StreamingModule.config`.
        timeout: Seconds to wait; None for no limit.
        raises: False returns the exception of ``target`` as ``error``, with the updates before it.

    Raises:
        TimeoutError: If ``target`` takes longer than ``timeout``.
        StreamingConfigError: If ``target`` cannot be run.
        Exception: If ``target`` raised it, and ``raises`` is True.
    """
    from lg_streaming.module import StreamingModule  # noqa: PLC0415 (as above)

    module = streaming or StreamingModule()
    collected_id = target if isinstance(target, str) else execution_id or new_id()

    def run() -> Collected:
        result, error = None, None
        try:
            if not isinstance(target, str):
                result = _run_sync(target, input, module, _Call(config, collected_id, capture))
        except Exception as raised:
            if raises:
                raise
            error = raised
        return Collected(asyncio.run(_updates(module, collected_id)), result=result, error=error)

    try:
        return _in_thread(run, timeout)
    finally:
        if streaming is None:
            _in_thread(lambda: asyncio.run(module.aclose()), None)


def _run_sync(target: object, input: Any, streaming: StreamingModule, call: _Call) -> Any:
    if isinstance(target, _Graph):
        return target.invoke(input, call.config_of(streaming))
    call.check_is_bare(input)
    if not callable(target) or inspect.iscoroutinefunction(target):
        raise StreamingConfigError(
            f"collect_sync takes a graph, a sync function or the id of an execution, not {target!r:.100}; "
            "await collect(…) takes what is async"
        )
    with streaming.execution(call.execution_id):
        return target()


def _in_thread(call: Callable[[], T], timeout: float | None) -> T:
    """Return the result of ``call`` in a new thread, so that the caller's event loop stays as it is."""
    context = contextvars.copy_context()
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 (the caller raises it)
            done.set_exception(error)

    threading.Thread(target=run, name="lg-streaming collect", daemon=True).start()
    return done.result(timeout)
