"""The open tasks and agents of an execution, by id."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar

from typing_extensions import Unpack

from lg_streaming.activity.agent import AgentStream
from lg_streaming.activity.base import Activity, S, id_or_new
from lg_streaming.activity.states import AgentState, TaskState
from lg_streaming.activity.task import TaskStream
from lg_streaming.emitter import NO_EMITTER, Emitter
from lg_streaming.errors import TransitionError
from lg_streaming.fork import new_rlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Agents", "Registry", "Tasks"]

logger: logging.Logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Activity[Any])


class Registry(Generic[A, S]):
    """The open activities of one kind, by id. An activity that has ended is removed.

    Use it as a context manager, or call `close`: then all are removed and no new one can begin.
    """

    def __init__(self, emitter: Emitter, kind: str) -> None:
        self._emitter = emitter
        self._kind = kind
        self._open: dict[str, A] = {}
        self._mutex = new_rlock()
        self._closed = False

    def _add(self, id: str, create: Callable[[Emitter], A]) -> A:
        """Create an activity and hold it until it ends. One that is rejected publishes nothing."""
        with self._mutex:
            reason: str | None = None
            if self._closed:
                reason = "these are closed: make new ones"
            elif id in self._open:
                reason = f"{self._kind} {id!r} is open already: end it first, or take another id"
            if reason is None:
                added = self._open[id] = create(self._emitter)
                added.on_ended(lambda: self._remove(id, added))
                return added
        if self._emitter.raises_errors:
            raise TransitionError(reason, execution_id=self._emitter.execution_id)
        logger.warning("%s", reason)
        return create(NO_EMITTER)

    def _remove(self, id: str, activity: A) -> None:
        with self._mutex:
            if self._open.get(id) is activity:
                del self._open[id]

    def get(self, id: str) -> A | None:
        """Return the open activity of that id, or None."""
        return self._open.get(id)

    def state(self, id: str) -> S | None:
        """Return the state of the open activity of that id, or None."""
        activity = self.get(id)
        return activity.state if activity is not None else None

    def states(self) -> dict[str, S]:
        """Return the states of all open activities, by id."""
        return {name: activity.state for name, activity in list(self._open.items())}

    def clear(self, id: str | None = None) -> None:
        """Remove one activity, or all. This publishes nothing, and a removed activity can still take steps."""
        with self._mutex:
            if id is None:
                self._open.clear()
            else:
                self._open.pop(id, None)

    def close(self) -> None:
        """Remove all; from now on none can begin. Harmless when repeated."""
        self._closed = True
        self.clear()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, id: object) -> bool:
        return id in self._open

    def __iter__(self) -> Iterator[A]:
        return iter(list(self._open.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TaskOptions(TypedDict, total=False):
    """Options of every task of a `Tasks`, see `TaskStream`."""

    interval: float
    include_progress: bool
    include_intermediate: bool
    include_metrics: bool


class TaskFields(TypedDict, total=False):
    """The description of one task, see `TaskStream`."""

    name: str | None
    description: str | None
    type: str | None
    priority: str
    agent_id: str | None
    dependencies: Iterable[str]
    metadata: Mapping[str, Any] | None


class Tasks(Registry[TaskStream, TaskState]):
    """The open tasks of an emitter's execution, by id. A task that has ended is removed, and its id is free again.

    Args:
        emitter: Publishes their updates.
        options: ``interval``, ``include_progress``, ``include_intermediate`` and ``include_metrics`` of each task, see
            `TaskStream`.
    """

    def __init__(self, emitter: Emitter, **options: Unpack[TaskOptions]) -> None:
        super().__init__(emitter, "task")
        inspect.signature(TaskStream).bind(emitter, **options)  # a wrong name raises here, not at the first task
        self._options = options

    def task(self, task_id: str | None = None, **fields: Unpack[TaskFields]) -> TaskStream:
        """Create a task; the arguments are those of `TaskStream`. Nothing is published yet.

        Raises:
            BadRequestError: If an argument is invalid.
            TransitionError: If a task of that id is open, or this was closed.
        """
        task_id = id_or_new(self._emitter, task_id, "task_id")
        return self._add(task_id, lambda emitter: TaskStream(emitter, task_id, **fields, **self._options))


class AgentOptions(TypedDict, total=False):
    """Options of every agent of an `Agents`, see `AgentStream`."""

    interval: float
    buffer_size: int
    buffer_bytes: int
    include_output: bool
    include_logs: bool
    include_metrics: bool


class AgentFields(TypedDict, total=False):
    """The description of one agent, see `AgentStream`."""

    agent_type: str | None
    name: str | None
    metadata: Mapping[str, Any] | None


class Agents(Registry[AgentStream, AgentState]):
    """The open agents of an emitter's execution, by id. An agent that has stopped is removed.

    Args:
        emitter: Publishes their updates.
        options: ``interval``, ``buffer_size``, ``buffer_bytes``, ``include_output``, ``include_logs`` and
            ``include_metrics`` of each agent, see `AgentStream`.
    """

    def __init__(self, emitter: Emitter, **options: Unpack[AgentOptions]) -> None:
        super().__init__(emitter, "agent")
        inspect.signature(AgentStream).bind(emitter, **options)  # as above
        self._options = options

    def agent(self, agent_id: str | None = None, **fields: Unpack[AgentFields]) -> AgentStream:
        """Create an agent; the arguments are those of `AgentStream`. Nothing is published yet.

        Raises:
            BadRequestError: If an argument is invalid.
            TransitionError: If an agent of that id is open, or this was closed.
        """
        agent_id = id_or_new(self._emitter, agent_id, "agent_id")
        return self._add(agent_id, lambda emitter: AgentStream(emitter, agent_id, **fields, **self._options))
