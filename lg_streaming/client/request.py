"""Request of a subscription, as a message and as a query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

from lg_streaming.deadline import check_timeout
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position, check_execution_id
from lg_streaming.filters import FILTER_LISTS, INTERRUPTED, FilterOptions, UpdateFilter, filter_payload
from lg_streaming.types import OnGap

__all__ = ["SubscriptionRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRequest:
    """Validated arguments of one subscription. Build it with `from_arguments`."""

    execution_id: str
    after: Position | Literal["latest"] | None
    options: dict[str, Any]
    """Payload of the message without `after`; defaults are left out."""
    complete: bool
    """True if nothing is filtered or merged, so that sequence numbers are consecutive."""
    follow: bool
    until_interrupted: bool
    """True if reading ends when the run waits for a human."""
    timeout: float | None
    """Seconds for reading, from the first wait to the end."""

    @classmethod
    def from_arguments(
        cls,
        execution_id: str,
        *,
        after: Position | str | None,
        follow: bool,
        on_gap: OnGap,
        batch: bool,
        merge: bool,
        timeout: float | None,
        filters: FilterOptions,
    ) -> Self:
        """Validate the arguments of `StreamClient.subscribe`.

        Raises:
            BadRequestError: If an argument is not valid.
        """
        check_timeout(timeout)
        payload = {name: value for name, value in filter_payload(filters).items() if value != []}
        lists = {name: names for name, names in payload.items() if name in FILTER_LISTS}
        others = {name: value for name, value in filters.items() if name in payload and name not in lists}
        conditions: dict[str, Any] = {**others, **lists}
        until_interrupted = conditions.get("until") == INTERRUPTED
        if until_interrupted:
            del conditions["until"]
        filter = UpdateFilter.of(**conditions)  # noqa: A001  # pyright: ignore[reportArgumentType]
        if on_gap not in get_args(OnGap):
            raise BadRequestError(f"on_gap is 'oldest', 'tail' or 'fail', not {on_gap!r}")
        flags = {"follow": follow, "batch": batch, "merge": merge}
        return cls(
            execution_id=check_execution_id(execution_id),
            after=_parse_after(after),
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

    def from_start(self) -> Self:
        """Return the same request from the first update on."""
        return replace(self, after=None)

    def payload(self, position: Position | None) -> dict[str, Any]:
        """Return the payload of the message.

        Args:
            position: Position to resume from; None: begin at `after`.
        """
        after = position if position is not None else self.after
        return {
            "execution_id": self.execution_id,
            **self.options,
            **({"after": str(after)} if after is not None else {}),
        }

    def query(self, position: Position | None) -> dict[str, str]:
        """Return the same as the query of a URL, not percent-encoded yet.

        Raises:
            BadRequestError: If a name holds a comma, which separates names in a query.
        """
        payload = self.payload(position)
        del payload["execution_id"]
        return {name: _query_value(name, value) for name, value in payload.items()}


def _parse_after(after: Position | str | None) -> Position | Literal["latest"] | None:
    if after is None or isinstance(after, Position):
        return after
    return "latest" if after == "latest" else Position.parse(after)


def _query_value(name: str, value: object) -> str:
    if value is True:
        return "true"
    if not isinstance(value, list):
        return str(value)
    names = [str(each) for each in value]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if wrong := next((each for each in names if "," in each), None):
        raise BadRequestError(f"{wrong!r} in {name} holds a comma: over Server-Sent Events commas separate names")
    return ",".join(names)
