"""What the server's errors mean to a client: which exception, and whether trying again helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import ConnectionLostError, StreamingError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["InterruptedStreamError", "http_failure", "told_failure"]

_TOO_EARLY: Final = 425
_RETRYABLE_STATUSES: Final = frozenset({408, _TOO_EARLY, 429})


class InterruptedStreamError(Exception):
    """A connection ended, or could not be made; for this package alone.

    Args:
        error: Why, as a program is told.
        retryable: Whether the same again can succeed later.
    """

    def __init__(self, error: StreamingError, *, retryable: bool | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.retryable: bool = error.retryable if retryable is None else retryable


def told_failure(told: object, *, execution_id: str | None = None) -> InterruptedStreamError:
    """The failure that an error object of the wire tells of; what the wire says about trying again counts."""
    fields: Mapping[str, Any] = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    number = fields.get("code")
    kind = _BY_CODE.get(number, StreamingError) if isinstance(number, int) else StreamingError
    retry_after_ms = fields.get("retry_after_ms")
    error = kind(
        str(fields.get("message") or "the server sent an error that says nothing"),
        execution_id=fields.get("execution_id") or execution_id,
        retry_after=retry_after_ms / 1000 if isinstance(retry_after_ms, (int, float)) else None,
    )
    return InterruptedStreamError(error, retryable=fields.get("retryable") is True)


def http_failure(
    status: int, told: object, headers: Mapping[str, str], *, execution_id: str | None = None
) -> InterruptedStreamError:
    """The failure that an HTTP answer tells of; `told` is its JSON body, or None where it has none.

    An answer without our error object comes from something before the server: what is overloaded or away may be there
    again later; anything else stays as it is.
    """
    error: object = cast("Mapping[str, object]", told).get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        return told_failure(cast("object", error), execution_id=execution_id)
    wait = headers.get("retry-after", "")
    return InterruptedStreamError(
        ConnectionLostError(
            f"the answer was {status} and not from an lg_streaming gateway: is the url right?",
            execution_id=execution_id,
            retry_after=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < len("1000000") else None,
        ),
        retryable=status >= 500 or status in _RETRYABLE_STATUSES,  # noqa: PLR2004
    )


def _by_code(base: type[StreamingError]) -> dict[int, type[StreamingError]]:
    found: dict[int, type[StreamingError]] = {}
    for each in base.__subclasses__():
        if "code" in vars(each):
            found[each.code] = each
        found |= _by_code(each)
    return found


_BY_CODE: Final = _by_code(StreamingError)
