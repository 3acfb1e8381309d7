"""From what a producer says to what goes into the log: checked, encoded, and within the rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import orjson

from lg_streaming.codec import Codec, Encoded
from lg_streaming.errors import BadRequestError, UpdateTooLargeError
from lg_streaming.events import HUB_TYPES, kind_of, parse_priority, priority_of, priority_within
from lg_streaming.hub.execution import Allowance
from lg_streaming.log.base import Draft
from lg_streaming.scope import NO_SCOPE, TRACED, Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.codec import Redact
    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.statistics import Tally
    from lg_streaming.scope import Scope, Trace
    from lg_streaming.settings import LimitSettings

__all__ = ["Drafts"]

_DELIVERIES: Final = frozenset[str](get_args(Delivery))
_MAX_KEY_LENGTH: Final = 512
_PROMPTING: Final = frozenset({"human_prompt", "human_response"})


class Drafts:
    """Makes drafts.

    Args:
        limits: How large an update may be, and how many may come in a second.
        redact: Applied to every update before it is encoded.
        clock: Seconds since 1970.
        tally: Counts what is refused or dropped.
    """

    def __init__(self, limits: LimitSettings, redact: Redact | None, clock: Callable[[], float], tally: Tally) -> None:
        self._clock = clock
        self._tally = tally
        self._rate = limits.updates_per_second
        self.codec = Codec(max_bytes=limits.update_bytes, redact=redact)
        self.trace: Trace | None = None
        """Who follows runs and nodes."""

    @property
    def limited(self) -> bool:
        """Whether there is a limit to the updates per second."""
        return self._rate is not None

    def checked(  # noqa: PLR0917 (the fields of `Outgoing`, at every update)
        self,
        execution: Execution,
        name: str,
        data: object,
        scope: Scope,
        priority: Priority | None,
        delivery: Delivery,
        key: str | None,
    ) -> Draft:
        """The draft of what a producer published. Raises ``BadRequestError`` and ``UpdateTooLargeError``."""
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not be typed)
            raise BadRequestError(f"a type is a string, not {name!r:.80}")
        if name in HUB_TYPES:
            raise BadRequestError(f"{name!r} cannot be published: end a run with close(), fail() or cancel()")
        if delivery != "at-least-once" or key is not None:
            _check_delivery(delivery, key)
        if scope is NO_SCOPE:
            scope = execution.run_scope
        elif scope.run_id is None:
            scope = scope.derive(run_id=execution.run_id)
        draft = self.of(execution, name, data, scope, priority, delivery, key)
        if name in _PROMPTING:
            _note_prompt(execution, name, data, scope)
        return draft

    def of(  # noqa: PLR0917 (at every update, too)
        self,
        execution: Execution,
        type: str,
        data: object,
        scope: Scope,
        priority: Priority | None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
    ) -> Draft:
        """The draft of an update that needs no check. Raises ``UpdateTooLargeError``."""
        execution_id = execution.execution_id
        if priority is None:
            priority = priority_of(type)
            if execution.priority != "medium":
                priority = priority_within(priority, execution.priority)
        else:
            priority = parse_priority(priority)
        if self.trace is not None and type in TRACED:
            scope = self.trace.see(execution_id, type, scope, self._error_in(type, data))
        now = self._clock()
        try:
            body = self.codec.encode(execution_id, type, data, scope=scope, priority=priority, timestamp=now)
        except UpdateTooLargeError:
            self._tally.too_large.add()
            raise
        return Draft(type, scope, priority, now, body, key, delivery)

    def _error_in(self, type: str, data: object) -> Mapping[str, Any] | None:
        """What an update says went wrong, redacted; None where nothing did."""
        if not type.endswith("_error"):
            return None
        ready = data if isinstance(data, Encoded) else self.codec.ready(type, data)
        shown = orjson.loads(ready.json)
        error = cast("dict[str, Any]", shown).get("error") if isinstance(shown, dict) else None
        return cast("dict[str, Any]", error) if isinstance(error, dict) else {}

    def within_rate(self, execution: Execution, drafts: list[Draft]) -> list[Draft]:
        """``drafts`` without those that may be dropped and are over the rate. Under the execution's lock."""
        if self._rate is None or not drafts:
            return drafts
        allowance = execution.allowance
        if allowance is None:
            allowance = execution.allowance = Allowance(self._rate, drafts[0].timestamp)
        kept = [draft for draft in drafts if allowance.take(draft.timestamp) or not _may_be_dropped(draft)]
        self._tally.over_rate.add(len(drafts) - len(kept))
        return kept


def _note_prompt(execution: Execution, name: str, data: object, scope: Scope) -> None:
    """A prompt is noted before it is in the log, so that its first reader can answer it."""
    if isinstance(data, orjson.Fragment):  # a node with `@stream_event` has its events encoded already
        data = orjson.loads(orjson.dumps(data))
    if isinstance(data, Mapping):
        prompt_id = cast("Mapping[object, object]", data).get("prompt_id")
    else:
        prompt_id = getattr(data, "prompt_id", None)
    if isinstance(prompt_id, str):
        with execution.lock:
            if scope.run_id == execution.run_id is not None:
                if name == "human_prompt":
                    execution.ask(prompt_id, scope)
                else:
                    execution.prompts.pop(prompt_id, None)


def _check_delivery(delivery: str, key: str | None) -> None:
    if delivery not in _DELIVERIES:
        raise BadRequestError(f"{delivery!r:.80} is not a delivery level: use one of {', '.join(get_args(Delivery))}")
    if key is None:
        if delivery == "exactly-once":
            raise BadRequestError("exactly-once needs a key that names the update: give key=…")
    elif delivery == "at-most-once":
        raise BadRequestError("a key is for updates that are to arrive exactly once: leave delivery out")
    elif not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not be typed)
        raise BadRequestError(f"a key is a string, not {key!r:.80}")
    elif not 0 < len(key) <= _MAX_KEY_LENGTH:
        raise BadRequestError(f"a key has 1 to {_MAX_KEY_LENGTH} characters, not {len(key)}")


def _may_be_dropped(draft: Draft) -> bool:
    return draft.delivery == "at-most-once" and kind_of(draft.type) != "status" and not draft.type.startswith("node_")
