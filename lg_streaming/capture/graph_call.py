"""Call of a graph: join it to the run of an execution, and end that run with its outcome."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lg_streaming.capture.called_graphs import CALLED_GRAPHS, CalledGraph
from lg_streaming.capture.outcome import classify_ending, describe_failure
from lg_streaming.context import ExecutionContext
from lg_streaming.errors import StreamingError
from lg_streaming.publisher import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from langgraph.pregel import Pregel

    from lg_streaming.capture.node_observer import NodeObserver
    from lg_streaming.capture.plan import GraphPlan
    from lg_streaming.context import Block, CancelRequest
    from lg_streaming.events import Priority
    from lg_streaming.publisher import Publisher

__all__ = ["CallCanceller", "CallOptions", "GraphCall"]

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Arguments of ``streaming.config(...)``."""

    execution_id: str | None = None
    """Execution of every call; None to take it from each call's config."""
    owner: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    priority: Priority | None = None
    plan: GraphPlan | None = None
    """Plan for nodes that are not decorated."""
    observer: NodeObserver | None = None
    """Observer of the nodes of the calls."""


_DEFAULTS = CallOptions()


class CallCanceller(Protocol):
    """Canceller of a graph call."""

    @property
    def request(self) -> CancelRequest | None:
        """Request to cancel the call, or the block around it."""
        ...

    def join(self, context: ExecutionContext) -> None:
        """Cancel the call with the run of ``context``, until `end`."""
        ...

    def end(self) -> None:
        """Note that the call has ended: it is cancelled no more."""
        ...

    def left_running(self) -> Sequence[str]:
        """Return the ids of the nodes that the end of the call leaves at work in threads."""
        ...

    def replace(self, error: BaseException) -> BaseException | None:
        """Return the error that the caller of the cancelled call gets in place of ``error``; None for that error."""
        ...


class GraphCall:
    """Call of a graph, from its start to its end.

    Args:
        publisher: Publisher of its updates; None if only a block has one.
        name: The graph's name.
        run_id: The id of its LangChain run, which names the execution if nothing else does.
        options: Arguments of ``streaming.config(...)``; None for a call seen by the activated module or a block.
        thread_id: LangGraph's thread.
        parent: Place of the call, if it was made inside another execution.
        block: The execution block in which the call was made.
        namespace: LangGraph's checkpoint namespace of the node in which the call was made.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        name: str,
        run_id: UUID,
        *,
        options: CallOptions | None = None,
        thread_id: object = None,
        parent: Mapping[str, Any] | None = None,
        block: Block | None = None,
        namespace: str | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.explicit: bool = options is not None
        """True if the call's config made it part of an execution."""
        self.captured_nodes = 0
        """Number of captured nodes."""
        self.block = block
        self.observer: NodeObserver | None = options.observer if options is not None else None
        """Observer of its nodes."""
        self.configured_execution: str | None = None
        """Execution that the config of the first graph in it names."""
        self.run_ids: set[UUID] = set()
        """Runs that are part of it, without those of captured nodes."""
        self.interrupted = False
        self.interrupts: list[dict[str, Any]] = []
        self.breakpoint: str | None = None
        """Checkpoint at which the graph stopped before or after a node."""
        self._publisher = publisher
        self._run_id = run_id
        self._options = options or _DEFAULTS
        self._thread_id = thread_id
        self._parent = parent
        self._started = time.perf_counter()
        self._lock = threading.Lock()  # parallel sync nodes enter on several threads
        self._context: ExecutionContext | None = None
        self._graph: CalledGraph | None = None
        self._was_asked = self._begun = False
        self.canceller: CallCanceller | None = None
        """Canceller of the call, from its start on."""

    @property
    def context(self) -> ExecutionContext | None:
        """Execution and run, once the call has joined one."""
        return self._context

    @property
    def cancel_request(self) -> CancelRequest | None:
        """Request to cancel the call, or the block around it."""
        return self.canceller.request if self.canceller is not None else None

    def begin(self, thread_id: object = None) -> None:
        """Join the run of a known execution, or resume a run that waits. A repeated call does nothing.

        Args:
            thread_id: LangGraph's thread, if it was uncertain before.
        """
        if self._begun:
            return
        self._begun = True
        self._thread_id = self._thread_id if thread_id is None else thread_id
        try:
            if self._options.execution_id is not None:
                self.join_run(self._options.execution_id)
            elif self._thread_id is not None and self._publisher is not None:
                self._resume(self._publisher, str(self._thread_id))
            elif self.block is not None:
                context = self.block.context
                context.publisher.runs.next_attempt(context.execution_id, self.pause_key)
        except StreamingError as error:
            logger.warning("%s runs without streaming: %s", self.name, error)

    def join_run(self, configured: str | None) -> ExecutionContext | None:
        """Return the call's execution and run. The first captured node joins the run.

        Args:
            configured: The execution that the node's config names, if the call's does not.

        Raises:
            StreamingError: If the run cannot be opened; only the first call raises.
        """
        joined: ExecutionContext | None = None
        with self._lock:
            if self._context is None and not self._was_asked and self._publisher is not None:
                self._was_asked = True  # only the first node gets the error
                options = self._options
                execution_id = (
                    options.execution_id or configured or self.configured_execution or self._default_execution_id
                )
                run_id = self._publisher.runs.join_run(
                    execution_id,
                    owner=options.owner,
                    name=self.name,
                    metadata=options.metadata,
                    priority=options.priority,
                    parent=self._parent,
                )
                joined = self._context = ExecutionContext(self._publisher, execution_id, run_id)
        if joined is not None:
            self._joined(joined)
        return self._context

    def _joined(self, context: ExecutionContext) -> None:
        if self._graph is not None:
            CALLED_GRAPHS.note(context, self._graph)
        if self.canceller is not None:
            self.canceller.join(context)

    @property
    def has_graph(self) -> bool:
        """True if its graph is known."""
        return self._graph is not None

    def note_graph(self, graph: Pregel[Any, Any, Any, Any], thread_id: object) -> None:
        """Record the graph that is called, and its thread, for readers of the execution."""
        self._graph = CalledGraph(weakref.ref(graph), None if thread_id is None else str(thread_id))
        if self._context is not None:
            CALLED_GRAPHS.note(self._context, self._graph)

    @property
    def _default_execution_id(self) -> str:
        return str(self._thread_id if self._thread_id is not None else self._run_id)

    def _resume(self, publisher: Publisher, execution_id: str) -> None:
        run_id = publisher.runs.resume_run(execution_id)
        if run_id is not None:
            self._was_asked = True
            self._context = ExecutionContext(publisher, execution_id, run_id)
            self._joined(self._context)

    # --- its outcome -----------------------------------------------------------------------------------------

    def pause(self, interrupts: list[dict[str, Any]]) -> None:
        """Record that a node of the graph waits for a human."""
        self.interrupted = True
        recorded = {each["id"] for each in self.interrupts}
        self.interrupts += [each for each in interrupts if each["id"] not in recorded]

    def complete(self) -> None:
        """End the call after the graph returned: it is done, or it waits for a human."""
        if self.interrupted:
            known = {"interrupts": self.interrupts, "breakpoint": self.breakpoint}
            self._leave_run("workflow_interrupted", {name: each for name, each in known.items() if each})
        else:
            self._leave_run("workflow_complete", {"duration_s": round(time.perf_counter() - self._started, 6)})

    def hand_over(self) -> None:
        """Leave the run to another call, whose config the same graph was given too."""
        context = self._context
        if self.canceller is not None:
            self.canceller.end()
        if context is not None:
            outcome = RunOutcome("workflow_complete", {})
            context.publisher.runs.leave_run(context.execution_id, context.run_id, outcome)

    def fail(self, error: BaseException) -> None:
        """End the call after the graph raised an error."""
        match "cancelled" if self.cancel_request is not None else classify_ending(error):
            case "complete":
                self.complete()
            case "interrupted":
                self.interrupted: bool = True
                self.complete()
            case "cancelled":
                nodes = self.canceller.left_running() if self.canceller is not None else ()
                self._leave_run("workflow_cancelled", {"still_running": nodes} if nodes else {})
            case "failed":
                debug = self._publisher is not None and self._publisher.debug
                self._leave_run("workflow_error", {"error": describe_failure(error, debug=debug)})

    def _leave_run(self, type: str, data: Mapping[str, Any]) -> None:
        if self.canceller is not None:
            self.canceller.end()
        context = self._context
        if context is not None:
            self._warn_if_nothing_captured(context, type)
            try:
                context.publisher.runs.leave_run(context.execution_id, context.run_id, RunOutcome(type, data))
            except StreamingError as error:  # the hub was closed, which ended the run
                context.publisher.note_refused(context.execution_id, type, error)
        elif type == "workflow_interrupted":
            self._pause_block()

    def _pause_block(self) -> None:
        """Pause the run of the block around the call, or warn that no execution shows the question."""
        if self.block is not None and self.block.in_force:
            context = self.block.context
            context.publisher.runs.pause(context.execution_id, context.run_id, self.pause_key, self.interrupts)
        elif self._publisher is not None:
            logger.warning(
                "graph %r waits for a human, and no execution shows the question: call it with "
                "streaming.config(execution_id=…), or decorate one of its nodes",
                self.name,
            )

    @property
    def pause_key(self) -> str:
        """Key of this graph's pause in its block's run; the next call of the graph there ends the pause."""
        return f"call\n{self._thread_id}\n{self.name}"

    def _warn_if_nothing_captured(self, context: ExecutionContext, type: str) -> None:
        publisher, run_id = context.publisher, context.run_id
        if (
            not self.captured_nodes
            and type == "workflow_complete"
            and publisher.runs.is_silent(context.execution_id, run_id)
        ):
            logger.warning(
                "execution %r ends without a captured node of graph %r: decorate its nodes or the graph, or give "
                "streaming.config(…, capture='all')",
                context.execution_id,
                self.name,
            )
