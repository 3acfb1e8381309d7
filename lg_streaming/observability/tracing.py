"""OpenTelemetry spans of runs and nodes, made from the updates that start and end them.

A run's span reaches from its `workflow_start` to its final update, a node's from its `node_start` to its end. An error
of tracing is logged and never reaches the run.
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
"""The key of the run's id in the context of its nodes."""
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
    """The identity of one attempt of a node within its run."""

    node_id: str | None
    namespace: str | None
    attempt: int | None


class _OpenSpan:
    """A span that has not ended, and the context of its children."""

    __slots__ = ("context", "nodes", "span")

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self.context = context
        self.nodes: OrderedDict[_NodeKey, _OpenSpan] = OrderedDict()
        """The running nodes of a run."""


class Tracing:
    """A tracer that makes a span of each run and of each attempt of a node. Thread-safe; set it as a hub's `trace`.

    A run's span is the child of the span that is current where the run is opened, such as a web framework's. A node's
    span is the child of its run's span, or of the current span of a node of the same run that called it. Code inside a
    node has the node's span as the current one. The updates that start a run or a node carry its span as `traceparent`.

    A span holds ids, the outcome, and the type and message of an error as published, which `redact` may have changed.
    It holds the stack only with `settings.debug`, and never an owner, a state or a text.

    Args:
        tracer_provider: The provider; the program's (`opentelemetry.trace.get_tracer_provider()`) when not given. It is
            called while a run publishes, so let it export in the background, as a `BatchSpanProcessor` does.
        max_runs: Runs whose span may be open. One more ends the oldest span as `unfinished`, so that runs without an
            end have bounded memory. At most 1,000 nodes of a run are traced.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, max_runs: int = _MAX_RUNS) -> None:
        self._tracer = get_tracer("lg_streaming", tracer_provider=tracer_provider)
        self._max_runs = max_runs
        self._runs: OrderedDict[str, _OpenSpan] = OrderedDict()
        self._lock = new_lock()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the open spans, which the parent ends."""
        bury(self._runs)
        self._runs = OrderedDict()

    @property
    def open_runs(self) -> int:
        """Return the number of runs whose span has not ended."""
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
        if run_id in self._runs:  # the first update that started it was too large
            return _with_span(scope, self._runs[run_id].span)
        span = self._tracer.start_span("lg_streaming.run", attributes=_attributes(execution_id, scope))
        opened = _OpenSpan(span, set_value(_RUN, run_id, set_span_in_context(span)))
        evicted: _OpenSpan | None = None
        with self._lock:
            self._runs[run_id] = opened
            if len(self._runs) > self._max_runs:
                evicted = self._runs.popitem(last=False)[1]
        if evicted is not None:
            _end(evicted, "unfinished")
        return _with_span(scope, span)

    def _begin_node(self, execution_id: str, run_id: str, scope: Scope) -> Scope:
        run = self._runs.get(run_id)
        if run is None:
            return scope
        inside = get_current() if get_value(_RUN) == run_id else run.context
        name = f"lg_streaming.node {scope.node_id}" if scope.node_id is not None else "lg_streaming.node"
        span = self._tracer.start_span(name, inside, attributes=_attributes(execution_id, scope))
        node, key = _OpenSpan(span, set_span_in_context(span, run.context)), _node_key(scope)
        with self._lock:
            replaced = run.nodes.pop(key, None)
            run.nodes[key] = node
            if replaced is None and len(run.nodes) > _MAX_NODES:
                replaced = run.nodes.popitem(last=False)[1]
        if replaced is not None:
            _end(replaced, "unfinished")
        return _with_span(scope, span)

    def _end_node(self, type: str, run_id: str, key: _NodeKey, error: Mapping[str, Any] | None) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        with self._lock:
            node = run.nodes.pop(key, None)
        if node is not None:
            cancelled = error is not None and error.get("code") == "cancelled"
            _end(node, "cancelled" if cancelled else _OUTCOMES[type], None if cancelled else error)

    def enter(self, scope: Scope) -> Callable[[], None]:
        """See `lg_streaming.publisher.Trace.enter`."""
        run = self._runs.get(scope.run_id or "")
        node = run.nodes.get(_node_key(scope)) if run is not None else None
        return partial(detach, attach(node.context)) if node is not None else _nothing

    def close(self) -> None:
        """End all open spans as `unfinished`. Harmless when repeated."""
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
    values = {
        "lg_streaming.run_id": scope.run_id,
        "lg_streaming.node_id": scope.node_id,
        "lg_streaming.namespace": scope.namespace,
        "lg_streaming.attempt": scope.attempt,
    }
    return {"lg_streaming.execution_id": execution_id} | {
        name: value for name, value in values.items() if value is not None
    }


def _with_span(scope: Scope, span: Span) -> Scope:
    """Return `scope` with the span in W3C Trace Context (https://www.w3.org/TR/trace-context/, section 3.2)."""
    context = span.get_span_context()
    if not context.is_valid:  # the API is installed without an SDK
        return scope
    flags = int(context.trace_flags)
    return scope.derive(
        traceparent=f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{flags:02x}"
    )


def _end(opened: _OpenSpan, outcome: str, error: Mapping[str, Any] | None = None) -> None:
    """End a span, after the spans of its running nodes."""
    for node in list(opened.nodes.values()):
        _end(node, "unfinished")
    opened.nodes.clear()
    span = opened.span
    span.set_attribute("lg_streaming.outcome", outcome)
    if outcome in {"failed", "abandoned"}:
        attributes = (
            {f"exception.{name}": str(error[key]) for key, name in _EXCEPTION.items() if key in error} if error else {}
        )
        if attributes:
            span.add_event("exception", attributes)
            span.set_attribute("error.type", attributes.get("exception.type", "error"))
        span.set_status(Status(StatusCode.ERROR, attributes.get("exception.message", outcome)))
    span.end()


_EXCEPTION: Final = {"type": "type", "message": "message", "stack": "stacktrace"}
