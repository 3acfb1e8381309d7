"""Follow LangChain's runs: register them, capture the nodes of a graph's plan, and publish tool calls."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, cast

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langgraph.pregel import Pregel

from lg_streaming.capture.canceller import CallCanceller
from lg_streaming.capture.graph_call import GraphCall
from lg_streaming.capture.node import agent_name, open_node
from lg_streaming.capture.outcome import classify_ending, get_interrupts
from lg_streaming.capture.place import frame_of_run, place_of_run
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.capture.tool_call import ToolCall
from lg_streaming.context import NO_FRAME, current_frame, frame_var, reset_in_context
from lg_streaming.errors import describe_error
from lg_streaming.eventloop import running_task
from lg_streaming.events import node_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from uuid import UUID

    from lg_streaming.capture.node_frame import NodeFrame
    from lg_streaming.capture.run import Run
    from lg_streaming.events import Scope

__all__ = ["RunFollower", "RunStart", "end_with_task", "note_task", "scope_of_run"]


class RunStart(NamedTuple):
    """Start of a run, as a handler gets it."""

    run: Run
    run_id: UUID
    name: str
    metadata: Mapping[str, Any]
    inputs: object

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node in which it starts."""
        return self.metadata.get("langgraph_checkpoint_ns")

    @property
    def thread_id(self) -> object:
        """LangGraph's thread."""
        return self.metadata.get("thread_id")

    @property
    def node_name(self) -> str:
        """Name of the graph's node in which it runs, else its own name."""
        return str(self.metadata.get("langgraph_node") or self.name)


class RunFollower(BaseCallbackHandler):
    """Handler that registers starts and ends of runs.

    Several handlers may get the same run. The first that gets its start or its end acts on it.
    """

    run_inline = True
    raise_error = False
    finds_roots: ClassVar[bool] = False
    """True if the handler looks for the root run of the call that it was attached to."""

    # --- chains, graphs and nodes ----------------------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register the run, and capture it if it is a node of a plan."""
        metadata = metadata or {}
        name = str(kwargs.get("name") or "graph")
        run, new = RUNS.start(self, run_id, parent_run_id, metadata, root=self.finds_roots)
        start = RunStart(run, run_id, name, metadata, inputs)
        if self.finds_roots:
            self.take_root(start)
        if new and run.is_node:
            run.task = running_task()
            self._capture(start)
            if run.frame is None and run.call is not None and run.call.explicit and current_frame() is not None:
                run.context_token = frame_var.set(NO_FRAME)

    def take_root(self, start: RunStart) -> None:
        """Check whether a run is the root of the call that this handler was attached to."""

    def _capture(self, start: RunStart) -> None:
        run, parent = start.run, start.run.parent
        if run.plan is None or parent is None or parent.children_wrapped or start.node_name in parent.decorated_nodes:
            return
        place = place_of_run(parent)
        options = run.plan.for_node(start.node_name, node_path(run.namespace or start.node_name))
        if place is not None and options is not None and options.enabled:
            open_node(run, place, options, name=start.node_name, metadata=start.metadata, state=start.inputs)

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End the node or the graph call of the run."""
        run = RUNS.end(run_id)
        if run is None:
            return
        _restore_context(run)
        if run.node is not None:
            run.node.succeed(outputs)
        _end_call(run, GraphCall.complete)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End the node or the graph call of the run; record a wait for a human."""
        run = RUNS.end(run_id)
        if run is None:
            return
        _restore_context(run)
        if run.call is not None and classify_ending(error) == "interrupted":
            run.call.pause(get_interrupts(error, run.namespace))
        if run.node is not None:
            run.node.fail(error)
        _end_call(run, lambda call: call.fail(error))
        canceller = run.root_call.canceller if run.root_call is not None else None
        if canceller is not None and (replaced := canceller.replace(error)) is not None:
            raise replaced from error

    # --- models and retrievers, for what they call -----------------------------------------------------------

    def on_chat_model_start(self, serialized: Any, messages: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Register the run."""
        self._register(**kwargs)

    def on_llm_start(self, serialized: Any, prompts: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a model that a cancelled run starts."""
        RUNS.check(kwargs.get("parent_run_id"))

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a model of a cancelled run."""
        RUNS.find(run_id)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a model of a cancelled run."""
        RUNS.find(run_id)

    def on_retriever_start(self, serialized: object, query: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Register the run."""
        self._register(**kwargs)

    def _register(
        self, run_id: UUID, parent_run_id: UUID | None = None, metadata: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        RUNS.start(self, run_id, parent_run_id, metadata)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Unregister the run."""
        RUNS.end(run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Unregister the run."""
        RUNS.end(run_id)

    # --- tools -----------------------------------------------------------------------------------------------

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish that a tool begins; updates inside it carry the call's id."""
        run, new = RUNS.start(self, run_id, parent_run_id, metadata)
        frame, call_id = run.frame, kwargs.get("tool_call_id")
        if not isinstance(call_id, str):
            call_id = None
        if new and call_id is not None:
            run.tool_call_id = call_id
        if not new or frame is None:
            return
        data = {"tool": kwargs.get("name") or (serialized or {}).get("name") or "tool", "tool_call_id": call_id}
        info = {key: value for key, value in data.items() if value is not None}
        run.tool = tool = ToolCall(
            frame, scope_of_run(frame, metadata or {}), info, call_id, unregister=RUNS.unregister
        )
        tool.publish("tool_start", input=inputs if inputs is not None else input_str)
        if tool.run is not None:
            run.frame = tool.run
            frame_var.set(tool.run.mark)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish that a tool is done. A tool that returned an error message has failed."""
        if (tool := _tool_of(RUNS.end(run_id))) is not None:
            content = getattr(output, "content", output)
            if getattr(output, "status", None) == "error":
                tool.end("tool_error", error=describe_error(str(content)))
            else:
                tool.end("tool_complete", output=content)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish how a tool ended that raised: a pause for a human is no failure."""
        if (tool := _tool_of(RUNS.end(run_id))) is not None:
            tool.fail(error)

    # --- custom events ---------------------------------------------------------------------------------------

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish an event of LangChain's ``dispatch_custom_event``."""
        run = RUNS.get(run_id)
        frame = frame_of_run(run)
        if run is None or frame is None:
            return
        listener = frame.listener
        if listener is self or (listener is None and run.is_published_by(self)):
            frame.record("custom", {"name": name, "data": data}, frame.scope)


def _end_call(run: Run, end: Callable[[GraphCall], None]) -> None:
    """End the graph call whose root a run is. Unregister the runs inside it whose end was not reported."""
    try:
        if run.root_call is not None:
            end(run.root_call)
    finally:
        if run.root_call is not None or run.is_outermost:
            RUNS.unregister(run.ids)


_STARTS: Final = AsyncCallbackManager.on_chain_start.__code__
_GRAPH_STREAM: Final = cast("Any", Pregel).astream.__code__
_GRAPH_CALL: Final = cast("Any", Pregel).ainvoke.__code__
_EVENT_TASK: Final = "consume_astream"
"""Coroutine in which LangChain runs what `astream_events` reads. It hides a cancel: its reader would see an end."""
_MAX_FRAMES: Final = 16


def end_with_task(run: Run, run_id: UUID) -> None:
    """End a run with its task, if the task is cancelled during the callbacks of its start.

    LangChain does not report the end of the run then.
    """
    task = running_task()
    starter = _starter() if task is not None else None
    if task is None or starter is None:
        return
    starter = starter.f_code
    # LangChain begins the runs of a batch in tasks that do nothing else. And each chunk of a chain's stream may be read
    # in another task; that of a graph is at work before it gives one. Such a run goes on when its task ends well.
    begins_only = getattr(task.get_coro(), "__name__", None) == _STARTS.co_name
    is_chain_stream = starter is not _GRAPH_STREAM and starter.co_flags & inspect.CO_ASYNC_GENERATOR
    goes_on = begins_only or is_chain_stream

    def end_run(task: asyncio.Task[Any]) -> None:
        is_well = goes_on and not task.cancelled() and task.exception() is None
        if not is_well and RUNS.end(run_id) is run:
            _end_call(run, lambda call: call.fail(asyncio.CancelledError()))

    def unwatch() -> None:
        task.remove_done_callback(end_run)

    run.stop_watching()
    task.add_done_callback(end_run)
    run.unwatch = unwatch


def note_task(call: GraphCall) -> None:
    """Give the canceller of a call that starts the task that runs it, if the call is async."""
    task = running_task()
    starter = _starter() if task is not None else None
    if task is None or starter is None:
        call.canceller = CallCanceller(call, None)
        return
    callers = [each.f_code for each in _frames(starter, _MAX_FRAMES)]
    waits = callers[0] is not _STARTS and not callers[0].co_flags & inspect.CO_ASYNC_GENERATOR
    waits = waits or (callers[0] is _GRAPH_STREAM and _GRAPH_CALL in callers[1:2])
    hides_cancels = any(code.co_name == _EVENT_TASK for code in callers)
    call.canceller = CallCanceller(call, task, waits=waits or hides_cancels, hides_cancels=hides_cancels)


def _starter() -> FrameType | None:
    """Return the frame that awaits LangChain's callbacks of a start; None in sync code, which nothing cancels."""
    for frame in _frames(inspect.currentframe(), _MAX_FRAMES):
        if frame.f_code is _STARTS:
            return frame.f_back or frame
    return None


def _frames(frame: FrameType | None, most: int) -> Iterator[FrameType]:
    while frame is not None and most:
        yield frame
        frame, most = frame.f_back, most - 1


def _restore_context(run: Run) -> None:
    if run.context_token is not None:
        reset_in_context(frame_var, run.context_token)


def _tool_of(run: Run | None) -> ToolCall | None:
    return run.tool if run is not None else None


def scope_of_run(frame: NodeFrame, metadata: Mapping[str, Any]) -> Scope:
    """Return the scope of a run with this metadata: a graph inside the node may be another agent, with other nodes."""
    scope, changes = frame.scope, dict[str, Any]()
    agent = agent_name(metadata)
    if agent is not None and agent != scope.agent_type:
        changes["agent_type"] = agent
    outer, inner = frame.graph_namespace, metadata.get("langgraph_checkpoint_ns")
    if outer is not None and isinstance(inner, str) and inner.startswith(f"{outer}|"):
        changes["namespace"] = f"{scope.namespace}{inner[len(outer) :]}"
    return scope.derive(**changes) if changes else scope
