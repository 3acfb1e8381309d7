"""What inside an execution an update is about, and which execution is in force right now.

The execution in force travels in a context variable, so it follows the code wherever a context goes: into
tasks, into ``asyncio.to_thread`` and into LangGraph's worker threads. A module that was activated is the
process default for code that runs outside any execution block.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.events import Priority

__all__ = ["NO_SCOPE", "Binding", "Delivery", "Outcome", "Publisher", "Scope", "execution_var", "publishers"]

RESERVED: Final = frozenset({"timestamp", "sequence_number", "execution_id", "epoch", "priority"})


Delivery = Literal["at-most-once", "at-least-once", "exactly-once"]
"""What may happen to an update before it is in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an update is about. One scope serves many updates, so its JSON is made once and kept.

    The fields mean what they mean in :class:`~lg_streaming.events.StreamMetadata`.
    """

    run_id: str | None = None
    node_id: str | None = None
    namespace: str | None = None
    attempt: int | None = None
    agent_type: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    tool_call_id: str | None = None
    message_id: str | None = None
    category: str | None = None
    extra: Mapping[str, Any] | None = None
    """The user's own metadata; keys of the fields above and of the log's own fields are passed over."""
    _fragment: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def derive(self, **changes: Any) -> Self:
        """The same scope with some fields changed."""
        return replace(self, **changes)

    @property
    def fragment(self) -> bytes:
        """The set fields as JSON members, each with a comma before it: ``,"node_id":"write"``."""
        if self._fragment is None:
            members = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
            own = {str(k): v for k, v in (self.extra or {}).items() if k not in RESERVED and k not in NAMES}
            encoded = orjson.dumps(members | own, default=repr)
            object.__setattr__(self, "_fragment", b"," + encoded[1:-1] if len(encoded) > len(b"{}") else b"")
        return self._fragment or b""


NAMES: Final = tuple(f.name for f in fields(Scope) if f.name not in {"extra", "_fragment"})

NO_SCOPE: Final = Scope()
"""About the execution as a whole."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run, or one participant's part in it, came out."""

    type: str
    """A final type, or ``workflow_interrupted``: the run waits for a human and is not over."""
    data: Mapping[str, Any]


class Publisher(Protocol):
    """Where updates go; the hub is the one real implementation.

    Every method is synchronous, thread-safe and never waits for I/O.
    """

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave."""
        ...

    def publish(
        self,
        execution_id: str,
        type: str,
        data: object = None,
        *,
        scope: Scope = NO_SCOPE,
        priority: Priority = "medium",
    ) -> None:
        """Appends one update."""
        ...

    def enter_run(self, execution_id: str, *, owner: str | None = None, name: str | None = None) -> str:
        """Joins the execution's open run, or starts one; returns the run id."""
        ...

    def leave_run(self, execution_id: str, run_id: str, outcome: Outcome) -> None:
        """Leaves a run; the last one to leave ends it with its outcome."""
        ...

    def pause(self, execution_id: str, run_id: str, task: str) -> None:
        """``task`` waits for a human; until it is tried again the run cannot complete."""
        ...

    def next_attempt(self, execution_id: str, task: str) -> int:
        """1 when ``task`` is tried for the first time in the open run, 2 on its first retry, and so on."""
        ...


@dataclass(frozen=True, slots=True)
class Binding:
    """An execution that is in force, and where its updates go."""

    publisher: Publisher
    execution_id: str
    run_id: str


execution_var: ContextVar[Binding | None] = ContextVar("lg_streaming_execution", default=None)
"""Set inside ``StreamingModule.execution(...)``."""


class Publishers:
    """The publishers of this process: how many there are, and which one is the default."""

    def __init__(self) -> None:
        self.count = 0
        """How many hubs are open. At 0 a decorated node is the plain node and looks no further."""
        self._defaults: list[Publisher] = []

    @property
    def default(self) -> Publisher | None:
        """The publisher that was activated last and is still active."""
        return self._defaults[-1] if self._defaults else None

    def activate(self, publisher: Publisher) -> None:
        """Makes ``publisher`` the default until it is deactivated."""
        self._defaults.append(publisher)

    def deactivate(self, publisher: Publisher) -> None:
        """Takes back one activation; a no-op when there is none."""
        for index in range(len(self._defaults) - 1, -1, -1):
            if self._defaults[index] is publisher:
                del self._defaults[index]
                return


publishers: Final = Publishers()
