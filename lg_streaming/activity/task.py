"""Tasks: units of work, from creation to end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.activity.base import (
    PacedActivity,
    check_name,
    drop_none,
    id_or_new,
    is_interruption,
    number,
    value_or_default,
)
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

_TRANSITIONS: Final[Mapping[str, tuple[frozenset[str], TaskStatus | None]]] = MappingProxyType(
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
"""Each step: the states it is legal in, and the state it leads to; None for no change."""


class TaskStream(PacedActivity[TaskState]):
    """One task, published step by step; it takes only legal steps.

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
    ``task_id``. A first step other than `created` publishes ``task:created`` before it. Nothing follows completed,
    failed and cancelled.

    Use it as a context manager (``with`` or ``async with``): it starts when the block begins. The end of the block
    completes, fails or cancels the task, unless the block ended it. An exception propagates unchanged. A graph that
    waits for a human cancels the task with the reason ``GraphInterrupt``.

    Args:
        emitter: Publishes its updates.
        task_id: 1 to 256 characters; a new id when not given.
        name: A name for people.
        description: A sentence for people.
        type: A word of your own.
        priority: ``low``, ``medium``, ``high`` or ``critical``; ``normal`` is read as ``medium``.
        agent_id: The agent that works on it, where it is assigned already.
        dependencies: Ids of tasks that come before it.
        metadata: Your own fields, sent with ``task:created``.
        interval: Seconds between two publications of progress. The last progress is never lost: it is published when
            the interval has passed, and before any other step. 0 publishes each.
        include_progress: False changes the state by progress without publishing it.
        include_intermediate: The same for intermediate results.
        include_metrics: The same for metrics.

    Raises:
        BadRequestError: If the id, the priority or the interval is invalid.

    A step raises ``TransitionError`` where it is not legal, ``BadRequestError`` for an invalid value, and the errors of
    `Emitter.event`. It then leaves the task unchanged. In a decorated node no step raises: a rejection is logged.
    """

    __slots__ = ("_include_intermediate", "_include_metrics", "_include_progress")

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
        task_id = id_or_new(emitter, task_id, "task_id")
        seconds = value_or_default(emitter, lambda: number(interval, "interval", least=0), 1.0)
        super().__init__(emitter.scoped(task_id=task_id), f"task {task_id!r}", seconds)
        self._state = TaskState(
            task_id=task_id,
            name=name,
            description=description,
            type=type,
            priority=value_or_default(emitter, lambda: parse_priority(priority), "medium"),
            agent_id=agent_id,
            dependencies=value_or_default(emitter, lambda: _parse_ids(dependencies), ()),
            metadata=dict(metadata) if metadata is not None else None,
        )
        self._include_progress = include_progress
        self._include_intermediate = include_intermediate
        self._include_metrics = include_metrics

    @property
    def task_id(self) -> str:
        """Return its id."""
        return self._state.task_id

    @property
    def status(self) -> TaskStatus | None:
        """Return its status; None until its first update."""
        return self._state.status

    # --- the steps ------------------------------------------------------------------------------------------

    def created(self) -> None:
        """Publish that the task exists. Data: the arguments it was created with."""
        with self._guard:
            self._require("created", self._state.status, {None})
            self._create()

    def queued(self) -> None:
        """Publish that the task is queued."""
        with self._guard:
            self._step("queued")

    def assigned(self, agent_id: str) -> None:
        """Publish that the task is assigned to an agent."""
        with self._guard:
            self._step("assigned", data={"agent_id": check_name(agent_id, "agent_id")}, agent_id=agent_id)

    def started(self) -> None:
        """Publish that work begins. Data: ``waited_s``, the seconds since the task was created."""
        with self._guard:
            data = drop_none(agent_id=self._state.agent_id, waited_s=self._seconds_since(self._state.created_at))
            self._step("started", data=data, started_at=self._now())

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
        """Publish progress.

        Args:
            progress: Percent, 0 to 100.
            current_step: The name of the present step.
            current_step_number: The number of that step, from 1.
            total_steps: The number of steps.
            eta_s: Estimated seconds left.
            metadata: Your own fields.
        """
        with self._guard:
            self._check("progress")
            data = drop_none(
                progress=number(progress, "progress", least=0, most=100),
                current_step=current_step,
                current_step_number=current_step_number,
                total_steps=total_steps,
                eta_s=None if eta_s is None else number(eta_s, "eta_s", least=0),
                metadata=None if metadata is None else dict(metadata),
            )
            if self._include_progress:
                self._offer(data)
            self._state = replace(self._state, progress=data)

    def intermediate(self, data: object, type: IntermediateType = "partial", *, is_final: bool = False) -> None:
        """Publish a part of the result: ``{data, type, sequence, is_final}``; ``sequence`` counts from 0."""
        with self._guard:
            self._check("intermediate")
            if type not in _INTERMEDIATE:
                raise BadRequestError(f"{type!r:.80} is not one of {', '.join(sorted(_INTERMEDIATE))}")
            count = self._state.intermediate_results
            fields = {"data": data, "type": type, "sequence": count, "is_final": is_final}
            self._step("intermediate", fields, publish=self._include_intermediate, intermediate_results=count + 1)

    def metrics(
        self,
        *,
        execution_s: float | None = None,
        cpu_percent: float | None = None,
        memory_bytes: float | None = None,
        token_count: float | None = None,
        cost_estimate: float | None = None,
        **custom: float,
    ) -> None:
        """Publish metrics: ``{metrics: {…}}`` with the last value of each. ``custom`` takes any other name."""
        with self._guard:
            self._check("metrics")
            values = drop_none(
                execution_s=execution_s,
                cpu_percent=cpu_percent,
                memory_bytes=memory_bytes,
                token_count=token_count,
                cost_estimate=cost_estimate,
            )
            changed = {name: number(value, name) for name, value in {**custom, **values}.items()}
            metrics = {**self._state.metrics, **changed}
            self._step("metrics", {"metrics": metrics}, publish=self._include_metrics, metrics=metrics)

    def completed(self, result: object = None) -> None:
        """Publish that the task is done. Data: ``result``, ``duration_s`` since it started, and its metrics."""
        with self._guard:
            self._finish("completed", drop_none(result=result, metrics=self._state.metrics or None), result=result)

    def failed(self, error: BaseException | str) -> None:
        """Publish that the task failed. Data: ``duration_s``, ``error`` ``{message, type}`` (a stack in debug mode)."""
        with self._guard:
            described = describe_error(error, debug=self._emitter.debug)
            self._finish("failed", {"error": described}, priority="high", error=described)

    def cancelled(self, reason: str | None = None) -> None:
        """Publish that the task was cancelled. Data: ``reason``, ``duration_s``."""
        with self._guard:
            self._finish("cancelled", drop_none(reason=reason), reason=reason)

    # --- as a block -----------------------------------------------------------------------------------------

    def _on_enter(self) -> None:
        if self._state.status != "running":
            self.started()

    def _on_exit(self, error: BaseException | None) -> None:
        if self._state.status != "running":
            return
        if error is None:
            self.completed()
        elif is_interruption(error):
            self.cancelled(type(error).__name__)
        else:
            self.failed(error)

    # --- internal --------------------------------------------------------------------------------------------

    def _check(self, step: str) -> None:
        legal, _ = _TRANSITIONS[step]
        status = self._state.status
        if status is not None or "pending" not in legal:
            self._require(step, status, legal)

    def _create(self) -> None:
        state, now = self._state, self._now()
        fields = drop_none(
            name=state.name,
            description=state.description,
            type=state.type,
            agent_id=state.agent_id,
            dependencies=list(state.dependencies) or None,
            metadata=state.metadata,
        )
        self._publish(
            "task:created", {"task_id": state.task_id, "status": "pending", "priority": state.priority, **fields}
        )
        self._state = replace(state, status="pending", created_at=now)

    def _step(
        self,
        step: str,
        data: Mapping[str, Any] = MappingProxyType({}),
        *,
        publish: bool = True,
        priority: Priority | None = None,
        **changes: Any,
    ) -> None:
        """Take a step: publish its update, and then change the state."""
        self._check(step)
        if self._state.status is None:
            self._create()
        status = _TRANSITIONS[step][1] or self._state.status
        if publish:
            self._latest.flush()
            self._publish(f"task:{step}", {"task_id": self.task_id, "status": status, **data}, priority)
        self._state = replace(self._state, status=status, **changes)

    def _finish(self, step: str, data: Mapping[str, Any], *, priority: Priority | None = None, **changes: Any) -> None:
        duration = drop_none(duration_s=self._seconds_since(self._state.started_at))
        self._step(step, {**data, **duration}, priority=priority, ended_at=self._now(), **changes)
        self._end()

    def _paced_update(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "task:progress", {"task_id": self.task_id, "status": "running", **value}


def _parse_ids(ids: Iterable[str]) -> tuple[str, ...]:
    if isinstance(ids, str):
        raise BadRequestError("dependencies is a list of task ids, not one string")
    return tuple(ids)
