"""Commands to runs, in this process or in the one that holds the run: pause, resume, inject, edit."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from langchain_core.messages import BaseMessage

from lg_streaming.errors import BadRequestError, ExecutionNotFoundError, TransitionError
from lg_streaming.fork import restart_after_fork
from lg_streaming.runs.execution_graphs import ExecutionGraphs
from lg_streaming.runs.order import RunOrder
from lg_streaming.runs.records import RunRecord, json_config
from lg_streaming.runs.registry import checkpointer_of
from lg_streaming.runs.schemas import GraphSchemas
from lg_streaming.runs.steering import Injection, check_fields, check_node, update_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from langgraph.types import StateSnapshot

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.driver import RunDriver
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry

__all__ = ["GraphThread", "RunCommands", "check_checkpoint", "check_messages"]

_MAX_THREADS: Final = 10_000
_OPEN: Final = frozenset({"running", "interrupted"})


class GraphThread(NamedTuple):
    """A graph, and the thread in which it keeps the state of an execution."""

    graph: AnyGraph
    thread_id: str

    def config_at(self, checkpoint_id: str | None) -> RunnableConfig:
        """Return the config of a checkpoint; None for the newest one."""
        return {"configurable": self.configurable_at(checkpoint_id)}

    def configurable_at(self, checkpoint_id: str | None) -> dict[str, Any]:
        """Return the ``configurable`` values that name a checkpoint; None for the newest one."""
        if checkpoint_id is None:
            return {"thread_id": self.thread_id}
        return {"thread_id": self.thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}


class RunOrigin(NamedTuple):
    """Values with which a run was started, and which a fork of it takes over."""

    config: Mapping[str, Any] = MappingProxyType({})
    context: Any = None

    @classmethod
    def of(cls, driver: RunDriver) -> RunOrigin:
        """Return the values of a driver's run."""
        return cls(json_config(driver.request.config), driver.request.context)

    def merge(self, config: RunnableConfig | None, begin: RunnableConfig) -> RunnableConfig:
        """Return the config of a fork: the given one, with the run's ``configurable`` values as defaults.

        It names the checkpoint to begin at, although the thread has no newer one. LangGraph then gives subgraphs their
        state of that time, and asks people again.
        """
        given: RunnableConfig = config or {}
        values = {**self.config.get("configurable", {}), **given.get("configurable", {})}
        return {**given, "configurable": {**values, **begin.get("configurable", {})}}


class RunCommands:
    """Commands to the runs of a hub. With a log of several processes they reach a run in any of them.

    Args:
        hub: The hub.
        graphs: The graphs that are started by name.
    """

    def __init__(self, hub: StreamHub, graphs: GraphRegistry) -> None:
        self._hub = hub
        self._graphs = graphs
        self._order = RunOrder()
        self.execution_graphs: ExecutionGraphs = ExecutionGraphs(hub, graphs, self._open_driver)
        """Finder of the graphs of executions."""
        self._start_empty()
        restart_after_fork(self)
        if hub.log.fleet is not None:
            hub.log.fleet.on_request("steer", self._on_request)

    @property
    def hub(self) -> StreamHub:
        """The hub."""
        return self._hub

    def _start_empty(self) -> None:
        self._origins: OrderedDict[str, RunOrigin] = OrderedDict()
        """Origins of the newest runs that have ended, by execution."""

    def after_fork(self) -> None:
        """Drop the runs of the parent process, which go on there."""
        self._start_empty()

    def _open_driver(self, execution_id: str) -> RunDriver | None:
        """Return the driver of the open run of an execution in this process, or None."""
        driver = self._order.first(execution_id)
        return driver if driver is not None and driver.is_open else None

    def _remember(self, driver: RunDriver) -> None:
        execution_id = driver.run.execution_id
        self._origins[execution_id] = RunOrigin.of(driver)
        self._origins.move_to_end(execution_id)
        if len(self._origins) > _MAX_THREADS:
            self._origins.popitem(last=False)

    def _origin_of(self, execution_id: str, metadata: Mapping[str, Any]) -> RunOrigin:
        """Return the values of the last run of an execution, known here or from the metadata of its checkpoint."""
        driver = self._open_driver(execution_id)
        if driver is not None:
            return RunOrigin.of(driver)
        record = RunRecord.from_checkpoint(metadata)
        stored = RunOrigin() if record is None else RunOrigin(record.config, record.context)
        return self._origins.get(execution_id, stored)

    # --- open runs ------------------------------------------------------------------------------------------

    async def pause(self, execution_id: str, reason: str | None = None) -> None:
        """Pause the open run: its graph stops after the nodes that are at work, and keeps its state.

        The run then has the state ``interrupted``, and a ``status`` update ``paused``. `resume` continues it, in the
        process that holds it. A run that waits for a human pauses when it has its answers. A functional
        ``@entrypoint`` has one step, so it is not paused before its end.

        Raises:
            ExecutionNotFoundError: If no run of `GraphRunner` is open.
            TransitionError: If the graph has no checkpointer.
            NoAnswerError: If the process that holds the run did not answer in time.
            LogUnavailableError: If another process may hold the run, and the log cannot be reached.
        """
        await self._command(execution_id, "pause", {"reason": reason})

    async def resume(self, execution_id: str) -> bool:
        """Resume a paused run; return whether it was paused, or about to be. Raises like `pause`."""
        return bool(await self._command(execution_id, "resume", {}))

    async def inject(
        self, execution_id: str, values: Any, *, as_node: str | None = None, only_input: bool = False
    ) -> None:
        """Update the state of the open run before its next step: ``{"messages": [("user", "Shorter, please")]}``.

        The nodes that are at work end first. An ``input_injected`` update follows the change. An update that the graph
        refuses, or that comes too late, is published as an ``error``, and the run goes on. For a run in another process
        the values are passed as JSON.

        Args:
            execution_id: The execution.
            values: The update, as a node returns it.
            as_node: Node that seems to have made the update; the graph continues behind it. None: the last one that
                updated the state.
            only_input: Whether the values have to fit the graph's input schema, with messages of the user only: for
                callers on the network.

        Raises:
            ExecutionNotFoundError: If no run of `GraphRunner` is open.
            TransitionError: If the graph has no checkpointer. If it waits for answers, and ``as_node`` is passed.
            BadRequestError: If no node is called ``as_node``, the state has no such field, or the input no such value.
            NoAnswerError: If the process that holds the run did not answer in time.
            LogUnavailableError: If another process may hold the run, and the log cannot be reached.
        """
        arguments = {"values": values, "as_node": as_node, "only_input": only_input}
        await self._command(execution_id, "inject", arguments)

    async def _command(self, execution_id: str, verb: str, arguments: dict[str, Any]) -> Any:
        driver = self._open_driver(execution_id)
        if driver is not None:
            return await _on_loop_of(driver, lambda: _carry_out(driver, verb, arguments))
        fleet, state = self._hub.log.fleet, await self._hub.describe(execution_id, latest=True)
        holder = state.process if state is not None and state.state in _OPEN else None
        if fleet is None or holder is None or holder == fleet.process_id:
            raise ExecutionNotFoundError(f"execution {execution_id!r:.80} has no open run", execution_id=execution_id)
        payload = {"execution_id": execution_id, "verb": verb, "arguments": arguments}
        return await fleet.request(holder, "steer", payload, timeout=self._hub.settings.redis.request_timeout)

    async def _on_request(self, payload: Any) -> Any:
        driver = self._open_driver(payload["execution_id"])
        if driver is None:
            raise ExecutionNotFoundError(execution_id=payload["execution_id"])
        return await _on_loop_of(driver, lambda: _carry_out(driver, payload["verb"], payload["arguments"]))

    # --- state ----------------------------------------------------------------------------------------------

    async def state(
        self, execution_id: str, *, graph: AnyGraph | str | None = None, checkpoint_id: str | None = None
    ) -> StateSnapshot:
        """Return the state of an execution's thread, from the checkpointer.

        Args:
            execution_id: The execution.
            graph: The graph; when not given, that of the execution's last run, if this process knows it.
            checkpoint_id: The checkpoint; the newest one when not given.

        Raises:
            GraphNotFoundError: If ``graph`` is needed, or is not registered.
            TransitionError: If the graph has no checkpointer.
        """
        thread = await self._thread(execution_id, graph)
        return await thread.graph.aget_state(thread.config_at(checkpoint_id), subgraphs=True)

    async def history(
        self, execution_id: str, *, graph: AnyGraph | str | None = None, limit: int | None = None
    ) -> AsyncIterator[StateSnapshot]:
        """Return the states of an execution's thread, newest first. Takes and raises the same as `state`."""
        thread = await self._thread(execution_id, graph)
        async for snapshot in thread.graph.aget_state_history(thread.config_at(None), limit=limit):
            yield snapshot

    async def edit(
        self,
        execution_id: str,
        values: Any,
        *,
        as_node: str | None = None,
        graph: AnyGraph | str | None = None,
        checkpoint_id: str | None = None,
    ) -> str:
        """Update the state of an execution that is paused, or has no open run; return the id of the new checkpoint.

        Args:
            execution_id: The execution.
            values: The update, as a node returns it.
            as_node: Node that seems to have made the update.
            graph: The graph; when not given, that of the execution's last run, if this process knows it.
            checkpoint_id: The checkpoint that is changed; the newest one when not given.

        Raises:
            TransitionError: If its run is at work, waits for answers, or is paused in another process. If the graph has
                no checkpointer.
            BadRequestError: If the graph does not take the update, or the thread has no such checkpoint.
            GraphNotFoundError: If ``graph`` is needed, or is not registered.
        """
        thread = await self._thread(execution_id, graph)
        driver, state = self._open_driver(execution_id), await self._hub.describe(execution_id, latest=True)
        is_open = state is not None and state.state in _OPEN
        if not driver.steps.paused if driver is not None else is_open:
            raise TransitionError(
                "the run is at work, or waits for answers: pause it first, or call inject", execution_id=execution_id
            )
        check_fields(thread.graph, values)
        if as_node is not None:
            check_node(thread.graph, as_node)
        if checkpoint_id is not None:  # LangGraph would begin with an empty state
            await check_checkpoint(thread, checkpoint_id)
        config = await update_state(thread.graph, thread.config_at(checkpoint_id), Injection(values, as_node))
        return str(config.get("configurable", {}).get("checkpoint_id"))

    async def _thread(self, execution_id: str, graph: AnyGraph | str | None) -> GraphThread:
        if graph is None:
            _, found, thread_id, _ = await self.execution_graphs.find(execution_id)
        else:
            _, found, _ = self._graphs.find(graph)
            thread_id = await self.execution_graphs.thread_of(execution_id)
        if checkpointer_of(found) is None:
            raise TransitionError(
                "the graph has no checkpointer, so it keeps no state: pass one to compile(), such as InMemorySaver()",
                execution_id=execution_id,
            )
        return GraphThread(found, thread_id)


async def check_checkpoint(thread: GraphThread, checkpoint_id: str) -> None:
    """Check that a thread has a checkpoint.

    Raises:
        BadRequestError: If it has none of this id.
        TransitionError: If the graph has no checkpointer.
    """
    if checkpointer_of(thread.graph) is None:
        raise TransitionError("the graph has no checkpointer, so its threads have no checkpoints")
    found = await thread.graph.aget_state(thread.config_at(checkpoint_id)) if checkpoint_id else None
    if found is None or found.created_at is None:
        raise BadRequestError(f"the thread has no checkpoint {checkpoint_id!r:.80}: take an id of history()")


def _carry_out(driver: RunDriver, verb: str, arguments: dict[str, Any]) -> Any:
    match verb:
        case "pause":
            return driver.steps.pause(**arguments)
        case "resume":
            return driver.steps.resume()
        case _:
            values = arguments["values"]
            if arguments["only_input"]:
                values = GraphSchemas(driver.graph).check_input(values)
                check_messages(values)
            return driver.steps.inject(values, arguments["as_node"])


def check_messages(values: Any) -> None:
    """Check that messages are those of a person: one of the model would call tools, and another removes messages.

    Raises:
        BadRequestError: If one is not.
    """
    fields = cast("Mapping[str, Any]", values).items() if isinstance(values, Mapping) else [("", values)]
    for name, value in fields:
        for each in cast("list[Any]", value) if isinstance(value, list) else ():
            if isinstance(each, BaseMessage) and each.type != "human":
                raise BadRequestError(f"input.{name}: a message may have the role user only, not {each.type:.80}")


async def _on_loop_of(driver: RunDriver, call: Callable[[], Any]) -> Any:
    """Return ``call()``, called on the event loop of a run."""
    loop = driver.loop
    if loop is asyncio.get_running_loop():
        return call()

    async def call_there() -> Any:
        return call()

    waiting: Awaitable[Any] = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call_there(), loop))
    return await waiting
