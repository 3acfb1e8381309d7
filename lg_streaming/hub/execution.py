"""State machine of an execution: its open run, the participants of the run, and its outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lg_streaming.errors import ForbiddenError
from lg_streaming.fork import new_rlock
from lg_streaming.hub.callbacks import Handlers
from lg_streaming.publisher import NO_SCOPE, LiveDefaults, RunOutcome, Scope

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.hub.due import Entry
    from lg_streaming.hub.usage import CallUsage
    from lg_streaming.log.base import ExecutionState
    from lg_streaming.prompts import Prompt
    from lg_streaming.token_bucket import TokenBucket

__all__ = ["Execution"]

Handler = TypeVar("Handler")

_MAX_PROMPTS: Final = 1_000
_MAX_MESSAGES: Final = 10_000


@dataclass(slots=True, eq=False, repr=False)
class Execution:
    """State machine of an execution: ``idle`` → ``running`` ⇄ ``interrupted`` → ``idle``.

    A run is open from its start to its one final update. Participants (an ``execution(...)`` block, a graph
    call) join the open run; the last one to leave ends it. All methods require `lock`.
    """

    execution_id: str
    producer: str
    """The id of this object for the log. A forgotten execution that is created again counts from 1."""
    started_at: float
    """The start of the open run, or of the last one, in seconds since 1970."""
    used_at: float = 0.0
    """The time of its last update, by the monotonic clock."""
    touched_at: float = field(init=False)
    """The time of its last update, in seconds since 1970."""
    lock: threading.RLock = field(init=False)
    defaults: LiveDefaults | None = None
    """The decorators' defaults, if they differ from those of the settings."""
    allowance: TokenBucket | None = None
    """The rate limit, with ``limits.updates_per_second``."""
    handlers: Handlers | None = None
    """The program's callbacks, if it registered any."""
    prompts: dict[str, Prompt] = field(init=False)
    """The open prompts of the open run."""
    prompt_timers: dict[str, Callable[[], None]] = field(init=False)
    """Functions that stop the timers of open prompts, by prompt with a timeout."""
    answers: dict[str, Any] = field(init=False)
    """The answers since the run was interrupted, to prompts for which a graph waits."""
    answers_loop: asyncio.AbstractEventLoop | None = None
    """The event loop on which the run was interrupted."""
    cancelling: bool = False
    """True after a request to cancel the open run."""
    cancel_reason: str | None = None
    still_running: tuple[str, ...] = ()
    """The nodes of the cancelled run that could not be stopped."""
    owner: str | None = None
    metadata: Mapping[str, Any] = field(init=False)
    """The metadata of the open run, or of the last one."""
    priority: Priority = "medium"
    """The priority of updates for which neither their publisher nor their type names one."""
    idle_timeout: float | None = None
    """Seconds without any activity after which an open run ends; None for never."""
    outcome: ExecutionState | None = None
    """The outcome of the last run that ended."""
    run_id: str | None = None
    """The open run, or None."""
    run_scope: Scope = NO_SCOPE
    number: int = 0
    """The number of the last batch that was appended to the log."""
    updates: int = 0
    """Published updates."""
    messages: dict[str, str | None] = field(init=False)
    """The namespaces of the streamed messages of all runs, by message; the newest 10,000."""
    updates_before: int = 0
    """Updates of earlier runs."""
    lost: int = 0
    """Updates lost since the last one that was accepted."""
    queue: Any = None
    """Its drafts that a blocking log does not have yet, as an `ExecutionQueue`; None without any.

    Guarded by the buffer's lock.
    """
    due: Entry | None = None
    """Its entry in the sweep's queue."""
    idle_check: Entry | None = None
    """Its entry in the idle monitor's queue."""
    noticed: set[str] = field(init=False)
    """Reasons of dropped updates that were logged."""
    usage: CallUsage | None = None
    """The usage of the model calls of the open run, from the first one on."""
    at_work: int = 0
    """Calls of `keep_alive` in the open run that were not released."""
    interrupted_tools: dict[str, str] = field(init=False)
    """The tool calls that ask, by interrupt."""
    _participants: int = 0
    _attempts: Counter[str] = field(init=False)
    _paused: dict[str, Sequence[Mapping[str, Any]]] = field(init=False)
    _idle_updates: int = -1
    _idle_since: float = 0.0

    def __post_init__(self) -> None:
        self.touched_at, self.lock = self.started_at, new_rlock()
        self.prompts, self.messages, self.metadata, self._paused = {}, {}, {}, {}
        self.prompt_timers, self.answers, self.interrupted_tools = {}, {}, {}
        self.noticed, self._attempts = set(), Counter()

    @property
    def state(self) -> ExecutionState | None:
        """The state of the open run, or the outcome of the last one; None before the first."""
        if self.run_id is None:
            return self.outcome
        return "interrupted" if self._paused and not self._participants else "running"

    @property
    def interrupted(self) -> bool:
        """Return whether a task of the open run waits for a human."""
        return bool(self._paused)

    @property
    def participants(self) -> int:
        """The number of participants of the open run."""
        return self._participants

    @property
    def running(self) -> bool:
        """Return whether a run is open."""
        return self.run_id is not None

    @property
    def is_evictable(self) -> bool:
        """Return whether it never had a run, and has neither defaults nor handlers."""
        return self.run_scope is NO_SCOPE and self.defaults is None and self.handlers is None

    def add_handler(self, select: Callable[[Handlers], dict[object, Handler]], handler: Handler) -> Callable[[], None]:
        """Add a handler to the ones that ``select`` returns; return a function that removes it.

        It and the returned function acquire `lock`.
        """
        key = object()
        with self.lock:
            if self.handlers is None:
                self.handlers = Handlers()
            handlers = select(self.handlers)
            handlers[key] = handler

        def remove() -> None:
            with self.lock:
                handlers.pop(key, None)
                if self.handlers is not None and self.handlers.is_empty:
                    self.handlers = None

        return remove

    def claim(self, owner: str | None) -> None:
        """Make ``owner`` the owner, if the execution has none.

        Raises:
            ForbiddenError: If the execution has another owner.
        """
        if owner is None or owner == self.owner:
            return
        if self.owner is not None:
            raise ForbiddenError(
                f"execution {self.execution_id!r} has another owner: choose another id", execution_id=self.execution_id
            )
        self.owner = owner

    def begin(self, run_id: str, metadata: Mapping[str, Any], now: float) -> None:
        """Open a run."""
        self.metadata, self.started_at, self.updates_before = metadata, now, self.updates
        self.run_id = run_id
        self.run_scope = Scope(run_id=run_id)
        self._reset()

    def join(self) -> bool:
        """Add a participant to the open run; return whether the run was interrupted."""
        self._participants += 1
        resumed = self.interrupted
        self._paused.clear()
        if resumed:
            for prompt_id in [each.prompt_id for each in self.prompts.values() if each.pauses]:
                self.close_prompt(prompt_id)
            self._forget_answers()
        return resumed

    def leave(self, outcome: RunOutcome, *, joined: bool = True) -> RunOutcome | None:
        """Remove a participant, if it had `joined`; return the outcome to publish, or None while others remain.

        A run in which a node waits for a human is interrupted, even if the block around the node completed.
        """
        self._participants = max(0, self._participants - joined)
        if outcome.type == "workflow_interrupted":
            self._paused.setdefault("", outcome.data.get("interrupts", ()))
        self.note_still_running(outcome.data.get("still_running", ()))
        if self._participants:
            return None
        if self.interrupted and outcome.type in {"workflow_complete", "workflow_interrupted"}:
            if not self.cancelling:
                return RunOutcome("workflow_interrupted", self._questions(outcome.data))
            outcome = RunOutcome("workflow_cancelled", {})
        if outcome.type == "workflow_cancelled" and self.cancel_reason:
            return RunOutcome("workflow_cancelled", {"reason": self.cancel_reason})
        return outcome

    def note_still_running(self, nodes: Iterable[str]) -> None:
        """Add nodes of the cancelled run that could not be stopped."""
        self.still_running = tuple(dict.fromkeys((*self.still_running, *nodes)))

    def _questions(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the data of a ``workflow_interrupted``, with each open question once, by its id."""
        questions: dict[object, Mapping[str, Any]] = {}
        for each in self.interrupts:
            questions.setdefault(each.get("id") or id(each), each)
        return {**data, **({"interrupts": list(questions.values())} if questions else {})}

    @property
    def interrupts(self) -> list[Mapping[str, Any]]:
        """The interrupts at which tasks of the open run wait; one may be in several tasks, a node and its subgraph."""
        return [each for interrupts in self._paused.values() for each in interrupts]

    def end(self, outcome: ExecutionState) -> None:
        """Close the open run."""
        self.run_id, self.outcome = None, outcome
        self._reset()

    def _reset(self) -> None:
        self._participants = self.at_work = 0
        self.usage = None
        self._attempts.clear()
        self._paused.clear()
        for prompt_id in list(self.prompts):
            self.close_prompt(prompt_id)
        self._forget_answers()
        self.cancelling, self.cancel_reason, self.still_running = False, None, ()
        self._idle_updates = -1

    def stop_prompt_timers(self) -> None:
        """Stop the timers of open prompts; the prompts stay open."""
        while self.prompt_timers:
            self.prompt_timers.popitem()[1]()

    def _forget_answers(self) -> None:
        self.answers, self.answers_loop = {}, None
        self.interrupted_tools.clear()

    def idle_for(self, now: float) -> float:
        """Return the seconds since the first call that found the run idle; 0 if it is active.

        A run is active with a participant, a `keep_alive`, an open prompt or an interrupt. It is also active if it has
        more updates than at the last call.
        """
        updates = self.updates
        if self._participants or self.at_work or self._paused or self.prompts or updates != self._idle_updates:
            self._idle_updates, self._idle_since = updates, now
        return now - self._idle_since

    def open_prompt(self, prompt: Prompt) -> None:
        """Add an open prompt to the open run. Of more than 1,000, the oldest is removed."""
        self.close_prompt(prompt.prompt_id)
        self.prompts[prompt.prompt_id] = prompt
        if len(self.prompts) > _MAX_PROMPTS:
            self.close_prompt(next(iter(self.prompts)))

    def close_prompt(self, prompt_id: str) -> None:
        """Remove a prompt and its timer. A no-op without one."""
        self.prompts.pop(prompt_id, None)
        stop_timer = self.prompt_timers.pop(prompt_id, None)
        if stop_timer is not None:
            stop_timer()

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Remember the namespace in which a message was streamed."""
        self.messages[message_id] = namespace
        if len(self.messages) > _MAX_MESSAGES:
            del self.messages[next(iter(self.messages))]

    def pause(self, task: str, interrupts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Mark ``task`` as waiting for a human, with its questions."""
        self._paused[task] = interrupts

    def count_attempts(self, attempts: Mapping[str, int]) -> None:
        """Count attempts that were made in another process, by task."""
        self._attempts.update(attempts)

    def next_attempt(self, task: str) -> int:
        """Count an attempt of ``task`` in the open run; return its number, from 1."""
        self._paused.pop(task, None)
        self._attempts[task] += 1
        return self._attempts[task]
