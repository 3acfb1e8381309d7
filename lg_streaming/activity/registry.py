"""The open tasks and agents of an execution, by id."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from lg_streaming.activity.agent import AgentStream
from lg_streaming.activity.base import Activity, id_of
from lg_streaming.activity.task import TaskStream
from lg_streaming.emitter import NO_EMITTER, Emitter
from lg_streaming.errors import TransitionError
from lg_streaming.fork import new_rlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lg_streaming.activity.states import AgentState, TaskState

__all__ = ["Agents", "Registry", "Tasks"]

logger: logging.Logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Activity)


class Registry(Generic[A]):
    """The open activities of one kind, by id. What has ended is forgotten at once.

    Use it as a context manager, or call `close`: then all are forgotten and none can be begun.
    """

    def __init__(self, emitter: Emitter, what: str) -> None:
        self._emitter = emitter
        self._what = what
        self._open: dict[str, A] = {}
        self._mutex = new_rlock()
        self._closed = False

    def _add(self, id: str, make: Callable[[Emitter], A]) -> A:
        """Makes one and knows it until it ends. One that cannot be known writes nothing."""
        with self._mutex:
            refused: str | None = None
            if self._closed:
                refused = "these are closed: make new ones"
            elif id in self._open:
                refused = f"{self._what} {id!r} is open already: end it first, or take another id"
            if refused is None:
                made = self._open[id] = make(self._emitter)
                made.when_ended(lambda: self._forget(id, made))
                return made
        if self._emitter.raises_errors:
            raise TransitionError(refused, execution_id=self._emitter.execution_id)
        logger.warning("%s", refused)
        return make(NO_EMITTER)

    def _forget(self, id: str, which: A) -> None:
        with self._mutex:
            if self._open.get(id) is which:
                del self._open[id]

    def get(self, id: str) -> A | None:
        """The open one of that id; None when there is none."""
        return self._open.get(id)

    def clear(self, id: str | None = None) -> None:
        """Forgets one, or all. Nothing is published, and who holds one may go on with it."""
        with self._mutex:
            if id is None:
                self._open.clear()
            else:
                self._open.pop(id, None)

    def close(self) -> None:
        """Forgets all; none can be begun any more. Harmless when repeated."""
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


class Tasks(Registry[TaskStream]):
    """The open tasks of an emitter's execution, by id. A task that has ended is forgotten, and its id is free again.

    Args:
        emitter: Where they are told.
        interval: Seconds between two progresses of one task; see `TaskStream`.
        include_progress: See `TaskStream`.
        include_intermediate: The same.
        include_metrics: The same.
    """

    def __init__(
        self,
        emitter: Emitter,
        *,
        interval: float = 1.0,
        include_progress: bool = True,
        include_intermediate: bool = True,
        include_metrics: bool = True,
    ) -> None:
        super().__init__(emitter, "task")
        self._options: dict[str, Any] = {
            "interval": interval,
            "include_progress": include_progress,
            "include_intermediate": include_intermediate,
            "include_metrics": include_metrics,
        }

    def task(
        self,
        task_id: str | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        type: str | None = None,
        priority: str = "medium",
        agent_id: str | None = None,
        dependencies: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> TaskStream:
        """A new task; the arguments are those of `TaskStream`. Nothing is published yet.

        Raises:
            BadRequestError: An argument cannot be used.
            TransitionError: A task of that id is open, or this was closed.
        """
        task_id = id_of(self._emitter, task_id, "task_id")

        def make(emitter: Emitter) -> TaskStream:
            return TaskStream(
                emitter,
                task_id,
                name=name,
                description=description,
                type=type,
                priority=priority,
                agent_id=agent_id,
                dependencies=dependencies,
                metadata=metadata,
                **self._options,
            )

        return self._add(task_id, make)

    def state(self, task_id: str) -> TaskState | None:
        """What is known of an open task; None when no such task is open."""
        task = self.get(task_id)
        return task.state if task is not None else None

    def states(self) -> dict[str, TaskState]:
        """What is known of all open tasks, by id."""
        return {task.task_id: task.state for task in self}


class Agents(Registry[AgentStream]):
    """The open agents of an emitter's execution, by id. An agent that has stopped is forgotten.

    Args:
        emitter: Where they are told.
        options: ``interval``, ``buffer_size``, ``buffer_bytes``, ``include_output``, ``include_logs``,
            ``include_metrics`` of each, see `AgentStream`.
    """

    def __init__(
        self,
        emitter: Emitter,
        *,
        interval: float = 2.0,
        buffer_size: int = 100,
        buffer_bytes: int = 65_536,
        include_output: bool = True,
        include_logs: bool = True,
        include_metrics: bool = True,
    ) -> None:
        super().__init__(emitter, "agent")
        self._options: dict[str, Any] = {
            "interval": interval,
            "buffer_size": buffer_size,
            "buffer_bytes": buffer_bytes,
            "include_output": include_output,
            "include_logs": include_logs,
            "include_metrics": include_metrics,
        }

    def agent(
        self,
        agent_id: str | None = None,
        *,
        agent_type: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AgentStream:
        """A new agent; the arguments are those of `AgentStream`. Nothing is published yet.

        Raises:
            BadRequestError: An argument cannot be used.
            TransitionError: An agent of that id is open, or this was closed.
        """
        agent_id = id_of(self._emitter, agent_id, "agent_id")

        def make(emitter: Emitter) -> AgentStream:
            return AgentStream(emitter, agent_id, agent_type=agent_type, name=name, metadata=metadata, **self._options)

        return self._add(agent_id, make)

    def state(self, agent_id: str) -> AgentState | None:
        """What is known of an open agent; None when no such agent is open."""
        agent = self.get(agent_id)
        return agent.state if agent is not None else None

    def states(self) -> dict[str, AgentState]:
        """What is known of all open agents, by id."""
        return {agent.agent_id: agent.state for agent in self}
