"""Token streams as a service: those of decorated nodes, and streams of your own for text that comes from elsewhere."""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import reactivex
from reactivex import operators as ops
from reactivex.scheduler import NewThreadScheduler

from lg_streaming.checks import seconds
from lg_streaming.emitter import Emitter
from lg_streaming.errors import BadRequestError, TokenStreamingError
from lg_streaming.events import Scope, check_execution_id
from lg_streaming.filters import UpdateFilter
from lg_streaming.fork import bury, new_rlock, restart_after_fork
from lg_streaming.pipeline.token_following import TOKENS, GlobalTokenStream
from lg_streaming.pipeline.token_options import TokenOptions
from lg_streaming.pipeline.tokens import TokenPipeline
from lg_streaming.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reactivex import Observable
    from reactivex.abc import SchedulerBase

    from lg_streaming.events import StreamUpdate
    from lg_streaming.pipeline.token_following import Observe
    from lg_streaming.settings import TokenDefaults

__all__ = ["TokenStats", "TokenStreamInfo", "TokenStreamingService"]

logger: logging.Logger = logging.getLogger(__name__)

_WINDOW: Final = 10
"""Seconds over which the rate is taken."""
_IDLE: Final = 300.0
"""Seconds after which a stream of an execution that does not run is closed."""


class Registry(Protocol):
    """The executions of a hub."""

    def is_running(self, execution_id: str) -> bool:
        """Whether a run of the execution is open."""
        ...


class TokenHub(Protocol):
    """What the service needs of a hub."""

    @property
    def publisher(self) -> Publisher:
        """Where updates go."""
        ...

    @property
    def registry(self) -> Registry:
        """Which executions run."""
        ...

    @property
    def observe(self) -> Observe:
        """An execution's updates, history first, as an observable."""
        ...


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
    """Tells parallel branches of one node apart; None for a stream of your own."""
    config: TokenDefaults
    """The options in force."""
    buffer_size: int
    buffered: int
    """Tokens that are held now."""
    total_tokens: int
    """Tokens received; those that the filter rejected too."""
    rejected: int
    delivered: int
    updates: int
    failures: int
    """Calls of its processor that failed."""


class _Own:
    """A stream of the service's own."""

    __slots__ = ("counters", "pipeline", "scope", "touched_at")

    def __init__(self, pipeline: TokenPipeline, now: float) -> None:
        self.pipeline = pipeline
        self.scope = pipeline.emitter.scope
        self.counters = {"token": itertools.count(), "thinking": itertools.count()}
        self.touched_at = now


class _Meter:
    """Counts tokens, and how many came in the last seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._seconds: dict[int, int] = {}
        self.total = 0

    def add(self, count: int) -> None:
        self.total += count
        second = int(self._clock())
        self._seconds[second] = self._seconds.get(second, 0) + count
        while len(self._seconds) > _WINDOW + 1:
            del self._seconds[next(iter(self._seconds))]

    @property
    def rate(self) -> float:
        now = self._clock()
        recent = sum(count for second, count in self._seconds.items() if second > now - _WINDOW - 1)
        return round(recent / min(_WINDOW, max(1.0, now - self._began)), 3)


class TokenStreamingService:
    """All token streams of a hub. Get it as ``streaming.tokens`` or ``hub.tokens``.

    Text of decorated nodes comes here by itself. For text from elsewhere: ``tokens.stream_token("exec-1", "write",
    "Hel")``, with the same filter, processor and batches; an execution and a stream that are not there yet are
    opened. Readers get the processed updates, from the log, so a late one gets them too.

    Thread-safe; never waits.

    Args:
        hub: Where updates go and come from.
        clock: Seconds that never go back.
    """

    def __init__(self, hub: TokenHub, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._clock = clock
        self._lock = new_rlock()
        self._open: dict[str, set[TokenPipeline]] = {}
        self._own: dict[tuple[str, str], _Own] = {}
        self._meter = _Meter(clock)
        self._global = GlobalTokenStream(hub, self._executions)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's streams, which go on there."""
        bury(self._open, self._own)
        self._open, self._own = {}, {}

    # --- streams of your own --------------------------------------------------------------------------------

    def initialize_token_stream(
        self, execution_id: str, node_id: str, config: TokenOptions | Mapping[str, Any] | None = None
    ) -> None:
        """Opens a stream. One that is open keeps its config; that is a warning in the log.

        Args:
            execution_id: The execution; its run begins with the first token, if not before.
            node_id: Which node the text is said to be of.
            config: Options as of ``@stream_token``; those left out are the execution's, or the settings'.

        Raises:
            BadRequestError: The id cannot name an execution.
            TokenStreamingError: The node id or an option cannot be used.
        """
        options = config if isinstance(config, TokenOptions) else TokenOptions.of(**(config or {}))
        with self._lock:
            if (execution_id, node_id) in self._own:
                logger.warning("the token stream of %r, %r is open already: it stays as it is", execution_id, node_id)
            else:
                self._opened(execution_id, node_id, options)

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
        """One piece of text. A stream that is not open is opened with the execution's options.

        Args:
            execution_id: The execution.
            node_id: The node.
            token: The text; an empty one is not sent.
            metadata: Given to the processor, and sent where ``include_metadata`` is set. Give one object for the
                tokens of a message: tokens with another one are not joined.
            type: ``token``, or ``thinking`` for reasoning.
            role: Whose text it is.
            message_id: Tells messages of one stream apart.

        Raises:
            BadRequestError: The id cannot name an execution.
            TokenStreamingError: The node id cannot be used.
        """
        if not token:
            return
        with self._lock:
            own = self._own.get((execution_id, node_id))
            if own is None:
                own = self._opened(execution_id, node_id, TokenOptions())
            own.touched_at = self._clock()
            if message_id != own.scope.message_id:
                own.scope = own.scope.derive(message_id=message_id)
            data: dict[str, Any] = {"content": token, "index": next(own.counters[type]), "role": role}
            scope = own.scope
        if metadata:
            data["metadata"] = metadata
        own.pipeline.take(type, data, scope)

    def _opened(self, execution_id: str, node_id: str, options: TokenOptions) -> _Own:
        check_execution_id(execution_id)
        if not isinstance(node_id, str) or not node_id:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenStreamingError(f"a node id is a string and not empty, not {node_id!r:.80}")
        emitter = Emitter(self._hub.publisher, execution_id, Scope(node_id=node_id), strict=False)
        own = self._own[execution_id, node_id] = _Own(TokenPipeline(options, emitter), self._clock())
        return own

    def flush_tokens(self, execution_id: str, node_id: str) -> None:
        """All text of a node so far leaves now. A no-op when none is held."""
        for pipeline in self._of(execution_id):
            if pipeline.emitter.scope.node_id == node_id:
                pipeline.flush()

    def close_token_stream(self, execution_id: str, node_id: str) -> None:
        """Closes a stream of your own: what is held leaves now. A no-op when it is not open.

        Streams of decorated nodes end with their node; of those, what is held leaves.
        """
        self.flush_tokens(execution_id, node_id)
        with self._lock:
            own = self._own.pop((execution_id, node_id), None)
        if own is not None:
            own.pipeline.close()

    def close_execution(self, execution_id: str) -> None:
        """Close all streams of one execution: see `RunLifecycle`."""
        self.close_execution_token_streams(execution_id)

    def close_execution_token_streams(self, execution_id: str) -> None:
        """The same for all streams of one execution. It happens by itself when its run ends."""
        with self._lock:
            nodes = [node for execution, node in self._own if execution == execution_id]
        for node_id in nodes:
            self.close_token_stream(execution_id, node_id)
        self.flush_execution(execution_id)

    # --- reading --------------------------------------------------------------------------------------------

    def get_token_stream(self, execution_id: str, node_id: str | None = None) -> Observable[StreamUpdate]:
        """The ``token`` and ``thinking`` updates of one node, or of all nodes of an execution, from the first on.

        It completes when the execution's run ends. Subscribing before anything has started is allowed. On which
        thread updates come: see `StreamHub.observe`.

        Raises (when subscribed):
            BadRequestError: The id cannot name an execution.
        """
        nodes = [node_id] if node_id is not None else None
        return self._hub.observe(execution_id, filter=UpdateFilter.of(types=TOKENS, node_ids=nodes))

    def get_global_token_stream(self) -> Observable[StreamUpdate]:
        """The same of all executions: those that have a token stream open, and those that open one from now on.

        It never completes. Updates of one execution are in order; between executions there is no order. Subscribed
        on an event loop, updates come on that loop; elsewhere, on threads, one update at a time.
        """
        return self._global.observable()

    def statistics(self) -> TokenStats:
        """Counts, as they are now."""
        with self._lock:
            waiting = [pipeline for pipelines in self._open.values() for pipeline in pipelines]
        for pipeline in waiting:
            pipeline.report()
        with self._lock:
            return TokenStats(
                active_streams=len(waiting), total_tokens=self._meter.total, tokens_per_second=self._meter.rate
            )

    def get_token_stats(
        self, *, interval: float = 5.0, scheduler: SchedulerBase | None = None
    ) -> Observable[TokenStats]:
        """The counts: now, and then every ``interval`` seconds, on ``scheduler`` (a thread of its own when None).

        Raises:
            BadRequestError: ``interval`` is no number of seconds above 0.
        """
        seconds().check("interval", interval, BadRequestError)
        timer = scheduler or NewThreadScheduler()
        return reactivex.timer(0.0, interval, scheduler=timer).pipe(ops.map(lambda _: self.statistics()))

    def get_active_token_streams(self) -> list[TokenStreamInfo]:
        """The streams that are open."""
        with self._lock:
            return [_info(pipeline) for pipelines in self._open.values() for pipeline in pipelines]

    # --- for the pipelines and the hub ----------------------------------------------------------------------

    def attach(self, stream: TokenPipeline) -> None:
        """A stream opens."""
        execution_id = stream.emitter.execution_id
        with self._lock:
            self._open.setdefault(execution_id, set()).add(stream)
        self._global.begins(execution_id)

    def detach(self, stream: TokenPipeline) -> None:
        """A stream is closed."""
        execution_id = stream.emitter.execution_id
        with self._lock:
            known = self._open.get(execution_id)
            if known is not None:
                known.discard(stream)
                if not known:
                    del self._open[execution_id]

    def count(self, tokens: int) -> None:
        """So many tokens came in since the last time."""
        if tokens:
            with self._lock:
                self._meter.add(tokens)

    def _executions(self) -> list[str]:
        with self._lock:
            return list(self._open)

    def _of(self, execution_id: str) -> list[TokenPipeline]:
        if execution_id not in self._open:
            return []
        with self._lock:
            return list(self._open.get(execution_id, ()))

    def flush_execution(self, execution_id: str) -> None:
        """All text of an execution leaves now: its run is about to end."""
        for pipeline in self._of(execution_id):
            pipeline.flush()

    def sweep(self) -> None:
        """Closes streams of your own that nobody has written to for five minutes and whose execution does not run."""
        now = self._clock()
        with self._lock:
            idle = [key for key, own in self._own.items() if now - own.touched_at >= _IDLE]
        for execution_id, node_id in idle:
            if not self._hub.registry.is_running(execution_id):
                self.close_token_stream(execution_id, node_id)

    def close(self) -> None:
        """All text leaves now, and all streams of your own are closed."""
        for execution_id in self._executions():
            self.close_execution_token_streams(execution_id)


def _info(pipeline: TokenPipeline) -> TokenStreamInfo:
    scope = pipeline.emitter.scope
    return TokenStreamInfo(
        key=(pipeline.emitter.execution_id, scope.node_id),
        namespace=scope.namespace,
        config=pipeline.config,
        buffer_size=pipeline.config.buffer_size,
        buffered=pipeline.buffered,
        total_tokens=pipeline.received,
        rejected=pipeline.rejected,
        delivered=pipeline.delivered,
        updates=pipeline.updates,
        failures=pipeline.failures,
    )
