"""The text of a node: filter, processor, buffer, batches, updates.

A token pipeline is a chain of reactivex operators from one source. The first token creates it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from reactivex import operators as ops

from lg_streaming.fork import new_lock, new_rlock
from lg_streaming.pipeline.safe_callable import SafeCallable
from lg_streaming.pipeline.timed_buffer import Source, buffer
from lg_streaming.pipeline.token_batches import Piece, format_batch, join_pieces
from lg_streaming.publisher import UpdateRequest
from lg_streaming.settings import TokenDefaults
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from reactivex import Observable
    from reactivex.abc import DisposableBase, SchedulerBase

    from lg_streaming.emitter import ScopedPublisher
    from lg_streaming.events import Scope
    from lg_streaming.pipeline.token_options import TokenOptions
    from lg_streaming.settings import TokenFormat

__all__ = ["TEXT_TYPES", "TokenPipeline"]

logger: logging.Logger = logging.getLogger(__name__)

TEXT_TYPES: Final = frozenset({"token", "thinking", "tool_args"})
"""The types that a `TokenPipeline` takes."""

_MANY: Final = 1_024
"""Maximum of messages whose begin is remembered; an older message may get a second first token."""


class _Live:
    """The options in force, in the form that the hot path reads; they may change while the node runs."""

    __slots__ = ("batch_size", "enabled", "first", "format", "include_metadata", "interval", "is_plain", "size")

    def __init__(self, options: TokenDefaults) -> None:
        self.apply(options)

    def apply(self, options: TokenDefaults) -> None:
        """Apply ``options``."""
        self.enabled: bool = options.enabled
        self.size: int = options.buffer_size
        self.interval: float = options.flush_interval
        self.batch_size: int = options.batch_size
        self.format: TokenFormat = options.format
        self.include_metadata: bool = options.include_metadata
        self.first: bool = options.first_token_immediately
        self.is_plain: bool = options.format == "text" and not options.include_metadata
        """True if a single piece leaves as it is, but for its metadata."""


class TokenPipeline:
    """The pipeline of the text of one try of a node, or of one stream of the token service.

    Thread-safe. Text leaves in order; text that comes after `close` leaves at once.

    Args:
        options: The options of the decorator.
        output: The destination of updates, and the source of the execution's defaults.
        scheduler: Times ``flush_interval``; the process's timer when not given.
    """

    def __init__(
        self, options: TokenOptions, output: ScopedPublisher, *, scheduler: SchedulerBase | None = None
    ) -> None:
        self.options = options
        self.output: ScopedPublisher = output
        self.execution_id: str = output.execution_id
        self.received: int = 0
        """Tokens received, including those that the filter rejected."""
        self.rejected: int = 0
        """Tokens that the filter rejected, or that the processor made empty."""
        self.delivered: int = 0
        """Tokens published."""
        self.updates: int = 0
        """Updates published."""
        self.closed: bool = False
        self._guard = SafeCallable(output)
        self._scheduler = scheduler or current_timer()
        self._lock = new_rlock()
        self._resolve()
        self.live: _Live = _Live(self.config)
        self._put: Callable[[Piece], object] | None = None
        """Accepts pieces while the chain is open and the options are switched on."""
        self._source: Source[Piece] | None = None
        self._flushes: Source[None] | None = None
        self._subscription: DisposableBase | None = None
        self._begun_messages: dict[Hashable, None] = {}
        self._last_kind = ""  # of the piece before: most follow one of their message
        self._last_scope: Scope | None = None
        self._counted = 0
        self._counting = new_lock()
        self._streams = output.token_streams
        if self._streams is not None:
            self._streams.attach(self)

    @property
    def scope(self) -> Scope:
        """The scope of most updates."""
        return self.output.scope

    @property
    def buffered(self) -> int:
        """Tokens in the buffer."""
        return self.received - self.rejected - self.delivered

    @property
    def failures(self) -> int:
        """Failed calls of the processor."""
        return self._guard.failures

    def _resolve(self) -> None:
        """Look up the options in force."""
        self._defaults = defaults = self.output.defaults
        self._version = defaults.version if defaults is not None else 0
        self.config: TokenDefaults = self.options.resolved(
            defaults.current.token if defaults is not None else TokenDefaults()
        )
        """The options in force."""

    def _refresh(self) -> None:
        """Apply changed defaults of the execution. Text that was buffered under the old ones is published."""
        before = self.config
        self._resolve()
        if self.config != before:
            self.flush()
            self.live.apply(self.config)
            self._put = None

    def put(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Accept one piece of text, of one of `TEXT_TYPES`. ``data`` belongs to the pipeline from now on."""
        with self._lock:
            defaults = self._defaults
            if defaults is not None and defaults.version != self._version:
                self._refresh()
            put = self._put
            if put is None:
                put = self._accepting()
                if put is None:
                    return
            self.received += 1
            put((type, data, scope))

    def _accepting(self) -> Callable[[Piece], object] | None:
        """Return the function that accepts pieces under the options in force; None if they are switched off."""
        if not self.live.enabled:
            return None
        if self.closed:
            return self._publish_one
        source = self._source or self._open()
        self._put = source.on_next
        return self._put

    def _publish_one(self, piece: Piece) -> None:
        self._publish([piece])

    def flush(self) -> None:
        """Publish the text that is buffered."""
        if self._flushes is not None:
            self._flushes.on_next(None)

    def close(self) -> None:
        """Publish the text that is buffered, before the node's end is published. Harmless when repeated."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            source, self._source = self._source, None
            self._put = None
            if source is not None:
                source.on_completed()
        if self._subscription is not None:
            self._subscription.dispose()
        self._flushes = self._subscription = None
        self._begun_messages.clear()
        self._last_scope = None
        self._guard.close()
        self.report()
        if self._streams is not None:
            self._streams.detach(self)

    # --- the chain ------------------------------------------------------------------------------------------

    def _open(self) -> Source[Piece]:
        source: Source[Piece] = Source()
        flushes: Source[None] = Source()
        passed: Observable[Piece] = source
        if self.options.filter is not None:
            passed = passed.pipe(ops.filter(self._passes))
        if self.options.processor is not None:
            passed = passed.pipe(ops.map(self._process), ops.filter(self._is_left))
        # A callable of the user may wait for a thread that flushes: only without one do both share a lock.
        lock = self._lock if passed is source else None
        held = passed.pipe(
            buffer(self.live, urgent=self._is_first, flush=flushes, scheduler=self._scheduler, lock=lock)
        )
        self._source, self._flushes = source, flushes
        self._subscription = held.subscribe(self._publish)
        return source

    def _passes(self, piece: Piece) -> bool:
        kind, data, _ = piece
        chosen = self.options.filter
        if chosen is None or kind == "tool_args" or "blocks" in data or chosen.passes(data["content"]):
            return True
        self.rejected += 1
        return False

    def _process(self, piece: Piece) -> Piece:
        kind, data, scope = piece
        processor = self.options.processor
        if processor is None or kind == "tool_args" or "blocks" in data:
            return piece
        content = data["content"]
        metadata = self._metadata_of(kind, data, scope)
        made = self._guard.call(
            "processor", cast("Callable[..., object]", processor), content, metadata, instead=content
        )
        if isinstance(made, str):
            data["content"] = made
        else:
            self._guard.failed("processor", TypeError(f"processor returned {type(made).__name__}, not a str"))
        return piece

    def _is_left(self, piece: Piece) -> bool:
        kind, data, _ = piece
        if kind == "tool_args" or "blocks" in data or data["content"]:
            return True
        self.rejected += 1
        return False

    def _metadata_of(self, kind: str, data: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Return the metadata of a token for a processor."""
        known = {
            "type": kind,
            "index": data.get("index"),
            "role": data.get("role"),
            "execution_id": self.execution_id,
            "node_id": scope.node_id,
            "message_id": scope.message_id,
            "request_id": scope.request_id,
        }
        return {**(data.get("metadata") or {}), **{name: value for name, value in known.items() if value is not None}}

    def _is_first(self, piece: Piece) -> bool:
        """Return whether a message's text, or its thinking, begins here."""
        kind, _, scope = piece
        if scope is self._last_scope and kind == self._last_kind:
            return False
        if not self.live.first or kind == "tool_args":
            return False
        self._last_kind, self._last_scope = kind, scope
        key = (kind, scope.message_id or (scope.request_id, scope.task_id, scope.agent_type, scope.tool_call_id))
        if key in self._begun_messages:
            return False
        self._begun_messages[key] = None
        if len(self._begun_messages) > _MANY:
            del self._begun_messages[next(iter(self._begun_messages))]
        return True

    def _publish(self, pieces: list[Piece]) -> None:
        live, output, count = self.live, self.output, len(pieces)
        streams = self._streams
        if streams is not None:
            with self._counting:
                received = self.received
                new, self._counted = received - self._counted, received
            if new:
                streams.count(new)
        if count == 1 and live.is_plain:  # most updates of a slow model: they need no joining and no format
            kind, data, scope = pieces[0]
            data.pop("metadata", None)
            self.updates += 1
            output.publish(kind, data, scope)
        else:
            joined = join_pieces(pieces, live.batch_size)
            self.updates += len(joined)
            if len(joined) == 1:
                output.publish(*self._update(joined[0]))
            else:
                output.publish_all([UpdateRequest(*self._update(batch)) for batch in joined])
        self.delivered += count

    def _update(self, batch: list[Piece]) -> tuple[str, dict[str, Any], Scope]:
        kind, _, scope = batch[0]
        live = self.live
        return kind, format_batch(batch, live.format, include_metadata=live.include_metadata), scope

    def report(self) -> None:
        """Add the tokens since the last report to the statistics."""
        streams = self._streams
        if streams is not None:
            with self._counting:
                new, self._counted = self.received - self._counted, self.received
            if new:
                streams.count(new)
