"""Steer a run between the steps of its graph: pause it, resume it, inject updates of its state."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langgraph.channels import BinaryOperatorAggregate
from langgraph.constants import START
from langgraph.runtime import RunControl
from langgraph.types import Command

from lg_streaming.errors import BadRequestError, TransitionError, describe_error
from lg_streaming.publisher import RunOutcome
from lg_streaming.runs.registry import checkpointer_of

if TYPE_CHECKING:
    from lg_streaming.capture import RunnableConfig
    from lg_streaming.errors import StreamingError
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.registry import AnyGraph
    from lg_streaming.runs.run import GraphRun

__all__ = ["Injection", "StepControl", "update_state"]


class Injection(NamedTuple):
    """Update of a graph's state, for the next step."""

    values: Any
    as_node: str | None
    """Node that seems to have made the update; None for the last one that did."""


class StepControl:
    """Control of one run between the steps of its graph. All methods run on the run's event loop.

    LangGraph stops a graph between two steps, after the nodes that are at work, and keeps its state in the checkpointer
    (`langgraph.runtime.RunControl`). A functional ``@entrypoint`` is one step.

    Args:
        hub: The hub.
        graph: The graph.
        run: The run.
    """

    def __init__(self, hub: StreamHub, graph: AnyGraph, run: GraphRun) -> None:
        self._hub = hub
        self._graph = graph
        self._run = run
        self._control = RunControl()
        self._injections: deque[Injection] = deque()
        self._go_on = asyncio.Event()
        self._go_on.set()
        self._reason: str | None = None
        self.paused: bool = False
        """True while the run waits for `resume`."""
        self.drained: bool = False
        """True after `drain`."""

    # --- requests -------------------------------------------------------------------------------------------

    def pause(self, reason: str | None = None) -> None:
        """Stop the graph after the nodes that are at work. Harmless when repeated.

        Raises:
            TransitionError: If the graph has no checkpointer.
        """
        self._check_checkpointer("paused")
        if self._go_on.is_set():
            self._reason = reason
            self._go_on.clear()
            self._control.request_drain("pause")

    def resume(self) -> bool:
        """Go on; return whether the run was paused, or about to be."""
        was_paused = not self._go_on.is_set()
        self._go_on.set()
        return was_paused

    def inject(self, values: Any, as_node: str | None = None) -> None:
        """Update the graph's state before its next step.

        An update that the graph refuses then is published as an ``error``; the run goes on.

        Raises:
            TransitionError: If the graph has no checkpointer. If it waits for answers, and ``as_node`` is passed.
            BadRequestError: If no node is called ``as_node``, or the state has no such field.
        """
        self._check_checkpointer("given another input")
        check_fields(self._graph, values)
        if as_node is not None:
            check_node(self._graph, as_node)
            if self._run.status == "interrupted" and not self.paused:
                raise TransitionError(
                    "the run waits for answers: answer its prompts first, or inject without as_node",
                    execution_id=self._run.execution_id,
                )
        self._injections.append(Injection(values, as_node))
        self._control.request_drain("inject")

    def drain(self, reason: str) -> None:
        """Stop the graph for good after the nodes that are at work: its call then raises GraphDrained."""
        self.drained = True
        self._control.request_drain(reason)

    def _check_checkpointer(self, verb: str) -> None:
        if checkpointer_of(self._graph) is None:
            raise TransitionError(
                f"graph {self._run.graph!r} has no checkpointer, so its runs cannot be {verb}: "
                "pass one to compile(), such as InMemorySaver()",
                execution_id=self._run.execution_id,
            )

    # --- for the driver -------------------------------------------------------------------------------------

    def begin_call(self) -> RunControl:
        """Return the control of the next call of the graph."""
        self._control = RunControl()
        if self._injections or self.drained or not self._go_on.is_set():
            self._control.request_drain("inject")
        return self._control

    async def settle(self, config: RunnableConfig, step: Any = None) -> Any:
        """Wait while the run is paused, apply the injections, and return the graph's next input.

        Args:
            config: Config of the run, for the newest checkpoint.
            step: Command with the answers of prompts; None for a graph that was stopped between steps.
        """
        if not self._go_on.is_set():
            await self._wait()
        while self._injections:
            injection = self._injections.popleft()
            try:
                if step is not None:  # the answers of prompts
                    step = _with_update(self._graph, step, injection.values)
                else:
                    await update_state(self._graph, config, injection)
            except BadRequestError as error:
                self._publish_refused(error)
            else:
                data = {"values": injection.values, **({"as_node": injection.as_node} if injection.as_node else {})}
                self._hub.publish(self._run.execution_id, "input_injected", data, missing="drop")
        return step

    def close(self) -> None:
        """Publish an ``error`` for each update that came too late: the graph has ended."""
        while self._injections:
            self._injections.popleft()
            self._publish_refused(TransitionError("the graph ended before it used the injected input"))

    def _publish_refused(self, error: StreamingError) -> None:
        self._hub.publish(self._run.execution_id, "error", describe_error(error), missing="drop")

    async def _wait(self) -> None:
        run, hub = self._run, self._hub
        data = {"reason": self._reason} if self._reason else {}
        hub.publish(run.execution_id, "status", {"status": "paused", **data}, missing="drop")
        self.paused, run.status = True, "interrupted"
        try:
            hub.runs.leave_run(
                run.execution_id, run.run_id, RunOutcome("workflow_interrupted", {"paused": True, **data})
            )
            await self._go_on.wait()
        finally:
            self.paused = False
        if hub.runs.current_run_id(run.execution_id) != run.run_id:  # it has ended, or is refused
            raise asyncio.CancelledError
        hub.runs.join_run(run.execution_id)


def check_fields(graph: AnyGraph, values: Any) -> None:
    """Check that an update names only fields of the graph's state.

    Raises:
        BadRequestError: If it names another one, or is no mapping where the state has fields.
    """
    fields = graph.stream_channels_list
    if "__root__" in fields or "__end__" in fields:
        return  # a state without fields, or a functional graph
    if not isinstance(values, Mapping):
        raise BadRequestError(f"an update of the state maps fields to values, and is no {type(values).__name__}")
    unknown = [str(each) for each in cast("Mapping[Any, Any]", values) if each not in fields]
    if unknown:
        raise BadRequestError(f"the state has no field {unknown[0]!r:.80}: it has {', '.join(fields)}")


def check_node(graph: AnyGraph, name: str) -> None:
    """Check that a graph has a node.

    Raises:
        BadRequestError: If it has none of this name.
    """
    if name not in graph.nodes:
        known = ", ".join(each for each in graph.nodes if not each.startswith("__"))
        raise BadRequestError(f"the graph has no node {name!r:.80}: as_node is one of {known}")


async def update_state(graph: AnyGraph, config: RunnableConfig, injection: Injection) -> RunnableConfig:
    """Update the state of a thread; return the config of the new checkpoint.

    Raises:
        BadRequestError: If the graph does not take the values, or ``as_node`` is needed.
    """
    try:
        values, as_node = injection
        if (taken := await _take_input(graph, config)) is not None:
            config, as_node = taken, as_node or START  # so that the nodes behind START are next
        return await graph.aupdate_state(config, values, as_node)
    except Exception as error:
        # also of a reducer, or of the checkpointer: then the graph's next call fails too
        raise BadRequestError(f"the state does not take the update: {error}") from error


async def _take_input(graph: AnyGraph, config: RunnableConfig) -> RunnableConfig | None:
    """Apply the input that waits for the first step: LangGraph would drop it for an update of the state.

    Returns the config of the new checkpoint; None if no input waits.
    """
    saver = checkpointer_of(graph)
    state = await graph.aget_state(config)
    if state.next != (START,) or saver is None:
        return None
    saved = await saver.aget_tuple(state.config)
    if saved is None or START not in saved.checkpoint["channel_values"]:
        return None
    return await graph.aupdate_state(config, saved.checkpoint["channel_values"][START], START)


def _with_update(graph: AnyGraph, step: Any, values: Any) -> Any:
    """Return the answers of prompts together with an update of the state, after earlier ones.

    Raises:
        BadRequestError: If the graph's state has no fields, so that it takes no update together with answers.
    """
    if not isinstance(values, Mapping):
        raise BadRequestError("a graph whose state has no fields takes no update while it waits for answers")
    update: list[tuple[str, Any]] = list(step.update or ())
    for name, value in cast("Mapping[str, Any]", values).items():
        if not isinstance(graph.channels.get(name), BinaryOperatorAggregate):  # it takes one value in a step
            update = [each for each in update if each[0] != name]
        update.append((name, value))
    return Command(resume=step.resume, update=update)
