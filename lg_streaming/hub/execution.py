"""The producer's side of an execution: which run is open, who takes part in it, and how it ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import ForbiddenError
from lg_streaming.fork import new_rlock
from lg_streaming.publisher import NO_SCOPE, LiveDefaults, RunOutcome, Scope

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.hub.callbacks import Handlers
    from lg_streaming.hub.due import Entry
    from lg_streaming.log.base import ExecutionState

__all__ = ["Execution", "TokenBucket"]

_MAX_PROMPTS: Final = 1_000
_MAX_MESSAGES: Final = 10_000


class TokenBucket:
    """What an execution may still publish: ``rate`` updates a second, and as many (at least one) at once."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = self._left = max(1.0, rate)
        self._at = now

    def take(self, now: float) -> bool:
        """One update comes; whether it is within the rate. One that is not costs nothing."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        within = self._left >= 1.0
        if within:
            self._left -= 1.0
        return within


class Execution:
    """A small state machine: ``idle`` → ``running`` ⇄ ``interrupted`` → ``idle``, and so on.

    A run is open from its start to its one final update. Participants (an ``execution(...)`` block, a graph
    call) join the open run; the last one to leave ends it. All methods are called under `lock`.
    """

    __slots__ = (
        "_attempts",
        "_idle_since",
        "_idle_updates",
        "_participants",
        "_paused",
        "allowance",
        "at_work",
        "cancel_reason",
        "cancelling",
        "defaults",
        "due",
        "execution_id",
        "handlers",
        "idle_timeout",
        "lock",
        "look",
        "lost",
        "messages",
        "metadata",
        "noticed",
        "number",
        "outcome",
        "owner",
        "priority",
        "producer",
        "prompts",
        "run_id",
        "run_scope",
        "started_at",
        "touched_at",
        "updates",
        "updates_before",
        "used_at",
    )

    def __init__(  # noqa: PLR0915 (one line a field)
        self, execution_id: str, producer: str, now: float, used_at: float = 0.0
    ) -> None:
        self.execution_id: str = execution_id
        self.producer: str = producer
        """Names this object to the log: when the hub forgets an execution and it comes back, numbers begin anew."""
        self.lock: threading.RLock = new_rlock()
        self.defaults: LiveDefaults | None = None
        """The decorators' defaults, where they differ from the settings'."""
        self.allowance: TokenBucket | None = None
        """Where there is a limit to the updates per second."""
        self.handlers: Handlers | None = None
        """Where somebody wants to be told."""
        self.prompts: dict[str, Scope] = {}
        """The open prompts of the open run, and what they are about."""
        self.cancelling: bool = False
        """Whether the open run was asked to end."""
        self.cancel_reason: str | None = None
        self.owner: str | None = None
        self.metadata: Mapping[str, Any] = {}
        """What the open run, or the last one, was opened with."""
        self.priority: Priority = "medium"
        """Of updates for which neither their publisher nor their type names one."""
        self.idle_timeout: float | None = None
        """Seconds after which an open run ends in which nothing happens; None for never."""
        self.outcome: ExecutionState | None = None
        """How the last run ended that is over."""
        self.started_at: float = now
        """When the open run, or the last one, was opened."""
        self.run_id: str | None = None
        """The open run; None when none is."""
        self.run_scope: Scope = NO_SCOPE
        self.number: int = 0
        """The number of the last batch that was given to the log."""
        self.updates: int = 0
        """Updates it has published."""
        self.messages: dict[str, str | None] = {}
        """The messages that were streamed, in earlier runs too, and the namespace of each; the newest 10,000."""
        self.updates_before: int = 0
        """Updates of earlier runs."""
        self.lost: int = 0
        """Updates given up since the last one that was taken."""
        self.touched_at: float = now
        """When it had its last update, in seconds since 1970."""
        self.used_at: float = used_at
        """The same by the hub's monotonic clock."""
        self.due: Entry | None = None
        """Its place in the hub's order of what may be forgotten."""
        self.look: Entry | None = None
        """Its place in the order of what may be idle."""
        self.noticed: set[str] = set()
        """Reasons for which the log has said that updates were dropped."""
        self._participants = 0
        self.at_work: int = 0
        """What is at work in the open run without taking part in it."""
        self._attempts: Counter[str] = Counter()
        self._paused: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._idle_updates = -1
        self._idle_since = 0.0

    @property
    def state(self) -> ExecutionState | None:
        """How the open run is, or the last one ended; None where none was opened yet."""
        if self.run_id is None:
            return self.outcome
        return "interrupted" if self._paused and not self._participants else "running"

    @property
    def interrupted(self) -> bool:
        """Whether something in the open run waits for a human."""
        return bool(self._paused)

    @property
    def participants(self) -> int:
        """How many take part in the open run."""
        return self._participants

    @property
    def running(self) -> bool:
        """Whether a run is open."""
        return self.run_id is not None

    @property
    def forgettable(self) -> bool:
        """Whether it never had a run, and there is nothing else to remember."""
        return self.run_scope is NO_SCOPE and self.defaults is None and self.handlers is None

    def claim(self, owner: str | None) -> None:
        """Makes ``owner`` the owner, unless it has one.

        Raises:
            ForbiddenError: Somebody else owns it.
        """
        if owner is None or owner == self.owner:
            return
        if self.owner is not None:
            raise ForbiddenError(
                f"execution {self.execution_id!r} has another owner: choose another id", execution_id=self.execution_id
            )
        self.owner = owner

    def begin(self, run_id: str, metadata: Mapping[str, Any], now: float) -> None:
        """Opens a run."""
        self.metadata, self.started_at, self.updates_before = metadata, now, self.updates
        self.run_id = run_id
        self.run_scope = Scope(run_id=run_id)
        self._reset()

    def join(self) -> bool:
        """One more participant in the open run; whether that resumes an interrupted one."""
        self._participants += 1
        resumed = self.interrupted
        self._paused.clear()
        return resumed

    def leave(self, outcome: RunOutcome, *, joined: bool = True) -> RunOutcome | None:
        """One participant less, unless it had not `joined`. Returns what to publish: nothing while others remain.

        A run in which a node waits for a human is interrupted, even if the block around it ended well.
        """
        self._participants = max(0, self._participants - joined)
        if outcome.type == "workflow_interrupted":
            self._paused.setdefault("", outcome.data.get("interrupts", ()))
        if self._participants:
            return None
        if self.interrupted and outcome.type in {"workflow_complete", "workflow_interrupted"}:
            return RunOutcome("workflow_interrupted", self._questions(outcome.data))
        if outcome.type == "workflow_cancelled" and self.cancel_reason:
            return RunOutcome("workflow_cancelled", {"reason": self.cancel_reason})
        return outcome

    def _questions(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data of a ``workflow_interrupted``: each open question once, known by its id."""
        asked: dict[object, Mapping[str, Any]] = {}
        for interrupts in self._paused.values():
            for each in interrupts:
                asked.setdefault(each.get("id") or id(each), each)
        return {**data, **({"interrupts": list(asked.values())} if asked else {})}

    def end(self, outcome: ExecutionState) -> None:
        """Closes the open run."""
        self.run_id, self.outcome = None, outcome
        self._reset()

    def _reset(self) -> None:
        self._participants = self.at_work = 0
        self._attempts.clear()
        self._paused.clear()
        self.prompts.clear()
        self.cancelling, self.cancel_reason = False, None
        self._idle_updates = -1

    def idle_for(self, now: float) -> float:
        """Seconds since it was first seen that nothing happens any more; 0 while somebody is at work in the run.

        Somebody is at work while the run has a participant, or something that said so; a human, while a prompt is open
        or the run is interrupted. Otherwise something has happened when there are more updates than last time.
        """
        updates = self.updates
        if self._participants or self.at_work or self._paused or self.prompts or updates != self._idle_updates:
            self._idle_updates, self._idle_since = updates, now
        return now - self._idle_since

    def ask(self, prompt_id: str, scope: Scope) -> None:
        """A prompt of the open run waits for its answer; of too many, the oldest is given up."""
        self.prompts.pop(prompt_id, None)
        self.prompts[prompt_id] = scope
        if len(self.prompts) > _MAX_PROMPTS:
            del self.prompts[next(iter(self.prompts))]

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Remembers where a message was streamed."""
        self.messages[message_id] = namespace
        if len(self.messages) > _MAX_MESSAGES:
            del self.messages[next(iter(self.messages))]

    def pause(self, task: str, interrupts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Notes that ``task`` waits for a human, with these questions."""
        self._paused[task] = interrupts

    def next_attempt(self, task: str) -> int:
        """Counts the tries of ``task`` in the open run."""
        self._paused.pop(task, None)
        self._attempts[task] += 1
        return self._attempts[task]
