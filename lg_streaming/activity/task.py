"""Tasks: what a program works at, from its creation to its end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.activity.base import PacedActivity, accepted, check_name, id_of, is_interruption, known, number
from lg_streaming.activity.states import TaskState
from lg_streaming.errors import BadRequestError, describe_error
from lg_streaming.events import Priority, parse_priority

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lg_streaming.activity.states import TaskStatus
    from lg_streaming.emitter import Emitter

__all__ = ["IntermediateType", "TaskStream"]

logger: logging.Logger = logging.getLogger(__name__)

IntermediateType = Literal["partial", "checkpoint", "artifact"]

_INTERMEDIATE: Final = frozenset[str](get_args(IntermediateType))
_UNFINISHED: Final = frozenset({"pending", "queued", "assigned", "running"})
_WAITING: Final = frozenset({"pending", "queued", "assigned"})
_RUNNING: Final = frozenset({"running"})

_LEGAL: Final[Mapping[str, tuple[frozenset[str], TaskStatus | None]]] = MappingProxyType(
    {
        "queued": (frozenset({"pending", "assigned"}), "queued"),
        "assigned": (_WAITING, "assigned"),
        "started": (_WAITING, "running"),
        "progress": (_RUNNING, None),
        "intermediate": (_RUNNING, None),
        "metrics": (_UNFINISHED, None),
        "completed": (_RUNNING, "completed"),
        "failed": (_UNFINISHED, "failed"),
        "cancelled": (_UNFINISHED, "cancelled"),
    }
)
"""From which states a step may be taken, and to which it leads; None: it stays."""


class TaskStream(PacedActivity):
    """One task: tells of it, step by step, and takes only steps that can follow.

    | step | from | to |
    |---|---|---|
    | `created` | new | pending |
    | `queued` | pending, assigned | queued |
    | `assigned` | pending, queued, assigned | assigned |
    | `started` | pending, queued, assigned | running |
    | `progress`, `intermediate` | running | running |
    | `metrics` | pending, queued, assigned, running | the same |
    | `completed` | running | completed |
    | `failed` | pending, queued, assigned, running | failed |
    | `cancelled` | pending, queued, assigned, running | cancelled |

    Each publishes ``task:<step>`` with ``task_id`` and ``status`` in its data and the task's id as the scope's
    ``task_id``. The first step of a new task other than `created` says `created` before it. Nothing follows
    completed, failed and cancelled.

    Use it as a context manager (``with`` or ``async with``): it starts when the block begins, and is completed, failed
    or cancelled by how the block ends, unless the block ended it itself. An exception passes on unchanged; a graph that
    waits for a human cancels the task with the reason ``GraphInterrupt``.

    Args:
        emitter: Where it is told.
        task_id: 1 to 256 characters; made when not given.
        name: What people call it.
        description: In a sentence.
        type: A free word.
        priority: ``low``, ``medium``, ``high`` or ``critical``; ``normal`` is read as ``medium``.
        agent_id: Who works at it, when that is known already.
        dependencies: Ids of tasks that come before it.
        metadata: Your own, sent with ``task:created``.
        interval: At most one progress leaves in so many seconds. The last one is never lost: it leaves when the
            interval is over, and before any other step. 0 lets each leave.
        include_progress: False: progress changes the state and is not published.
        include_intermediate: The same for intermediate results.
        include_metrics: The same for metrics.

    Raises:
        BadRequestError: The id, the priority or the interval cannot be used.

    Each step raises ``TransitionError`` where it cannot follow, ``BadRequestError`` for a value that cannot be used,
    and what `Emitter.event` raises; in all three cases the task is as it was. In a decorated node nothing raises: what
    is refused is logged.
    """

    __slots__ = ("_include_intermediate", "_include_metrics", "_include_progress", "_state")

    def __init__(
        self,
        emitter: Emitter,
        task_id: str | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        type: str | None = None,
        priority: str = "medium",
        agent_id: str | None = None,
        dependencies: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        interval: float = 1.0,
        include_progress: bool = True,
        include_intermediate: bool = True,
        include_metrics: bool = True,
    ) -> None:
        task_id = id_of(emitter, task_id, "task_id")
        seconds = accepted(emitter, lambda: number(interval, "interval", least=0), 1.0)
        super().__init__(emitter.scoped(task_id=task_id), f"task {task_id!r}", seconds)
        self._state = TaskState(
            task_id=task_id,
            name=name,
            description=description,
            type=type,
            priority=accepted(emitter, lambda: parse_priority(priority), "medium"),
            agent_id=agent_id,
            dependencies=accepted(emitter, lambda: _ids(dependencies), ()),
            metadata=dict(metadata) if metadata is not None else None,
        )
        self._include_progress = include_progress
        self._include_intermediate = include_intermediate
        self._include_metrics = include_metrics

    @property
    def task_id(self) -> str:
        """Its id."""
        return self._state.task_id

    @property
    def status(self) -> TaskStatus | None:
        """Where it is; None as long as nothing was published of it."""
        return self._state.status

    @property
    def state(self) -> TaskState:
        """What is known of it now."""
        return self._state

    # --- the steps ------------------------------------------------------------------------------------------

    def created(self) -> None:
        """It exists. Data: what it was made with."""
        with self._refusing:
            self._require("created", self._state.status, {None})
            self._create()

    def queued(self) -> None:
        """It waits for its turn."""
        with self._refusing:
            self._step("queued")

    def assigned(self, agent_id: str) -> None:
        """``agent_id`` is to do it."""
        with self._refusing:
            self._step("assigned", told={"agent_id": check_name(agent_id, "agent_id")}, agent_id=agent_id)

    def started(self) -> None:
        """Work begins. Data: ``waited_s``, the seconds since it was created."""
        with self._refusing:
            told = known(agent_id=self._state.agent_id, waited_s=self._seconds_since(self._state.created_at))
            self._step("started", told=told, started_at=self._now())

    def progress(
        self,
        progress: float,
        current_step: str | None = None,
        *,
        current_step_number: int | None = None,
        total_steps: int | None = None,
        eta_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """How far it is.

        Args:
            progress: Percent, 0 to 100.
            current_step: What is being done.
            current_step_number: The number of that step, from 1.
            total_steps: How many steps there are.
            eta_s: Seconds left, as far as you know.
            metadata: Your own.
        """
        with self._refusing:
            self._check("progress")
            said = known(
                progress=number(progress, "progress", least=0, most=100),
                current_step=current_step,
                current_step_number=current_step_number,
                total_steps=total_steps,
                eta_s=None if eta_s is None else number(eta_s, "eta_s", least=0),
                metadata=None if metadata is None else dict(metadata),
            )
            if self._include_progress:
                self._offer(said)
            self._state = replace(self._state, progress=said)

    def intermediate(self, data: object, type: IntermediateType = "partial", *, is_final: bool = False) -> None:
        """A part of the result: ``{data, type, sequence, is_final}``; ``sequence`` counts them from 0."""
        with self._refusing:
            self._check("intermediate")
            if type not in _INTERMEDIATE:
                raise BadRequestError(f"{type!r:.80} is not one of {', '.join(sorted(_INTERMEDIATE))}")
            count = self._state.intermediate_results
            told = {"data": data, "type": type, "sequence": count, "is_final": is_final}
            self._step("intermediate", told, publish=self._include_intermediate, intermediate_results=count + 1)

    def metrics(
        self,
        *,
        execution_s: float | None = None,
        cpu_percent: float | None = None,
        memory_bytes: float | None = None,
        token_count: float | None = None,
        cost_estimate: float | None = None,
        **own: float,
    ) -> None:
        """Figures of it: ``{metrics: {…}}`` with all that were told so far. A name of your own may be any."""
        with self._refusing:
            self._check("metrics")
            given = known(
                execution_s=execution_s,
                cpu_percent=cpu_percent,
                memory_bytes=memory_bytes,
                token_count=token_count,
                cost_estimate=cost_estimate,
            )
            figures = {name: number(value, name) for name, value in {**own, **given}.items()}
            metrics = {**self._state.metrics, **figures}
            self._step("metrics", {"metrics": metrics}, publish=self._include_metrics, metrics=metrics)

    def completed(self, result: object = None) -> None:
        """It is done. Data: ``result``, ``duration_s`` since it started, and its metrics."""
        with self._refusing:
            self._finish("completed", known(result=result, metrics=self._state.metrics or None), result=result)

    def failed(self, error: BaseException | str) -> None:
        """It came to nothing. Data: ``error`` ``{message, type}`` (a stack only in debug mode), and ``duration_s``."""
        with self._refusing:
            described = describe_error(error, debug=self._emitter.debug)
            self._finish("failed", {"error": described}, priority="high", error=described)

    def cancelled(self, reason: str | None = None) -> None:
        """It was given up. Data: ``reason``, ``duration_s``."""
        with self._refusing:
            self._finish("cancelled", known(reason=reason), reason=reason)

    # --- as a block -----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self._state.status != "running":
            self.started()

    def _leave(self, error: BaseException | None) -> None:
        if self._state.status != "running":
            return
        if error is None:
            self.completed()
        elif is_interruption(error):
            self.cancelled(type(error).__name__)
        else:
            self.failed(error)

    # --- below --------------------------------------------------------------------------------------------

    def _check(self, step: str) -> None:
        legal, _ = _LEGAL[step]
        status = self._state.status
        if status is not None or "pending" not in legal:
            self._require(step, status, legal)

    def _create(self) -> None:
        state, now = self._state, self._now()
        about = known(
            name=state.name,
            description=state.description,
            type=state.type,
            agent_id=state.agent_id,
            dependencies=list(state.dependencies) or None,
            metadata=state.metadata,
        )
        self._publish(
            "task:created", {"task_id": state.task_id, "status": "pending", "priority": state.priority, **about}
        )
        self._state = replace(state, status="pending", created_at=now)

    def _step(
        self,
        step: str,
        told: Mapping[str, Any] = MappingProxyType({}),
        *,
        publish: bool = True,
        priority: Priority | None = None,
        **changes: Any,
    ) -> None:
        """Takes a step: publishes what there is to tell, and then changes the state."""
        self._check(step)
        if self._state.status is None:
            self._create()
        status = _LEGAL[step][1] or self._state.status
        if publish:
            self._latest.flush()
            self._publish(f"task:{step}", {"task_id": self.task_id, "status": status, **told}, priority)
        self._state = replace(self._state, status=status, **changes)

    def _finish(self, step: str, told: Mapping[str, Any], *, priority: Priority | None = None, **changes: Any) -> None:
        duration = known(duration_s=self._seconds_since(self._state.started_at))
        self._step(step, {**told, **duration}, priority=priority, ended_at=self._now(), **changes)
        self._end()

    def _paced(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "task:progress", {"task_id": self.task_id, "status": "running", **value}


def _ids(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise BadRequestError("dependencies is a list of task ids, not one string")
    return tuple(given)
