"""What the server's errors mean to a client: which exception, and whether trying again helps."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import ConnectionLostError, StreamingError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["InterruptedStreamError", "connection_failure", "error_from_payload", "http_failure"]

_PERMANENT_TLS_REASONS: Final = frozenset(
    {
        "HTTP_REQUEST",
        "NO_PROTOCOLS_AVAILABLE",
        "RECORD_LAYER_FAILURE",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_INTERNAL_ERROR",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_UNRECOGNIZED_NAME",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)
"""What OpenSSL calls a handshake that no later try can complete."""
_TOO_EARLY: Final = 425
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
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


def connection_failure(error: BaseException, address: str, execution_id: str | None = None) -> InterruptedStreamError:
    """The failure that an error of the network means. A server with the wrong certificate is not tried again.

    Args:
        error: What was raised; the cause may be in what it was raised from.
        address: Where the connection goes, for the message.
        execution_id: The execution whose connection it is.
    """
    refused = _find_tls_error(error)
    if refused is not None:
        why = f"the TLS connection to {address} failed: {refused}; check the url, or give the client an ssl_context"
    else:
        why = f"the connection to {address} failed: {str(error) or type(error).__name__}"
    return InterruptedStreamError(ConnectionLostError(why, execution_id=execution_id), retryable=refused is None)


def _find_tls_error(error: BaseException) -> ssl.SSLError | None:
    """The error of a TLS handshake that fails the same way each time; None for any other error."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for each in (cause, *(part for part in cause.args if isinstance(part, BaseException))):
            if isinstance(each, ssl.SSLCertVerificationError) or (
                isinstance(each, ssl.SSLError) and getattr(each, "reason", None) in _PERMANENT_TLS_REASONS
            ):
                return each
        cause = cause.__cause__ or cause.__context__
    return None


def error_from_payload(told: object, *, execution_id: str | None = None) -> InterruptedStreamError:
    """The failure that an error object of the wire tells of; what the wire says about trying again counts."""
    fields: Mapping[str, Any] = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    number = fields.get("code")
    kind = _ERRORS_BY_CODE.get(number, StreamingError) if isinstance(number, int) else StreamingError
    retry_after_ms = fields.get("retry_after_ms")
    error = kind(
        str(fields.get("message") or "the server sent an error that says nothing"),
        execution_id=fields.get("execution_id") or execution_id,
        retry_after=retry_after_ms / 1000 if isinstance(retry_after_ms, (int, float)) else None,
    )
    return InterruptedStreamError(error, retryable=fields.get("retryable") is True)


def http_failure(
    status: int, told: object, headers: Mapping[str, str], address: str, *, execution_id: str | None = None
) -> InterruptedStreamError:
    """The failure that an HTTP answer from `address` means; `told` is its JSON body, or None where it has none.

    An answer without our error object comes from something before the server: what is overloaded or away may be there
    again later; anything else stays as it is.
    """
    error: object = cast("Mapping[str, object]", told).get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        return error_from_payload(cast("object", error), execution_id=execution_id)
    wait = headers.get("retry-after", "")
    what = f"the answer of {address} was {status} and not from an lg_streaming gateway: is the url right?"
    if status in _REDIRECTS and (target := headers.get("location")):
        what = (
            f"{address} redirects ({status}) to {target:.200}, and redirects are not followed: give the client that url"
        )
    return InterruptedStreamError(
        ConnectionLostError(
            what,
            execution_id=execution_id,
            retry_after=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < len("1000000") else None,
        ),
        retryable=status >= 500 or status in _RETRYABLE_STATUSES,  # noqa: PLR2004
    )


def _errors_by_code(base: type[StreamingError]) -> dict[int, type[StreamingError]]:
    found: dict[int, type[StreamingError]] = {}
    for each in base.__subclasses__():
        if "code" in vars(each):
            found[each.code] = each
        found |= _errors_by_code(each)
    return found


_ERRORS_BY_CODE: Final = _errors_by_code(StreamingError)
