"""The events of a node: its start and end, its tools and models, and the events that it publishes itself.

An event passes the filter, the transformer, ``redact`` and a buffer on its way to the log. The node's own start and end
pass them too, but are never dropped: readers distinguish tries and branches by them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.events import HUB_TYPES, NAMES, PRIORITIES, RESERVED, is_debug, kind_of, parse_priority, priority_of
from lg_streaming.fork import new_lock
from lg_streaming.pipeline.safe_callable import SafeCallable
from lg_streaming.pipeline.timed_buffer import Source, buffer
from lg_streaming.publisher import UpdateRequest
from lg_streaming.settings import EventDefaults
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactivex.abc import SchedulerBase

    from lg_streaming.emitter import ScopedPublisher
    from lg_streaming.events import Priority, Scope
    from lg_streaming.pipeline.event_options import EventOptions
    from lg_streaming.publisher import Delivery

__all__ = ["EventPipeline"]

_LIFECYCLE: Final = frozenset({"node_start", "node_complete", "node_error", "node_interrupted"})
_IDENTITY: Final = ("node_id", "node_name", "attempt", "will_retry", "duration_s", "model", "replaces")
"""The fields that remain of a node's start or end when the options drop the event, or `redact` fails."""
_WITHHELD: Final = {"message": "withheld: redaction failed"}
_HURRY: Final = PRIORITIES.index("high")


@dataclass(slots=True, kw_only=True)
class _Event:
    """An event in the pipeline."""

    type: str
    data: object
    scope: Scope
    priority: Priority
    delivery: Delivery = "at-least-once"
    key: str | None = None
    lifecycle: Mapping[str, Any] | None = None
    """The data that remains of a node's start or end when the event is dropped; None for events that may be dropped."""
    body: bytes = b""
    """The data as JSON, once it is encoded."""

    def to_request(self) -> UpdateRequest:
        return UpdateRequest(self.type, orjson.Fragment(self.body), self.scope, self.priority, self.delivery, self.key)


class EventPipeline:
    """Pipeline of the events of one try of a node.

    Thread-safe. The functions of the options run in the thread of the event. Events wait as JSON, so later changes of
    their data have no effect.

    Args:
        options: The options of ``@stream_event``.
        emitter: Where updates go, and whose events come this way from now on.
        scheduler: The timer of the buffer; the process's timer when not given.
    """

    def __init__(
        self, options: EventOptions, output: ScopedPublisher, *, scheduler: SchedulerBase | None = None
    ) -> None:
        self._options = options
        self._output = output
        self._scheduler = scheduler or current_timer()
        self._guard = SafeCallable(output)
        self._ordinals: Counter[str] = Counter()
        self._lock = new_lock()
        self._published_at: datetime | None = None
        self.waiting: bool = False
        self._live = output.defaults
        self._version = -1
        self._closed = False
        self._flush: Source[None] = Source()
        self._held: Source[_Event] | None = None
        self._apply(options.resolved(EventDefaults()))
        self._refresh()

    def _process(self, event: _Event) -> None:
        """Shape an event, and put it into the buffer."""
        shaped = self._shape(event)
        if shaped is None:
            return
        held = self._held
        if held is None:
            if event.lifecycle is not None:  # nothing waits yet, and many nodes have no other events
                self._publish((shaped,))
                return
            with self._lock:
                held = self._held = self._held or self._open()
        held.on_next(shaped)

    def _open(self) -> Source[_Event]:
        source: Source[_Event] = Source()
        leaving = buffer(self, urgent=self._is_urgent, flush=self._flush, scheduler=self._scheduler)(source)
        leaving.subscribe(self._publish)
        return source

    def _refresh(self) -> EventDefaults:
        """Return the options in force."""
        if self._live is not None and self._live.version != self._version:
            self._live = self._output.defaults or self._live
            self._version = self._live.version
            self._apply(self._options.resolved(self._live.current.event))
            self.release()
        return self._now

    def _apply(self, now: EventDefaults) -> None:
        self._now = now
        self.size: int = now.buffer_size
        """The maximum of buffered events."""
        self.interval: float = 0.0 if self._closed else now.flush_interval
        """The maximum of seconds that an event is buffered."""

    def _is_urgent(self, event: _Event) -> bool:
        if event.lifecycle is not None or PRIORITIES.index(event.priority) >= _HURRY or self._published_at is None:
            return True
        return self._scheduler.now - self._published_at >= timedelta(seconds=self._now.flush_interval)

    # --- in --------------------------------------------------------------------------------------------------

    def put(self, type: str, data: dict[str, Any], scope: Scope, *, always: bool = False) -> None:
        """Accept an event of the node itself, of a tool or of a model.

        The node's own start and end, and events with ``always``, are published in any case.
        """
        now, wants = self._refresh(), self._options.wants
        if always or type in _LIFECYCLE:
            self._put_lifecycle(type, data, scope, whole=now.enabled and wants(type))
        elif not now.enabled:
            return
        elif type == "values":
            if now.include_state or wants("values"):
                self._push(type, data["state"], scope)
        elif type in {"updates", "messages"}:
            if wants(type):
                self._put_result(type, data["read"](), scope)
        elif wants(type):
            self._push(type, data, scope)
        if type == "llm_complete" and now.enabled and wants("usage") and data.get("usage"):
            self._push("usage", {"model": data.get("model"), **data["usage"]}, scope)

    def _put_result(self, type: str, found: object, scope: Scope) -> None:
        if type == "updates":
            self._push(type, {str(scope.node_id): found}, scope)
        elif found:
            self._push(type, {"messages": found}, scope)

    def _put_lifecycle(self, type: str, data: dict[str, Any], scope: Scope, *, whole: bool) -> None:
        identity = {name: data[name] for name in _IDENTITY if name in data}
        if not whole:
            data = {name: value for name, value in data.items() if name != "result"}
        self._process(_Event(type=type, data=data, scope=scope, priority=priority_of(type), lifecycle=identity))

    def emit(self, update: UpdateRequest, *, delivery: Delivery | None) -> None:
        """Publish an event of the node's own code, independent of ``events``.

        Text does not go through this pipeline, nor does progress, unless ``events`` asks for it.
        """
        name, data, scope, priority, level, key = update
        kind = kind_of(name)
        asked = kind in {"event", "status"} or (kind == "progress" and self._options.wants(name))
        if not self._refresh().enabled or not asked:
            self.release()
            self._output.publish(name, data, scope, priority=priority, delivery=level, key=key)
        elif delivery is None and key is None:
            self._push(name, data, scope, priority, repeats=kind == "progress")
        else:
            priority = parse_priority(priority) if priority is not None else priority_of(name)
            self._process(_Event(type=name, data=data, scope=scope, priority=priority, delivery=level, key=key))

    def _push(
        self, type: str, data: object, scope: Scope, priority: Priority | None = None, *, repeats: bool = False
    ) -> None:
        level = self._now.delivery
        if repeats and level == "exactly-once":  # how often it comes depends on time, so no two tries are alike
            level = "at-least-once"
        self._process(
            _Event(
                type=type,
                data=data,
                scope=scope,
                priority=parse_priority(priority) if priority is not None else priority_of(type),
                delivery=level,
                key=self._next_key(type) if level == "exactly-once" else None,
            )
        )

    def _next_key(self, type: str) -> str:
        """Return the key of the next event of a type in this piece of work, which is the same in each try."""
        with self._lock:
            self._ordinals[type] += 1
            ordinal = self._ordinals[type]
        scope = self._output.scope
        name = f"{scope.run_id}\n{scope.namespace}\n{scope.node_id}\n{type}\n{ordinal}"
        return f"node:{hashlib.blake2b(name.encode(errors='replace'), digest_size=16).hexdigest()}"

    # --- the steps -------------------------------------------------------------------------------------------

    def _passes(self, event: _Event) -> bool:
        now = self._now
        passes = (
            (now.include_debug or not is_debug(event.type))
            and self._options.lets_through(event.type)
            and PRIORITIES.index(event.priority) >= PRIORITIES.index(now.min_priority)
        )
        if event.lifecycle is not None and not passes:
            event.data = event.lifecycle
        return passes or event.lifecycle is not None

    def _shape(self, event: _Event) -> _Event | None:
        """Return the event to publish; None if it is dropped."""
        if not self._passes(event):
            return None
        event.body = self._output.encode(event.data)
        bare = event.lifecycle is not None and event.data is event.lifecycle
        if self._options.transformer is not None and self._now.enabled and not bare:
            shaped = self._guard.call("transformer", self._transform, event, instead=event)
            if shaped is None:
                if event.lifecycle is None:
                    return None
                event.body = self._output.encode(event.lifecycle)
            else:
                event = shaped
        if self._options.redact is not None:
            event.body = self._guard.call("redact", self._redact, event, instead=self._withheld(event))
        self.waiting = True
        return event

    def _transform(self, event: _Event) -> _Event | None:
        """Return the event that the transformer makes. Raise its errors, or an error for an unusable result."""
        scope = event.scope
        scope_fields = {name: value for name in NAMES if (value := getattr(scope, name)) is not None}
        argument = {
            "type": event.type,
            "data": orjson.loads(event.body),
            "priority": event.priority,
            "metadata": {"execution_id": self._output.execution_id, **scope_fields},
        }
        result: Any = cast("Any", self._options.transformer)(argument)
        if result is None:
            return None
        try:
            name, data = result.get("type", event.type), result["data"]
            priority = parse_priority(result.get("priority", event.priority))
        except (AttributeError, KeyError):
            raise TypeError("return the event, changed or not, as {type, data, priority}; or None") from None
        if event.lifecycle is None and name != event.type and not _is_an_events_name(name):
            raise ValueError(f"an event cannot become {name!r:.80}")
        return replace(
            event,
            type=event.type if event.lifecycle is not None else name,
            scope=_with_added(scope, result),
            priority=priority,
            body=self._output.encode(data),
        )

    def _redact(self, event: _Event) -> bytes:
        return self._output.encode(cast("Any", self._options.redact)(event.type, orjson.loads(event.body)))

    def _withheld(self, event: _Event) -> bytes:
        return self._output.encode({**(event.lifecycle or {}), **_WITHHELD})

    # --- out -------------------------------------------------------------------------------------------------

    def _publish(self, events: Sequence[_Event]) -> None:
        """Append events to the log, in batches of ``batch_size``."""
        self.waiting: bool = False
        if any(event.lifecycle is None for event in events):
            self._published_at = self._scheduler.now
        batch: list[UpdateRequest] = []
        for event in events:
            batch.append(event.to_request())
            if len(batch) >= self._now.batch_size:
                self._publish_batch(batch)
                batch = []
        self._publish_batch(batch)

    def _publish_batch(self, batch: list[UpdateRequest]) -> None:
        if batch:
            self._output.publish_all(batch)

    def release(self) -> None:
        """Publish the buffered events, before an update that bypasses this pipeline."""
        if self.waiting:
            self._flush.on_next(None)

    def close(self) -> None:
        """Publish the buffered events at the node's end. Later events, of a stray thread, are not buffered."""
        self._closed = True
        self.interval = 0.0
        self._flush.on_next(None)
        self._guard.close()


_NOT_ADDED: Final = frozenset({"type", "data", "priority", "metadata", *RESERVED, *NAMES})
"""The keys of a transformer's event, and those that it cannot set."""


def _with_added(scope: Scope, result: Mapping[str, Any]) -> Scope:
    """Return ``scope`` with the keys that a transformer added, to the event or to its metadata."""
    metadata = result.get("metadata")
    added: dict[str, Any] = {}
    for keys in (metadata, result):
        if isinstance(keys, Mapping):
            added |= {str(key): value for key, value in cast("Mapping[object, Any]", keys).items()}
    added = {key: value for key, value in added.items() if key not in _NOT_ADDED}
    return scope.derive(extra={**(scope.extra or {}), **added}) if added else scope


def _is_an_events_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and bool(name)
        and name not in HUB_TYPES
        and name not in _LIFECYCLE
        and kind_of(name) not in {"token", "progress"}
    )
