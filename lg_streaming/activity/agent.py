"""Agents: their state, output, logs and metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_args

from typing_extensions import Unpack

from lg_streaming.activity.base import (
    PacedActivity,
    check_name,
    drop_none,
    id_or_new,
    is_interruption,
    number,
    value_or_default,
)
from lg_streaming.activity.handler import AgentLogHandler
from lg_streaming.activity.output import Output, OutputBuffer, OutputStream
from lg_streaming.activity.states import AgentState, LogLevel
from lg_streaming.activity.subprocess import Subprocess, run_subprocess, run_subprocess_async
from lg_streaming.errors import BadRequestError, describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lg_streaming.activity.states import AgentStatus
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Priority

__all__ = ["AgentStream", "CaptureOptions"]

logger: logging.Logger = logging.getLogger(__name__)

_STREAMS: Final = frozenset[str](get_args(OutputStream))
_LEVELS: Final[Mapping[str, LogLevel]] = MappingProxyType(
    {**{level: level for level in get_args(LogLevel)}, "warning": "warn", "critical": "fatal"}
)
_ALIVE: Final = frozenset({"idle", "busy", "paused", "error"})

_TRANSITIONS: Final[Mapping[str, tuple[frozenset[str | None], AgentStatus | None]]] = MappingProxyType(
    {
        "spawned": (frozenset({None, "error"}), "idle"),
        "started": (_ALIVE, "busy"),
        "paused": (frozenset({"idle", "busy"}), "paused"),
        "error": (_ALIVE, "error"),
        "stopped": (_ALIVE, "stopped"),
        "output": (_ALIVE, None),
        "log": (_ALIVE, None),
        "metrics": (_ALIVE, None),
        "health": (_ALIVE, None),
    }
)
"""Each step: the states it is legal in, and the state it leads to; None for no change."""


class CaptureOptions(TypedDict, total=False):
    """Options of a captured program."""

    cwd: str | Path | None
    """The folder it runs in; the present one when None."""
    env: Mapping[str, str] | None
    """Its environment; that of this process when None."""
    max_line: int
    """Characters, 1 to 32,768; 8,192 when not given. A longer line is split."""
    grace: float
    """Seconds from SIGTERM to SIGKILL, and for reading pipes that others hold after its end; 5 when not given."""


class AgentStream(PacedActivity[AgentState]):
    """One agent, published step by step; it takes only legal steps.

    | step | from | to |
    |---|---|---|
    | `spawned` | new, error | idle |
    | `started` | idle, busy, paused, error | busy |
    | `paused` | idle, busy | paused |
    | `error` | idle, busy, paused, error | error |
    | `stopped` | idle, busy, paused, error | stopped |
    | `output`, `log`, `metrics`, `health` | idle, busy, paused, error | the same |

    The updates are ``agent:spawned``, ``agent:started``, ``agent:paused``, ``agent:error``, ``agent:stopped``,
    ``agent:output:stdout`` and ``agent:output:stderr``, ``agent:log:<level>``, ``agent:metrics`` and
    ``agent:health``. Each has ``agent_id`` in its data. The scope has ``agent_type``, the ``task_id`` of the agent's
    task, and ``agent_id`` among the extra keys. A first step other than `spawned` publishes ``agent:spawned`` before
    it. Nothing follows stopped.

    Use it as a context manager (``with`` or ``async with``): it is spawned when the block begins and stopped when it
    ends. An exception of the block is published before that.

    Args:
        emitter: Publishes its updates.
        agent_id: 1 to 256 characters; a new id when not given.
        agent_type: The kind of agent; readers can filter by it.
        name: A name for people.
        metadata: Your own fields, sent with ``agent:spawned``.
        interval: Seconds between two publications of metrics. The last ones are never lost: they are published when
            the interval has passed, and before the next change of the state. 0 publishes each.
        buffer_size: Number of the last pieces of output to keep, see `output_buffer`.
        buffer_bytes: Bytes of output to keep.
        include_output: False keeps output without publishing it.
        include_logs: False publishes no logs.
        include_metrics: False changes the state by metrics without publishing them.

    Raises:
        BadRequestError: If an argument is invalid.

    A step raises ``TransitionError`` where it is not legal, ``BadRequestError`` for an invalid value, and the errors of
    `Emitter.event`. It then leaves the agent unchanged. In a decorated node no step raises: a rejection is logged.
    """

    __slots__ = ("_base", "_buffer", "_include_logs", "_include_metrics", "_include_output")

    def __init__(
        self,
        emitter: Emitter,
        agent_id: str | None = None,
        *,
        agent_type: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        interval: float = 2.0,
        buffer_size: int = 100,
        buffer_bytes: int = 65_536,
        include_output: bool = True,
        include_logs: bool = True,
        include_metrics: bool = True,
    ) -> None:
        agent_id = id_or_new(emitter, agent_id, "agent_id")
        scope = emitter.scope
        self._base = emitter.scoped(
            agent_type=agent_type or scope.agent_type, extra={**(scope.extra or {}), "agent_id": agent_id}
        )
        seconds = value_or_default(emitter, lambda: number(interval, "interval", least=0), 2.0)
        super().__init__(self._base, f"agent {agent_id!r}", seconds)
        self._state = AgentState(
            agent_id=agent_id,
            agent_type=agent_type,
            name=name,
            metadata=dict(metadata) if metadata is not None else None,
        )
        self._include_output = include_output
        self._include_logs = include_logs
        self._include_metrics = include_metrics
        self._buffer = OutputBuffer(
            value_or_default(emitter, lambda: int(number(buffer_size, "buffer_size", least=0)), 100),
            value_or_default(emitter, lambda: int(number(buffer_bytes, "buffer_bytes", least=0)), 65_536),
        )

    @property
    def agent_id(self) -> str:
        """Return its id."""
        return self._state.agent_id

    @property
    def status(self) -> AgentStatus | None:
        """Return its status; None until its first update."""
        return self._state.status

    @property
    def debug(self) -> bool:
        """Return whether stack traces may be published (``settings.debug``)."""
        return self._emitter.debug

    def output_buffer(self, stream: OutputStream | None = None) -> list[Output]:
        """Return the last output of ``stream``, or of both streams, oldest first; also after the agent stopped."""
        return self._buffer.pieces(stream)

    # --- the steps ------------------------------------------------------------------------------------------

    def spawned(self) -> None:
        """Publish that the agent exists and is idle; again after an error."""
        with self._guard:
            self._check("spawned")
            self._spawn()

    def started(self, task_id: str | None = None) -> None:
        """Publish that the agent works, on ``task_id`` where given; also after a pause or an error."""
        with self._guard:
            self._check("started")
            if task_id is not None:
                check_name(task_id, "task_id")
            self._ensure_spawned()
            self._emitter, before = self._base.scoped(task_id=task_id) if task_id else self._emitter, self._emitter
            try:
                self._step("started", drop_none(task_id=task_id), task_id=task_id or self._state.task_id)
            except BaseException:
                self._emitter = before
                raise

    def paused(self, reason: str | None = None) -> None:
        """Publish that the agent pauses."""
        with self._guard:
            self._step("paused", drop_none(reason=reason))

    def error(self, error: BaseException | str) -> None:
        """Publish an error. Data: ``error`` ``{message, type}``, with the stack only in debug mode."""
        with self._guard:
            described = describe_error(error, debug=self._emitter.debug)
            self._step("error", {"error": described}, error=described)

    def stopped(self, reason: str | None = None) -> None:
        """Publish that the agent stopped. Data: ``reason``, ``uptime_s``."""
        with self._guard:
            data = drop_none(reason=reason, uptime_s=self._seconds_since(self._state.spawned_at))
            self._step("stopped", data, stopped_at=self._now())
            self._end()

    def output(self, stream: OutputStream, content: str) -> None:
        """Publish a piece of output, unchanged: the joined ``content`` of a stream's updates is the whole stream."""
        with self._guard:
            if stream not in _STREAMS:
                raise BadRequestError(f"{stream!r:.80} is not one of stdout, stderr")
            if not isinstance(content, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not be typed)
                raise BadRequestError(f"output is a string, not {type(content).__name__}")
            self._check("output")
            self._ensure_spawned()
            if self._include_output:
                self._publish_with_id(f"agent:output:{stream}", {"content": content})
            self._buffer.add(stream, content, self._now())

    def log(
        self, level: LogLevel | Literal["warning", "critical"], message: str, context: Mapping[str, Any] | None = None
    ) -> None:
        """Publish a log message. ``fatal`` has the priority ``high``, like ``error``.

        ``warning`` and ``critical`` are read as ``warn`` and ``fatal``.
        """
        with self._guard:
            known_level = _LEVELS.get(level)
            if known_level is None:
                raise BadRequestError(f"{level!r:.80} is not one of debug, info, warn, error, fatal")
            self._log(known_level, drop_none(message=message, context=None if context is None else dict(context)))

    def metrics(
        self,
        *,
        tasks_completed: float | None = None,
        tasks_failed: float | None = None,
        avg_execution_s: float | None = None,
        cpu_percent: float | None = None,
        memory_bytes: float | None = None,
        total_tokens: float | None = None,
        total_cost: float | None = None,
        uptime_s: float | None = None,
        **custom: float,
    ) -> None:
        """Publish metrics: ``{metrics: {…}}`` with the last value of each, 0 where it never had one.

        ``uptime_s`` defaults to the seconds since it was spawned. ``custom`` takes any other name.
        """
        with self._guard:
            self._check("metrics")
            values = drop_none(
                tasks_completed=tasks_completed,
                tasks_failed=tasks_failed,
                avg_execution_s=avg_execution_s,
                cpu_percent=cpu_percent,
                memory_bytes=memory_bytes,
                total_tokens=total_tokens,
                total_cost=total_cost,
                uptime_s=uptime_s,
            )
            changed = {name: number(value, name) for name, value in {**custom, **values}.items()}
            self._ensure_spawned()
            changed.setdefault("uptime_s", self._seconds_since(self._state.spawned_at) or 0)
            metrics = {**self._state.metrics, **changed}
            if self._include_metrics:
                self._offer(metrics)
            self._state = replace(self._state, metrics=metrics)

    def health(self, healthy: bool, score: float = 100, issues: Iterable[str] = ()) -> None:  # noqa: FBT001 (the one value of this step)
        """Publish its health: ``{healthy, score, issues?, last_check}``.

        Args:
            healthy: True if it can work.
            score: 0 to 100.
            issues: Descriptions of what is wrong.
        """
        with self._guard:
            issues = [issues] if isinstance(issues, str) else list(issues)
            data = {
                "healthy": bool(healthy),
                "score": number(score, "score", least=0, most=100),
                **drop_none(issues=issues or None),
                "last_check": self._now().isoformat(),
            }
            self._step("health", data, health=data)

    # --- output of programs and loggers ---------------------------------------------------------------------

    async def capture_output(
        self,
        command: Sequence[str | Path],
        **options: Unpack[CaptureOptions],
    ) -> int:
        """Run a program and publish its output, line by line, as it prints it.

        The output of each stream is complete and in order: joined, the contents are all that the program wrote. Bytes
        that are not UTF-8 become U+FFFD. A line has its line end; the last one may lack it. An update that is rejected
        is logged. A run does not end as idle while the program works, even without output.

        When this is cancelled, the process group of the program gets SIGTERM, and SIGKILL ``grace`` seconds later. The
        remaining output is published before the cancellation continues.

        Args:
            command: The program and its arguments, without a shell. Its input is empty.
            options: See `CaptureOptions`.

        Returns:
            The exit code; of a program that a signal ended, the negative number of the signal.

        Raises:
            BadRequestError: If the command is not a list (in a decorated node, too), or a number is invalid.
            TransitionError: If the agent has stopped. In a decorated node the program runs nevertheless.
            UnsupportedPlatformError: If this is not Linux.
            OSError: If the program cannot be started.
        """
        create, grace = self._prepare_capture(command, **options)
        with self._emitter.keep_alive():
            return await run_subprocess_async(create, grace)

    def capture_output_sync(
        self,
        command: Sequence[str | Path],
        **options: Unpack[CaptureOptions],
    ) -> int:
        """Do the same in code without an event loop. An exception such as ``KeyboardInterrupt`` ends the program.

        It blocks its thread until the program has ended, and with it any event loop of that thread.
        """
        create, grace = self._prepare_capture(command, **options)
        with self._emitter.keep_alive():
            return run_subprocess(create, grace)

    def log_handler(self, level: int | str = logging.NOTSET) -> AgentLogHandler:
        """Return a handler for Python's logging that publishes records as `log` does; see `AgentLogHandler`."""
        return AgentLogHandler(self, level)

    def log_record(self, level: LogLevel, data: dict[str, Any]) -> None:
        """Publish a log record, unless the agent has stopped. Raises the errors of `Emitter.event`."""
        with self._lock:
            if not self._ended:
                self._log(level, data)

    def note_failure(self) -> None:
        """Count a failure that no update reports."""
        self._emitter.note_failure()

    def _prepare_capture(
        self,
        command: Sequence[str | Path],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        max_line: int = 8_192,
        grace: float = 5.0,
    ) -> tuple[Callable[[], Subprocess], float]:
        max_length = value_or_default(
            self._emitter, lambda: int(number(max_line, "max_line", least=1, most=32_768)), 8_192
        )
        seconds = value_or_default(self._emitter, lambda: number(grace, "grace", least=0), 5.0)
        with self._guard:
            self._check("output")
            self._ensure_spawned()
        return lambda: Subprocess(command, self._on_output, cwd=cwd, env=env, max_line=max_length), seconds

    def _on_output(self, stream: OutputStream, piece: str) -> None:
        with self._lock:
            if self._ended:
                return
            self._buffer.add(stream, piece, self._now())
            if self._include_output:
                self._publish_or_log(f"agent:output:{stream}", {"agent_id": self.agent_id, "content": piece})

    # --- as a block -----------------------------------------------------------------------------------------

    def _on_enter(self) -> None:
        if self._state.status is None:
            self.spawned()

    def _on_exit(self, error: BaseException | None) -> None:
        if self._ended:
            return
        if error is not None and not is_interruption(error):
            self.error(error)
            error = None
        self.stopped(None if error is None else type(error).__name__)

    # --- internal ----------------------------------------------------------------------------------------------

    def _check(self, step: str) -> None:
        legal, _ = _TRANSITIONS[step]
        status = self._state.status
        if status is not None or "idle" not in legal:
            self._require(step, status, legal)

    def _ensure_spawned(self) -> None:
        if self._state.status is None:
            self._spawn()

    def _spawn(self) -> None:
        state = self._state
        data = drop_none(agent_type=state.agent_type, name=state.name, metadata=state.metadata)
        self._latest.flush()
        self._publish_with_id("agent:spawned", {"status": "idle", **data})
        self._state = replace(state, status="idle", spawned_at=state.spawned_at or self._now())

    def _step(self, step: str, data: Mapping[str, Any], **changes: Any) -> None:
        """Take a step: publish its update, and then change the state."""
        self._check(step)
        self._ensure_spawned()
        self._latest.flush()
        status = _TRANSITIONS[step][1] or self._state.status
        self._publish_with_id(f"agent:{step}", {"status": status, **data})
        self._state = replace(self._state, status=status, **changes)

    def _log(self, level: LogLevel, data: Mapping[str, Any]) -> None:
        self._check("log")
        self._ensure_spawned()
        if self._include_logs:
            self._publish_with_id(f"agent:log:{level}", {"level": level, **data}, "high" if level == "fatal" else None)

    def _publish_with_id(self, type: str, data: Mapping[str, Any], priority: Priority | None = None) -> None:
        self._publish(type, {"agent_id": self.agent_id, **data}, priority)

    def _paced_update(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "agent:metrics", {"agent_id": self.agent_id, "status": self._state.status, "metrics": value}
