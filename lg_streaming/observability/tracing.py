"""OpenTelemetry spans of runs and nodes, made of the updates that say where they start and end.

A run's span reaches from its `workflow_start` to its final update, a node's from its `node_start` to its end. What
goes wrong here is logged and never reaches the run.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lg_streaming.errors import MissingExtraError
from lg_streaming.events import FINAL_TYPES
from lg_streaming.fork import bury, new_lock, restart_after_fork

try:
    from opentelemetry.context import attach, detach, get_current, get_value, set_value
    from opentelemetry.trace import (
        Status,
        StatusCode,
        format_span_id,
        format_trace_id,
        get_tracer,
        set_span_in_context,
    )
except ImportError as missing:
    raise MissingExtraError("tracing needs OpenTelemetry: pip install 'lg-streaming[tracing]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

    from lg_streaming.events import Scope

__all__ = ["Tracing"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_RUNS: Final = 10_000
_MAX_NODES: Final = 1_000
_RUN: Final = "lg_streaming.run"
"""The key under which a context says in which run's node it is."""
_OUTCOMES: Final = {
    "workflow_complete": "completed",
    "workflow_error": "failed",
    "workflow_cancelled": "cancelled",
    "workflow_abandoned": "abandoned",
    "node_complete": "completed",
    "node_error": "failed",
    "node_interrupted": "interrupted",
}


class _NodeKey(NamedTuple):
    """What tells the tries of the nodes of a run apart."""

    node_id: str | None
    namespace: str | None
    attempt: int | None


class _OpenSpan:
    """A span that has not ended, and the context of what happens inside it."""

    __slots__ = ("context", "nodes", "span")

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self.context = context
        self.nodes: OrderedDict[_NodeKey, _OpenSpan] = OrderedDict()
        """Of a run: the nodes that are running."""


class Tracing:
    """Makes a span of each run and of each try of a node. Thread-safe; set it as a hub's `trace`.

    A run's span is the child of the span that is current where the run is opened, such as a web framework's. A node's
    is the child of its run's, or of what is current inside a node of the same run that called it. Code inside a node
    has the node's span as the current one. The updates that start a run or a node carry its span as `traceparent`.

    A span holds ids, how it came out, and an error's type and message as they leave in the update (redacted where there
    is a `redact`), and the stack only with `settings.debug`: no owner, no state, no text.

    Args:
        tracer_provider: Where spans go; the program's own (`opentelemetry.trace.get_tracer_provider()`) when not given.
            It works while a run publishes, so let it export in the background, as a `BatchSpanProcessor` does.
        max_runs: Runs whose span may be open. One more ends the oldest one's, as `unfinished`, so that runs that
            never end (their producer forgot them) cost no more than this. At most 1,000 nodes of a run are followed.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, max_runs: int = _MAX_RUNS) -> None:
        self._tracer = get_tracer("lg_streaming", tracer_provider=tracer_provider)
        self._max_runs = max_runs
        self._runs: OrderedDict[str, _OpenSpan] = OrderedDict()
        self._lock = new_lock()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's open spans, which end there."""
        bury(self._runs)
        self._runs = OrderedDict()

    @property
    def open_runs(self) -> int:
        """Runs whose span has not ended."""
        return len(self._runs)

    def on_update(self, execution_id: str, type: str, scope: Scope, error: Mapping[str, Any] | None) -> Scope:
        """See `lg_streaming.publisher.Trace.on_update`."""
        try:
            return self._trace(execution_id, type, scope, error)
        except Exception:
            logger.exception("the %s of execution %r could not be traced", type, execution_id)
            return scope

    def _trace(self, execution_id: str, type: str, scope: Scope, error: Mapping[str, Any] | None) -> Scope:
        if scope.run_id is None:
            return scope
        if type == "workflow_start":
            return self._begin_run(execution_id, scope.run_id, scope)
        if type == "workflow_interrupted":
            run = self._runs.get(scope.run_id)
            if run is not None:
                run.span.add_event("interrupted")
        elif type in FINAL_TYPES:
            with self._lock:
                run = self._runs.pop(scope.run_id, None)
            if run is not None:
                _end(run, _OUTCOMES[type], error)
        elif type == "node_start":
            return self._begin_node(execution_id, scope.run_id, scope)
        else:
            self._end_node(type, scope.run_id, _node_key(scope), error)
        return scope

    def _begin_run(self, execution_id: str, run_id: str, scope: Scope) -> Scope:
        if run_id in self._runs:  # its first attempt to say so was too large an update
            return _with_span(scope, self._runs[run_id].span)
        span = self._tracer.start_span("lg_streaming.run", attributes=_attributes(execution_id, scope))
        opened = _OpenSpan(span, set_value(_RUN, run_id, set_span_in_context(span)))
        forgotten: _OpenSpan | None = None
        with self._lock:
            self._runs[run_id] = opened
            if len(self._runs) > self._max_runs:
                forgotten = self._runs.popitem(last=False)[1]
        if forgotten is not None:
            _end(forgotten, "unfinished")
        return _with_span(scope, span)

    def _begin_node(self, execution_id: str, run_id: str, scope: Scope) -> Scope:
        run = self._runs.get(run_id)
        if run is None:
            return scope
        inside = get_current() if get_value(_RUN) == run_id else run.context
        name = f"lg_streaming.node {scope.node_id}" if scope.node_id is not None else "lg_streaming.node"
        span = self._tracer.start_span(name, inside, attributes=_attributes(execution_id, scope))
        node, task = _OpenSpan(span, set_span_in_context(span, run.context)), _node_key(scope)
        with self._lock:
            over = run.nodes.pop(task, None)
            run.nodes[task] = node
            if over is None and len(run.nodes) > _MAX_NODES:
                over = run.nodes.popitem(last=False)[1]
        if over is not None:
            _end(over, "unfinished")
        return _with_span(scope, span)

    def _end_node(self, type: str, run_id: str, task: _NodeKey, error: Mapping[str, Any] | None) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        with self._lock:
            node = run.nodes.pop(task, None)
        if node is not None:
            cancelled = error is not None and error.get("code") == "cancelled"
            _end(node, "cancelled" if cancelled else _OUTCOMES[type], None if cancelled else error)

    def enter(self, scope: Scope) -> Callable[[], None]:
        """See `lg_streaming.publisher.Trace.enter`."""
        run = self._runs.get(scope.run_id or "")
        node = run.nodes.get(_node_key(scope)) if run is not None else None
        return partial(detach, attach(node.context)) if node is not None else _nothing

    def close(self) -> None:
        """Ends all spans that are open, as `unfinished`. Harmless when repeated."""
        with self._lock:
            runs, self._runs = self._runs, OrderedDict()
        for run in runs.values():
            try:
                _end(run, "unfinished")
            except Exception:
                logger.exception("a span could not be ended")


def _node_key(scope: Scope) -> _NodeKey:
    return _NodeKey(scope.node_id, scope.namespace, scope.attempt)


def _nothing() -> None:
    pass


def _attributes(execution_id: str, scope: Scope) -> dict[str, str | int]:
    known = {
        "lg_streaming.run_id": scope.run_id,
        "lg_streaming.node_id": scope.node_id,
        "lg_streaming.namespace": scope.namespace,
        "lg_streaming.attempt": scope.attempt,
    }
    return {"lg_streaming.execution_id": execution_id} | {n: value for n, value in known.items() if value is not None}


def _with_span(scope: Scope, span: Span) -> Scope:
    """`scope` with the span as W3C Trace Context has it (https://www.w3.org/TR/trace-context/, section 3.2)."""
    about = span.get_span_context()
    if not about.is_valid:  # there is an API, but nothing that makes spans
        return scope
    flags = int(about.trace_flags)
    return scope.derive(traceparent=f"00-{format_trace_id(about.trace_id)}-{format_span_id(about.span_id)}-{flags:02x}")


def _end(opened: _OpenSpan, outcome: str, error: Mapping[str, Any] | None = None) -> None:
    """Ends a span, after those of the nodes that are still running in it."""
    for node in list(opened.nodes.values()):
        _end(node, "unfinished")
    opened.nodes.clear()
    span = opened.span
    span.set_attribute("lg_streaming.outcome", outcome)
    if outcome in {"failed", "abandoned"}:
        told = (
            {f"exception.{name}": str(error[key]) for key, name in _EXCEPTION.items() if key in error} if error else {}
        )
        if told:
            span.add_event("exception", told)
            span.set_attribute("error.type", told.get("exception.type", "error"))
        span.set_status(Status(StatusCode.ERROR, told.get("exception.message", outcome)))
    span.end()


_EXCEPTION: Final = {"type": "type", "message": "message", "stack": "stacktrace"}
