"""Validate and encode updates, and limit their rate."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import orjson

from lg_streaming.codec import POSITION_BYTES, Codec, Encoded
from lg_streaming.errors import BadRequestError, UpdateTooLargeError
from lg_streaming.events import HUB_TYPES, clamp_priority, kind_of, parse_priority, priority_of
from lg_streaming.hub.usage import USAGE_TYPES, CallUsage
from lg_streaming.log.base import PendingUpdate
from lg_streaming.prompts import Prompt
from lg_streaming.publisher import NO_SCOPE, TRACED, Delivery
from lg_streaming.shorten import TEXT_FIELDS
from lg_streaming.token_bucket import TokenBucket
from lg_streaming.values import has_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.codec import Redact
    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.statistics import Counters
    from lg_streaming.publisher import LargeUpdates, Scope, Trace
    from lg_streaming.settings import LimitSettings

__all__ = ["UpdateEncoder"]

_DELIVERIES: Final = frozenset[str](get_args(Delivery))
_MAX_KEY_LENGTH: Final = 512
_new: Final = cast("Any", tuple.__new__)
_PROMPT_TYPES: Final = frozenset({"human_prompt", "human_response"})
_CHECKED: Final = HUB_TYPES | _PROMPT_TYPES | USAGE_TYPES
"""Types with special rules: one look-up for each update."""


class UpdateEncoder:
    """Encoder of updates to drafts (`PendingUpdate`), which are ready to append.

    Args:
        limits: The limits of an update's size, and of the updates per second.
        redact: Applied to every update before it is encoded.
        clock: Seconds since 1970.
        counters: Counts of refused, dropped and shortened updates.
        monotonic: Seconds that never go back, for rates.
    """

    def __init__(
        self,
        limits: LimitSettings,
        redact: Redact | None,
        clock: Callable[[], float],
        counters: Counters,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monotonic = monotonic
        self._clock = clock
        cached = functools.lru_cache(maxsize=256)(priority_of)
        self._priority_of = cast("Callable[[str], Priority]", cached)
        self._counters = counters
        self._rate = limits.updates_per_second
        self.limited: bool = self._rate is not None
        """True with a limit of the updates per second."""
        self._refuses = limits.large_updates == "refuse"
        self._redacts = redact is not None
        self.codec: Codec = Codec(max_bytes=limits.update_bytes, reserve=POSITION_BYTES, redact=redact)
        self.trace: Trace | None = None
        """The trace of runs and nodes."""

    def encode(  # noqa: C901, PLR0917 (at every update, in one piece)
        self,
        execution: Execution,
        type: str,
        data: object,
        scope: Scope,
        priority: Priority | None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
        large: LargeUpdates | None = None,
        *,
        by_hub: bool = False,
    ) -> list[PendingUpdate]:
        """Return the drafts of an update: one, or several of a text that is too large.

        Args:
            execution: The execution.
            type: The type.
            data: The data.
            scope: The scope; completed with the open run.
            priority: The priority; None for the type's own.
            delivery: The delivery level.
            key: The key of an update that is to be appended exactly once.
            large: The treatment of an update that is too large; None for that of the settings.
            by_hub: True for an update of the hub itself. It is not validated, and shortened unless ``large`` is set.

        Raises:
            BadRequestError: If an argument cannot be used.
            UpdateTooLargeError: If it is too large, is no text, and ``large`` (or else the setting) is `refuse`.
        """
        execution_id = execution.execution_id
        # callers may not be typed
        special = not by_hub and (not isinstance(type, str) or type in _CHECKED)  # pyright: ignore[reportUnnecessaryIsInstance]
        if special:
            _check_type(type)
        if delivery != "at-least-once" or key is not None:
            _check_delivery(delivery, key)
        if scope is NO_SCOPE:
            scope = execution.run_scope
        elif scope.run_id is None:
            scope = scope.derive(run_id=execution.run_id)
        if priority is None:
            priority = self._priority_of(type)
            if execution.priority != "medium":
                priority = clamp_priority(priority, execution.priority)
        else:
            priority = parse_priority(priority)
        if self.trace is not None and type in TRACED:
            scope = self.trace.on_update(execution_id, type, scope, self._error_in(type, data))
        now = self._clock()
        ready = data
        if self._redacts and not isinstance(data, Encoded):  # once, even if the update is too large
            ready = self.codec.encode_data(type, data)
        body = b""
        try:
            body = self.codec.encode(execution_id, type, ready, scope, priority, now)
        except UpdateTooLargeError as error:
            if type not in TEXT_FIELDS and (large == "refuse" or (large is None and self._refuses and not by_hub)):
                self._counters.drops.note("too_large", execution, execution_id, type, details=error.message)
                raise
        # `PendingUpdate(…)` without its Python call
        draft = _new(PendingUpdate, (type, scope, priority, now, body, key, delivery, "any", None))
        drafts = [draft] if body else self._encode_fitting(execution, draft, ready)
        if special:
            _note_prompt(execution, type, data, scope)
            drafts[0] = _with_usage(execution, drafts[0], ready)
        return drafts

    def _encode_fitting(self, execution: Execution, draft: PendingUpdate, data: object) -> list[PendingUpdate]:
        """Return an update that is too large, which ``draft`` is without its body, in one piece or several."""
        name, scope, priority, now, _, key, delivery = draft[:7]
        self._counters.drops.note_shortened(execution, name)
        ready = data if isinstance(data, Encoded) else self.codec.encode_data(name, data)
        scope, bodies = self.codec.encode_fitting(
            execution.execution_id, name, ready, scope=scope, priority=priority, timestamp=now
        )
        keys = [key if key is None or not part else f"{key}\0{part}" for part in range(len(bodies))]
        return [
            PendingUpdate(name, scope, priority, now, body, part_key, delivery)
            for body, part_key in zip(bodies, keys, strict=True)
        ]

    def _error_in(self, type: str, data: object) -> Mapping[str, Any] | None:
        """Return the redacted error of an update; None without an error."""
        if not type.endswith("_error"):
            return None
        ready = data if isinstance(data, Encoded) else self.codec.encode_data(type, data)
        shown = orjson.loads(ready.json)
        error = cast("dict[str, Any]", shown).get("error") if isinstance(shown, dict) else None
        return cast("dict[str, Any]", error) if isinstance(error, dict) else {}

    def within_rate(self, execution: Execution, drafts: list[PendingUpdate]) -> list[PendingUpdate]:
        """Return ``drafts`` without at-most-once ones over the rate. Requires the execution's lock."""
        if self._rate is None or not drafts:
            return drafts
        allowance, now = execution.allowance, self.monotonic()
        if allowance is None:
            allowance = execution.allowance = TokenBucket(self._rate, max(1.0, self._rate), now)
        kept = [draft for draft in drafts if allowance.take(now) or not _may_be_dropped(draft)]
        if len(kept) < len(drafts):
            dropped = next(draft for draft in drafts if draft not in kept)
            self._counters.drops.note(
                "over_rate", execution, execution.execution_id, dropped.type, amount=len(drafts) - len(kept)
            )
        return kept


def _with_usage(execution: Execution, draft: PendingUpdate, data: object) -> PendingUpdate:
    """Return an update with what it adds to the usage of its run."""
    if draft.type not in USAGE_TYPES:
        return draft
    calls = execution.usage = execution.usage or CallUsage()
    return draft._replace(usage=calls.note(draft.type, data, draft.scope))


def _note_prompt(execution: Execution, name: str, data: object, scope: Scope) -> None:
    """Register a prompt before it is in the log, so that its first reader can answer it."""
    if name not in _PROMPT_TYPES:
        return
    if isinstance(data, orjson.Fragment):  # a node with `@stream_event` has its events encoded already
        data = orjson.loads(orjson.dumps(data))
    no_fields: dict[str, Any] = {}
    fields = cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else no_fields
    prompt_id = fields.get("prompt_id") if fields else getattr(cast("object", data), "prompt_id", None)
    if isinstance(prompt_id, str):
        with execution.lock:
            if scope.run_id == execution.run_id is not None:
                if name == "human_prompt":
                    form = {key: fields[key] for key in ("type", "choices") if key in fields}
                    execution.open_prompt(Prompt(prompt_id=prompt_id, data=form, scope=scope))
                else:
                    execution.close_prompt(prompt_id)


def _check_type(type: str) -> None:
    if not isinstance(type, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not be typed)
        raise BadRequestError(f"a type is a string, not {type!r:.80}")
    if type in HUB_TYPES:
        raise BadRequestError(f"{type!r} cannot be published: end a run with close(), fail() or cancel()")


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
    elif has_lone_surrogates(key):
        raise BadRequestError(f"a key has a lone surrogate, which UTF-8 cannot encode: {key!r:.80}")


def _may_be_dropped(draft: PendingUpdate) -> bool:
    return draft.delivery == "at-most-once" and kind_of(draft.type) != "status" and not draft.type.startswith("node_")
