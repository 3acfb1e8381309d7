"""What a subscription asks for, as the wire wants it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from lg_streaming.deadline import check_timeout
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position, check_execution_id
from lg_streaming.filters import FILTER_LISTS, INTERRUPTED, FilterOptions, UpdateFilter, filter_payload

__all__ = ["OnGap", "SubscriptionRequest"]

OnGap = Literal["oldest", "tail", "fail"]
"""Where to go on when updates are gone: at the oldest that is kept, at the newest, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRequest:
    """One subscription's wishes, checked. Build it with `of`."""

    execution_id: str
    after: Position | Literal["latest"] | None
    options: dict[str, Any]
    """All but the place to begin at, as a message's payload; what is as by default is left out."""
    complete: bool
    """Whether every update is wanted as it is, so that numbers have to be consecutive."""
    follow: bool
    until_interrupted: bool
    """Whether reading ends when the run waits for a human."""
    timeout: float | None
    """Seconds that reading may take in all."""

    @classmethod
    def of(
        cls,
        execution_id: str,
        *,
        after: Position | str | None,
        follow: bool,
        on_gap: OnGap,
        batch: bool,
        merge: bool,
        timeout: float | None,
        wanted: FilterOptions,
    ) -> Self:
        """Checks what can be checked without the server. Raises BadRequestError."""
        check_timeout(timeout)
        payload = {name: value for name, value in filter_payload(wanted).items() if value != []}
        lists = {name: names for name, names in payload.items() if name in FILTER_LISTS}
        others = {name: value for name, value in wanted.items() if name in payload and name not in lists}
        conditions: dict[str, Any] = {**others, **lists}
        until_interrupted = conditions.get("until") == INTERRUPTED
        if until_interrupted:
            del conditions["until"]
        filter = UpdateFilter.of(**conditions)  # noqa: A001  # pyright: ignore[reportArgumentType]
        if on_gap not in {"oldest", "tail", "fail"}:
            raise BadRequestError(f"on_gap is 'oldest', 'tail' or 'fail', not {on_gap!r}")
        flags = {"follow": follow, "batch": batch, "merge": merge}
        return cls(
            execution_id=check_execution_id(execution_id),
            after=_place(after),
            options={
                **payload,
                **{name: True for name, flag in flags.items() if flag},
                **({"on_gap": on_gap} if on_gap != "oldest" else {}),
            },
            complete=filter.is_empty and not merge,
            follow=follow,
            until_interrupted=until_interrupted,
            timeout=timeout,
        )

    def from_the_start(self) -> Self:
        """The same from the first update on."""
        return replace(self, after=None)

    def payload(self, position: Position | None) -> dict[str, Any]:
        """As a message asks for it, from `position` on, or from where it was to begin."""
        after = position if position is not None else self.after
        return {
            "execution_id": self.execution_id,
            **self.options,
            **({"after": str(after)} if after is not None else {}),
        }

    def query(self, position: Position | None) -> dict[str, str]:
        """The same as the query of an address; percent-encoding is left to who makes the address.

        Raises:
            BadRequestError: A name holds a comma, which separates names in a query.
        """
        payload = self.payload(position)
        del payload["execution_id"]
        return {name: _in_query(name, value) for name, value in payload.items()}


def _place(after: Position | str | None) -> Position | Literal["latest"] | None:
    if after is None or isinstance(after, Position):
        return after
    return "latest" if after == "latest" else Position.parse(after)


def _in_query(name: str, value: object) -> str:
    if value is True:
        return "true"
    if not isinstance(value, list):
        return str(value)
    names = [str(each) for each in value]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if wrong := next((each for each in names if "," in each), None):
        raise BadRequestError(f"{wrong!r} in {name} holds a comma: over Server-Sent Events commas separate names")
    return ",".join(names)
