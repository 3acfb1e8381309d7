"""Agents: who works, in which state, and what it puts out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.activity.base import PacedActivity, accepted, check_name, id_of, is_interruption, known, number
from lg_streaming.activity.handler import AgentLogHandler
from lg_streaming.activity.output import Output, OutputBuffer, OutputStream
from lg_streaming.activity.states import AgentState
from lg_streaming.activity.subprocess import Subprocess, run_child, run_child_async
from lg_streaming.errors import BadRequestError, describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lg_streaming.activity.states import AgentStatus
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Priority

__all__ = ["AgentStream", "LogLevel"]

logger: logging.Logger = logging.getLogger(__name__)

LogLevel = Literal["debug", "info", "warn", "error", "fatal"]

_STREAMS: Final = frozenset[str](get_args(OutputStream))
_READ_AS: Final[Mapping[str, LogLevel]] = MappingProxyType(
    {**{level: level for level in get_args(LogLevel)}, "warning": "warn", "critical": "fatal"}
)
_ALIVE: Final = frozenset({"idle", "busy", "paused", "error"})

_LEGAL: Final[Mapping[str, tuple[frozenset[str | None], AgentStatus | None]]] = MappingProxyType(
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
"""From which states a step may be taken, and to which it leads; None as the target: it stays."""


class AgentStream(PacedActivity):
    """One agent: tells of it, step by step, and takes only steps that can follow.

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
    ``agent:health``. Each has ``agent_id`` in its data, and the scope has ``agent_type``, ``agent_id`` among the extra
    keys, and the ``task_id`` the agent works at. The first step of a new agent other than `spawned` says `spawned`
    before it. Nothing follows stopped.

    Use it as a context manager (``with`` or ``async with``): it is spawned when the block begins and stopped when it
    ends, after its error where there was one.

    Args:
        emitter: Where it is told.
        agent_id: 1 to 256 characters; made when not given.
        agent_type: What kind of agent it is; readers can filter by it.
        name: What people call it.
        metadata: Your own, sent with ``agent:spawned``.
        interval: Metrics leave at most once in so many seconds. The last ones are never lost: they leave when the
            interval is over, and before the next change of its state. 0 lets each leave.
        buffer_size: So many of the last pieces of output are kept, see `output_buffer`.
        buffer_bytes: And at most so many bytes of them.
        include_output: False: output is kept and not published.
        include_logs: False: logs are not published.
        include_metrics: False: metrics change the state and are not published.

    Raises:
        BadRequestError: An argument cannot be used.

    Each step raises ``TransitionError`` where it cannot follow, ``BadRequestError`` for a value that cannot be used,
    and what `Emitter.event` raises; in all three cases the agent is as it was. In a decorated node nothing raises: what
    is refused is logged.
    """

    __slots__ = (
        "_base",
        "_buffer",
        "_include_logs",
        "_include_metrics",
        "_include_output",
        "_state",
    )

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
        agent_id = id_of(emitter, agent_id, "agent_id")
        scope = emitter.scope
        self._base = emitter.scoped(
            agent_type=agent_type or scope.agent_type, extra={**(scope.extra or {}), "agent_id": agent_id}
        )
        seconds = accepted(emitter, lambda: number(interval, "interval", least=0), 2.0)
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
            accepted(emitter, lambda: int(number(buffer_size, "buffer_size", least=0)), 100),
            accepted(emitter, lambda: int(number(buffer_bytes, "buffer_bytes", least=0)), 65_536),
        )

    @property
    def agent_id(self) -> str:
        """Its id."""
        return self._state.agent_id

    @property
    def status(self) -> AgentStatus | None:
        """What it does; None as long as nothing was published of it."""
        return self._state.status

    @property
    def state(self) -> AgentState:
        """What is known of it now."""
        return self._state

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave (``settings.debug``)."""
        return self._emitter.debug

    def output_buffer(self, stream: OutputStream | None = None) -> list[Output]:
        """The last pieces of output, oldest first: of both streams, or of one. They stay after the agent stopped."""
        return self._buffer.pieces(stream)

    # --- the steps ------------------------------------------------------------------------------------------

    def spawned(self) -> None:
        """It is there, with nothing to do; also again after an error."""
        with self._refusing:
            self._check("spawned")
            self._spawn()

    def started(self, task_id: str | None = None) -> None:
        """It works: at ``task_id``, where given. Also: it goes on after a pause or an error."""
        with self._refusing:
            self._check("started")
            if task_id is not None:
                check_name(task_id, "task_id")
            self._ensure_spawned()
            self._emitter, before = self._base.scoped(task_id=task_id) if task_id else self._emitter, self._emitter
            try:
                self._step("started", known(task_id=task_id), task_id=task_id or self._state.task_id)
            except BaseException:
                self._emitter = before
                raise

    def paused(self, reason: str | None = None) -> None:
        """It rests."""
        with self._refusing:
            self._step("paused", known(reason=reason))

    def error(self, error: BaseException | str) -> None:
        """Something went wrong. Data: ``error`` ``{message, type}`` (a stack only in debug mode)."""
        with self._refusing:
            described = describe_error(error, debug=self._emitter.debug)
            self._step("error", {"error": described}, error=described)

    def stopped(self, reason: str | None = None) -> None:
        """It is gone. Data: ``reason``, ``uptime_s``."""
        with self._refusing:
            told = known(reason=reason, uptime_s=self._seconds_since(self._state.spawned_at))
            self._step("stopped", told, stopped_at=self._now())
            self._end()

    def output(self, stream: OutputStream, content: str) -> None:
        """Something it put out, as it is: joined, the ``content`` of one stream's updates is what came."""
        with self._refusing:
            if stream not in _STREAMS:
                raise BadRequestError(f"{stream!r:.80} is not one of stdout, stderr")
            if not isinstance(content, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not be typed)
                raise BadRequestError(f"output is a string, not {type(content).__name__}")
            self._check("output")
            self._ensure_spawned()
            if self._include_output:
                self._tell(f"agent:output:{stream}", {"content": content})
            self._buffer.add(stream, content, self._now())

    def log(
        self, level: LogLevel | Literal["warning", "critical"], message: str, context: Mapping[str, Any] | None = None
    ) -> None:
        """Something it noted. ``fatal`` is published with the priority ``high``, like ``error``.

        ``warning`` and ``critical`` are read as ``warn`` and ``fatal``.
        """
        with self._refusing:
            read = _READ_AS.get(level)
            if read is None:
                raise BadRequestError(f"{level!r:.80} is not one of debug, info, warn, error, fatal")
            told = known(message=message, context=None if context is None else dict(context))
            self._log(read, told)

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
        **own: float,
    ) -> None:
        """Figures of it: ``{metrics: {…}}`` with the last value of each; what was never told is 0.

        ``uptime_s`` is the seconds since it was spawned when not given. A name of your own may be any.
        """
        with self._refusing:
            self._check("metrics")
            given = known(
                tasks_completed=tasks_completed,
                tasks_failed=tasks_failed,
                avg_execution_s=avg_execution_s,
                cpu_percent=cpu_percent,
                memory_bytes=memory_bytes,
                total_tokens=total_tokens,
                total_cost=total_cost,
                uptime_s=uptime_s,
            )
            figures = {name: number(value, name) for name, value in {**own, **given}.items()}
            self._ensure_spawned()
            figures.setdefault("uptime_s", self._seconds_since(self._state.spawned_at) or 0)
            metrics = {**self._state.metrics, **figures}
            if self._include_metrics:
                self._offer(metrics)
            self._state = replace(self._state, metrics=metrics)

    def health(self, healthy: bool, score: float = 100, issues: Iterable[str] = ()) -> None:  # noqa: FBT001 (it is what is told)
        """How it is: ``{healthy, score, issues?, last_check}``.

        Args:
            healthy: Whether it can work.
            score: 0 to 100.
            issues: What is wrong, in words.
        """
        with self._refusing:
            issues = [issues] if isinstance(issues, str) else list(issues)
            said = {
                "healthy": bool(healthy),
                "score": number(score, "score", least=0, most=100),
                **known(issues=issues or None),
                "last_check": self._now().isoformat(),
            }
            self._step("health", said, health=said)

    # --- what others put out --------------------------------------------------------------------------------

    async def capture_output(
        self,
        command: Sequence[str | Path],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        max_line: int = 8_192,
        grace: float = 5.0,
    ) -> int:
        """Runs a program and puts out what it prints, line by line, as it prints it.

        Complete, and in order for each stream: joined, the contents are what the program wrote, with U+FFFD for bytes
        that are not UTF-8. A line has its line end; the last one may lack it. An update that is refused is logged, and
        disturbs nothing. The run does not end as idle while the program works, also when it prints nothing.

        When it is cancelled, the program and all it started in its process group get SIGTERM, and SIGKILL ``grace``
        seconds later, and whatever was written is put out before the cancellation passes on.

        Args:
            command: The program and its arguments, without a shell. Its input is empty.
            cwd: Where it runs; here when None.
            env: Its environment; ours when None.
            max_line: Characters, 1 to 32,768. A longer line comes in pieces.
            grace: Seconds, see above. Also how long to listen, after the program ended, to others that hold its pipes.

        Returns:
            The exit code; of a program that a signal ended, the negative number of the signal.

        Raises:
            BadRequestError: The command is not a list (in a decorated node, too), or a number cannot be used.
            TransitionError: The agent has stopped. In a decorated node the program runs nevertheless.
            UnsupportedPlatformError: If this is not Linux.
            OSError: The program cannot be started.
        """
        make, grace = self._capturing(command, cwd, env, max_line, grace)
        with self._emitter.keep_alive():
            return await run_child_async(make, grace)

    def capture_output_sync(
        self,
        command: Sequence[str | Path],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        max_line: int = 8_192,
        grace: float = 5.0,
    ) -> int:
        """Do the same in code without an event loop. An exception such as ``KeyboardInterrupt`` ends the program.

        It blocks its thread until the program has ended. Call it on an event loop's thread and the loop stands still.
        """
        make, grace = self._capturing(command, cwd, env, max_line, grace)
        with self._emitter.keep_alive():
            return run_child(make, grace)

    def log_handler(self, level: int | str = logging.NOTSET) -> AgentLogHandler:
        """A handler for Python's logging that says records as `log` does; see `AgentLogHandler`."""
        return AgentLogHandler(self, level)

    def say_record(self, level: LogLevel, told: dict[str, Any]) -> None:
        """A log record; passed over when the agent has stopped. Raises what `Emitter.event` raises."""
        with self._lock:
            if not self._ended:
                self._log(level, told)

    def note_failure(self) -> None:
        """Counts something that failed and could not be told otherwise."""
        self._emitter.note_failure()

    def _capturing(
        self,
        command: Sequence[str | Path],
        cwd: str | Path | None,
        env: Mapping[str, str] | None,
        max_line: int,
        grace: float,
    ) -> tuple[Callable[[], Subprocess], float]:
        longest = accepted(self._emitter, lambda: int(number(max_line, "max_line", least=1, most=32_768)), 8_192)
        seconds = accepted(self._emitter, lambda: number(grace, "grace", least=0), 5.0)
        with self._refusing:
            self._check("output")
            self._ensure_spawned()
        return lambda: Subprocess(command, self._captured, cwd=cwd, env=env, max_line=longest), seconds

    def _captured(self, stream: OutputStream, piece: str) -> None:
        with self._lock:
            if self._ended:
                return
            self._buffer.add(stream, piece, self._now())
            if self._include_output:
                self._publish_late(f"agent:output:{stream}", {"agent_id": self.agent_id, "content": piece})

    # --- as a block -----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self._state.status is None:
            self.spawned()

    def _leave(self, error: BaseException | None) -> None:
        if self._ended:
            return
        if error is not None and not is_interruption(error):
            self.error(error)
            error = None
        self.stopped(None if error is None else type(error).__name__)

    # --- below ----------------------------------------------------------------------------------------------

    def _check(self, step: str) -> None:
        legal, _ = _LEGAL[step]
        status = self._state.status
        if status is not None or "idle" not in legal:
            self._require(step, status, legal)

    def _ensure_spawned(self) -> None:
        if self._state.status is None:
            self._spawn()

    def _spawn(self) -> None:
        state = self._state
        told = known(agent_type=state.agent_type, name=state.name, metadata=state.metadata)
        self._latest.flush()
        self._tell("agent:spawned", {"status": "idle", **told})
        self._state = replace(state, status="idle", spawned_at=state.spawned_at or self._now())

    def _step(self, step: str, told: Mapping[str, Any], **changes: Any) -> None:
        """Takes a step: publishes what there is to tell, and then changes the state."""
        self._check(step)
        self._ensure_spawned()
        self._latest.flush()
        status = _LEGAL[step][1] or self._state.status
        self._tell(f"agent:{step}", {"status": status, **told})
        self._state = replace(self._state, status=status, **changes)

    def _log(self, level: LogLevel, told: Mapping[str, Any]) -> None:
        self._check("log")
        self._ensure_spawned()
        if self._include_logs:
            self._tell(f"agent:log:{level}", {"level": level, **told}, "high" if level == "fatal" else None)

    def _tell(self, type: str, told: Mapping[str, Any], priority: Priority | None = None) -> None:
        self._publish(type, {"agent_id": self.agent_id, **told}, priority)

    def _paced(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "agent:metrics", {"agent_id": self.agent_id, "status": self._state.status, "metrics": value}
