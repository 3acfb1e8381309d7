"""Token streams as a service: those of decorated nodes, and streams of your own for text from elsewhere."""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import reactivex
from reactivex import operators as ops
from reactivex.scheduler import NewThreadScheduler

from lg_streaming.checks import seconds
from lg_streaming.emitter import ScopedPublisher
from lg_streaming.errors import BadRequestError, TokenStreamingError
from lg_streaming.events import Scope, check_execution_id
from lg_streaming.filters import UpdateFilter
from lg_streaming.fork import bury, new_rlock, restart_after_fork
from lg_streaming.pipeline.token_options import TokenOptions
from lg_streaming.pipeline.tokens import TokenPipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reactivex import Observable
    from reactivex.abc import SchedulerBase

    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub import StreamHub
    from lg_streaming.settings import TokenDefaults
    from lg_streaming.token_streams import TokenStream

__all__ = ["TokenStats", "TokenStreamInfo", "TokenStreamingService"]

logger: logging.Logger = logging.getLogger(__name__)

_TOKENS: Final = ("token", "thinking")
_IDLE: Final = 300.0
"""Seconds after which a stream of an execution that does not run is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStats:
    """Counts of all token streams of a hub."""

    active_streams: int
    """Streams that are open: of nodes that run, and of your own."""
    total_tokens: int
    """Tokens received since the hub was made; those that filters rejected too."""
    tokens_per_second: float
    """The rate over the last ten seconds, or since the hub was made when that is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStreamInfo:
    """A token stream that is open."""

    key: tuple[str, str | None]
    """Execution id and node id."""
    namespace: str | None
    """The name of a parallel branch of the node; None for a stream of your own."""
    config: TokenDefaults
    """The options in force."""
    buffer_size: int
    buffered: int
    """Tokens in the buffer now."""
    total_tokens: int
    """Tokens received; those that the filter rejected too."""
    rejected: int
    delivered: int
    updates: int
    failures: int
    """Failed calls of its processor."""


class _Entry:
    """A stream that a program opened."""

    __slots__ = ("counters", "pipeline", "scope", "touched_at")

    def __init__(self, pipeline: TokenPipeline, now: float) -> None:
        self.pipeline = pipeline
        self.scope = pipeline.output.scope
        self.counters = {"token": itertools.count(), "thinking": itertools.count()}
        self.touched_at = now


class TokenStreamingService:
    """The token streams of a hub. ``streaming.tokens`` is one.

    Streams of decorated nodes are included by themselves. For other text: ``tokens.stream_token("exec-1",
    "write", "Hel")``, with the same filter, processor and batches; an execution and a stream that do not exist yet are
    opened. Readers get the processed updates, from the log, so a late one gets them too.

    Thread-safe; never waits.

    Args:
        hub: The source and the destination of updates.
        clock: Seconds that never go back.
    """

    def __init__(self, hub: StreamHub, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._clock = clock
        self._lock = new_rlock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._streams = hub.publisher.token_streams
        hub.runs.run_listeners.add(self)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the streams of the parent process, which continue there."""
        bury(self._entries)
        self._entries = {}

    # --- streams of your own --------------------------------------------------------------------------------

    def initialize_token_stream(
        self, execution_id: str, node_id: str, config: TokenOptions | Mapping[str, Any] | None = None
    ) -> None:
        """Open a stream. A stream that is open keeps its config, with a warning in the log.

        Args:
            execution_id: The execution; its run begins with the first token, if not before.
            node_id: The node of the text.
            config: Options as of ``@stream_token``; those left out are the execution's, or the settings'.

        Raises:
            BadRequestError: If the id cannot name an execution.
            TokenStreamingError: If the node id or an option cannot be used.
        """
        options = config if isinstance(config, TokenOptions) else TokenOptions.from_arguments(**(config or {}))
        with self._lock:
            if (execution_id, node_id) in self._entries:
                logger.warning("the token stream of %r, %r is open already: it stays as it is", execution_id, node_id)
            else:
                self._open(execution_id, node_id, options)

    def stream_token(
        self,
        execution_id: str,
        node_id: str,
        token: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        type: Literal["token", "thinking"] = "token",
        role: str = "ai",
        message_id: str | None = None,
    ) -> None:
        """Publish one piece of text. A stream that is not open is opened with the execution's options.

        Args:
            execution_id: The execution.
            node_id: The node.
            token: The text; an empty one is not sent.
            metadata: Given to the processor, and sent where ``include_metadata`` is set. Give one object for the
                tokens of a message: tokens with another one are not joined.
            type: ``token``, or ``thinking`` for reasoning.
            role: The role of the text's author.
            message_id: The message, of several in one stream.

        Raises:
            BadRequestError: If the id cannot name an execution.
            TokenStreamingError: If the node id cannot be used.
        """
        if not token:
            return
        with self._lock:
            entry = self._entries.get((execution_id, node_id))
            if entry is None:
                entry = self._open(execution_id, node_id, TokenOptions())
            entry.touched_at = self._clock()
            if message_id != entry.scope.message_id:
                entry.scope = entry.scope.derive(message_id=message_id)
            data: dict[str, Any] = {"content": token, "index": next(entry.counters[type]), "role": role}
            scope = entry.scope
        if metadata:
            data["metadata"] = metadata
        entry.pipeline.put(type, data, scope)

    def _open(self, execution_id: str, node_id: str, options: TokenOptions) -> _Entry:
        check_execution_id(execution_id)
        if not isinstance(node_id, str) or not node_id:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenStreamingError(f"a node id is a string and not empty, not {node_id!r:.80}")
        output = ScopedPublisher(self._hub.publisher, execution_id, Scope(node_id=node_id))
        entry = self._entries[execution_id, node_id] = _Entry(TokenPipeline(options, output), self._clock())
        return entry

    def flush_tokens(self, execution_id: str, node_id: str) -> None:
        """Publish the buffered text of a node. A no-op when there is no such text."""
        for pipeline in self._streams.streams(execution_id):
            if pipeline.scope.node_id == node_id:
                pipeline.flush()

    def close_token_stream(self, execution_id: str, node_id: str) -> None:
        """Close a stream of your own, and publish its buffered text. A no-op when it is not open.

        Streams of decorated nodes end with their node; of those, the buffered text is published.
        """
        self.flush_tokens(execution_id, node_id)
        with self._lock:
            entry = self._entries.pop((execution_id, node_id), None)
        if entry is not None:
            entry.pipeline.close()

    def close_execution_token_streams(self, execution_id: str) -> None:
        """Close all streams of one execution, as `close_token_stream` does. It happens by itself when its run ends."""
        with self._lock:
            nodes = [node for execution, node in self._entries if execution == execution_id]
        for node_id in nodes:
            self.close_token_stream(execution_id, node_id)
        self._streams.flush_execution(execution_id)

    # --- reading --------------------------------------------------------------------------------------------

    def get_token_stream(self, execution_id: str, node_id: str | None = None) -> Observable[StreamUpdate]:
        """Return the ``token`` and ``thinking`` updates of a node, or of all nodes of an execution, from the first on.

        The observable completes when the execution's run ends. Subscribing before anything has started is allowed. For
        the thread of the updates, see `StreamHub.observe`.

        Raises (when subscribed):
            BadRequestError: If the id cannot name an execution.
        """
        nodes = [node_id] if node_id is not None else None
        return self._hub.observe(execution_id, filter=UpdateFilter.of(types=_TOKENS, node_ids=nodes))

    def get_global_token_stream(self) -> Observable[StreamUpdate]:
        """Return these updates of all executions, from now on; of those with an open token stream from the first on.

        The observable never completes. Updates of one execution are in order; between executions there is no order.
        Subscribed on an event loop, it calls its observer on that loop; elsewhere, on a thread.
        """
        return self._hub.readers.observe_all(filter=UpdateFilter.of(types=_TOKENS), from_start=self._streams.executions)

    def statistics(self) -> TokenStats:
        """Return the counts of this moment."""
        streams = self._streams.streams()
        for stream in streams:
            stream.report()
        return TokenStats(
            active_streams=len(streams), total_tokens=self._streams.total, tokens_per_second=self._streams.rate
        )

    def get_token_stats(
        self, *, interval: float = 5.0, scheduler: SchedulerBase | None = None
    ) -> Observable[TokenStats]:
        """Return the counts: now, and then every ``interval`` seconds, on ``scheduler`` (a new thread when None).

        Raises:
            BadRequestError: If ``interval`` is no number of seconds above 0.
        """
        seconds().check("interval", interval, BadRequestError)
        timer = scheduler or NewThreadScheduler()
        return reactivex.timer(0.0, interval, scheduler=timer).pipe(ops.map(lambda _: self.statistics()))

    def get_active_token_streams(self) -> list[TokenStreamInfo]:
        """Return the streams that are open."""
        return [_info(stream) for stream in self._streams.streams()]

    # --- the hub's notifications ----------------------------------------------------------------------------

    def flush_execution(self, execution_id: str) -> None:
        """Do nothing: the hub flushes the open streams itself."""

    def close_execution(self, execution_id: str) -> None:
        """Close the streams of an execution whose run ends."""
        self.close_execution_token_streams(execution_id)

    def sweep(self) -> None:
        """Close streams of your own without text for five minutes, of executions that do not run."""
        now = self._clock()
        with self._lock:
            idle = [key for key, entry in self._entries.items() if now - entry.touched_at >= _IDLE]
        for execution_id, node_id in idle:
            if not self._hub.registry.is_running(execution_id):
                self.close_token_stream(execution_id, node_id)

    def close(self) -> None:
        """Publish all buffered text, and close all streams of your own."""
        with self._lock:
            entries = list(self._entries)
        for execution_id, node_id in entries:
            self.close_token_stream(execution_id, node_id)


def _info(stream: TokenStream) -> TokenStreamInfo:
    scope = stream.scope
    return TokenStreamInfo(
        key=(stream.execution_id, scope.node_id),
        namespace=scope.namespace,
        config=stream.config,
        buffer_size=stream.config.buffer_size,
        buffered=stream.buffered,
        total_tokens=stream.received,
        rejected=stream.rejected,
        delivered=stream.delivered,
        updates=stream.updates,
        failures=stream.failures,
    )
