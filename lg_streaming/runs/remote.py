"""Starts of graphs for callers on the network, whose arguments are data and are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.types import Command, Send

from lg_streaming.errors import BadRequestError, ExecutionLimitError
from lg_streaming.runs.commands import GraphThread, check_checkpoint, check_messages
from lg_streaming.runs.request import IfRunning, OnDisconnect
from lg_streaming.runs.schemas import GraphSchemas
from lg_streaming.runs.steering import check_fields, check_node
from lg_streaming.runs.threads import RemoteThreads

if TYPE_CHECKING:
    from lg_streaming.capture import RunnableConfig
    from lg_streaming.runs.execution_graphs import ExecutionGraph
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry
    from lg_streaming.runs.run import GraphRun
    from lg_streaming.runs.runner import GraphRunner

__all__ = ["RemoteCommand", "RemoteConfig", "RemoteFork", "RemoteRunner", "RemoteStart"]

_RETRY_AFTER: Final = 1.0
"""Seconds after which a full queue may have room."""
_OWN_METADATA: Final = ("langgraph_", "lg_streaming", "__")
"""Beginnings of metadata keys that LangGraph and this library set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """The parts of a config that a caller may set."""

    configurable: Mapping[str, Any]
    recursion_limit: int | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCommand:
    """A command to a graph that is at rest, in place of an input; see LangGraph's ``Command``."""

    resume: object = None
    """Answer to the interrupt of the thread, or answers by interrupt; None for none."""
    update: object = None
    """Update of the state, as a node returns it; None for none."""
    goto: object = None
    """Node to go to, or several: names, or ``{node, input}``; None for none."""
    only_input: bool = False
    """True if the update has to fit the graph's input schema, with messages of the user only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStart:
    """Arguments of a start, as a caller sent them; see `GraphRunner.start`."""

    graph: str
    input: object
    execution_id: str | None = None
    thread_id: str | None = None
    config: RemoteConfig | None = None
    context: object = None
    metadata: Mapping[str, Any] | None = None
    if_running: IfRunning = "reject"
    on_disconnect: OnDisconnect = "continue"
    deadline: float | None = None
    idempotency_key: str | None = None
    checkpoint_id: str | None = None
    """Checkpoint of the thread at which the run begins; then ``input`` may be None, to go on from there."""
    goes_on: bool = False
    """True if the run goes on from the thread's newest state when ``input`` is None."""
    command: RemoteCommand | None = None
    """Command in place of ``input``."""
    call_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """See `GraphRunner.start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFork:
    """Arguments of a fork, as a caller sent them; see `GraphRunner.fork`."""

    execution_id: str
    """The original."""
    checkpoint_id: str
    values: object = None
    as_node: str | None = None
    new_execution_id: str | None = None
    config: RemoteConfig | None = None
    only_input: bool = False
    """True if the values have to fit the graph's input schema, with messages of the user only."""


class RemoteRunner:
    """Starter of registered graphs for callers on the network. It does not decide who may.

    Args:
        runner: The runner.
        graphs: The graphs that may be started.
        max_recursion_limit: The highest ``recursion_limit`` that a caller may set; None for no limit.
    """

    def __init__(self, runner: GraphRunner, graphs: GraphRegistry, max_recursion_limit: int | None) -> None:
        self.runner = runner
        self.graphs = graphs
        self._max_recursion_limit = max_recursion_limit
        self._schemas: dict[str, GraphSchemas] = {}
        self.threads: RemoteThreads = RemoteThreads(runner.hub, graphs)
        """The threads of the graphs."""

    def schemas(self, name: str) -> GraphSchemas:
        """Return the schemas of a graph, which are made at their first use.

        Raises:
            GraphNotFoundError: If no graph has this name.
        """
        graph, known = self.graphs[name], self._schemas.get(name)
        if known is None or known.graph is not graph:
            known = self._schemas[name] = GraphSchemas(graph)
        return known

    async def start(self, request: RemoteStart, owner: str | None) -> GraphRun:
        """Check the arguments, and start a run of ``owner``.

        Raises:
            BadRequestError: If an argument does not fit the graph, or may not be set over the network.
            StreamingError: If `GraphRunner.start` raises it.
        """
        schemas = self.schemas(request.graph)
        goes_on = request.input is None and (request.goes_on or request.checkpoint_id is not None)
        if request.command is not None:
            value = _command(request.command, schemas)
        else:
            value = None if goes_on else schemas.check_input(request.input)
        context = schemas.check_context(request.context) if request.context is not None else None
        config = self._config(request.config, schemas) if request.config is not None else None
        if request.checkpoint_id is not None:
            config = await self._at_checkpoint(request, config)
        try:
            return await self.runner.start(
                request.graph,
                value,
                execution_id=request.execution_id,
                thread_id=request.thread_id,
                owner=owner,
                config=config,
                context=context,
                metadata=request.metadata,
                if_running=request.if_running,
                on_disconnect=request.on_disconnect,
                deadline=request.deadline,
                idempotency_key=request.idempotency_key,
                call_options=request.call_options,
            )
        except ExecutionLimitError as error:
            error.retry_after = error.retry_after or _RETRY_AFTER
            raise

    async def fork(self, request: RemoteFork, source: ExecutionGraph, owner: str | None) -> GraphRun:
        """Check the arguments, and start a run of ``owner`` that goes on from a checkpoint.

        Args:
            request: The arguments.
            source: The registered graph of the original execution.
            owner: The caller.

        Raises:
            BadRequestError: If an argument does not fit the graph, or may not be set over the network.
            StreamingError: If `GraphRunner.fork` raises it.
        """
        schemas = self.schemas(source.name)
        values = request.values
        if request.only_input and values is not None:
            values = schemas.check_input(values)
            check_messages(values)
        return await self.runner.fork(
            request.execution_id,
            request.checkpoint_id,
            values=values,
            as_node=request.as_node,
            graph=source.name,
            new_execution_id=request.new_execution_id,
            owner=owner,
            config=None if request.config is None else self._config(request.config, schemas),
        )

    async def edit(
        self,
        graph: str,
        thread_id: str,
        values: object,
        *,
        as_node: str | None = None,
        checkpoint_id: str | None = None,
        only_input: bool = False,
    ) -> str:
        """Update the state of a thread of no open run; return the id of the new checkpoint.

        Args:
            graph: Name of the graph.
            thread_id: The thread.
            values: The update, as a node returns it.
            as_node: Node that seems to have made it.
            checkpoint_id: The checkpoint that is changed; the newest one when not given.
            only_input: Whether the values have to fit the graph's input schema, with messages of the user only.

        Raises:
            StreamingError: If `GraphRunner.edit` raises it, or the values do not fit.
        """
        if only_input:
            values = self.schemas(graph).check_input(values)
            check_messages(values)
        return await self.runner.edit(
            thread_id, values, as_node=as_node, graph=self.graphs[graph], checkpoint_id=checkpoint_id
        )

    async def _at_checkpoint(self, request: RemoteStart, config: RunnableConfig | None) -> RunnableConfig:
        thread_id, checkpoint_id = request.thread_id or request.execution_id, request.checkpoint_id
        if thread_id is None or checkpoint_id is None:
            raise BadRequestError("a checkpoint is one of a thread: name the thread")
        thread = GraphThread(self.graphs[request.graph], thread_id)
        await check_checkpoint(thread, checkpoint_id)
        given: RunnableConfig = config or {}
        values = {**given.get("configurable", {}), **thread.configurable_at(checkpoint_id)}
        return {**given, "configurable": values}

    def _config(self, config: RemoteConfig, schemas: GraphSchemas) -> RunnableConfig:
        for name in config.metadata:
            if name.startswith(_OWN_METADATA):
                raise BadRequestError(f"config.metadata.{name:.80}: this key is reserved")
        limit, most = config.recursion_limit, self._max_recursion_limit
        if limit is not None and most is not None and limit > most:
            raise BadRequestError(f"config.recursion_limit: at most {most}, not {limit}")
        checked: RunnableConfig = {
            "configurable": schemas.check_configurable(config.configurable),
            "tags": list(config.tags),
            "metadata": dict(config.metadata),
        }
        if limit is not None:
            checked["recursion_limit"] = limit
        return checked


def _command(command: RemoteCommand, schemas: GraphSchemas) -> Command[Any]:
    """Return a command. Raises `BadRequestError` if the graph does not take it."""
    graph, update = schemas.graph, command.update
    if update is not None:
        check_fields(graph, update)
        if command.only_input:
            update = schemas.check_input(update)
            check_messages(update)
    goto = [_destination(each, graph) for each in _as_list(command.goto)]
    return Command(resume=command.resume, update=update, goto=goto)


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return list(cast("Sequence[Any]", value)) if is_list else [value]


def _destination(value: object, graph: AnyGraph) -> str | Send:
    if isinstance(value, str):
        check_node(graph, value)
        return value
    fields: Mapping[str, Any] = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
    if not isinstance(fields.get("node"), str):
        raise BadRequestError("command.goto: a destination is the name of a node, or {node, input}")
    check_node(graph, fields["node"])
    return Send(fields["node"], fields.get("input"))
