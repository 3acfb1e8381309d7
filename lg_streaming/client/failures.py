"""Map errors of the server and of the network to exceptions, and decide which are worth a retry."""

from __future__ import annotations

import re
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
"""OpenSSL's reasons for a handshake that fails the same way each time."""
_TOO_EARLY: Final = 425
_SECONDS: Final = re.compile(r"[0-9]{1,6}")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRYABLE_STATUSES: Final = frozenset({408, _TOO_EARLY, 429})


class InterruptedStreamError(Exception):
    """A connection or an attempt failed; internal to this package.

    Args:
        error: The exception that the program receives.
        retryable: Whether a later attempt can succeed. None: as `error` has it.
    """

    def __init__(self, error: StreamingError, *, retryable: bool | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.retryable: bool = error.retryable if retryable is None else retryable


def connection_failure(error: BaseException, address: str, execution_id: str | None = None) -> InterruptedStreamError:
    """Return the failure for an error of the network. A wrong certificate of the server is not retried.

    Args:
        error: The error; its cause may be among the errors that it was raised from.
        address: Address of the server, for the message.
        execution_id: Execution of the connection.
    """
    tls_error = _find_tls_error(error)
    if tls_error is not None:
        message = (
            f"the TLS connection to {address} failed: {tls_error}; check the url, or give the client an ssl_context"
        )
    else:
        message = f"the connection to {address} failed: {str(error) or type(error).__name__}"
    return InterruptedStreamError(ConnectionLostError(message, execution_id=execution_id), retryable=tls_error is None)


def _find_tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of a TLS handshake that fails the same way each time; None for any other error."""
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


def error_from_payload(payload: object, *, execution_id: str | None = None) -> InterruptedStreamError:
    """Return the failure for an error object of the wire, whose `retryable` decides."""
    fields: Mapping[str, Any] = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    code = fields.get("code")
    error_class = _ERRORS_BY_CODE.get(code, StreamingError) if isinstance(code, int) else StreamingError
    retry_after_ms = fields.get("retry_after_ms")
    error = error_class(
        str(fields.get("message") or "the server sent an error without a message"),
        execution_id=fields.get("execution_id") or execution_id,
        retry_after=retry_after_ms / 1000 if isinstance(retry_after_ms, (int, float)) else None,
    )
    details = fields.get("details")
    if isinstance(details, dict):
        error.details = cast("dict[str, Any]", details)
    return InterruptedStreamError(error, retryable=fields.get("retryable") is True)


def http_failure(
    status: int, body: object, headers: Mapping[str, str], address: str, *, execution_id: str | None = None
) -> InterruptedStreamError:
    """Return the failure for an HTTP response that is no success.

    A response without an error object comes from a proxy before the server. Statuses of an overloaded or absent server
    are worth a retry; other statuses are not.

    Args:
        status: Status of the response.
        body: JSON of the response; None without JSON.
        headers: Headers of the response.
        address: Address of the server, for the message.
        execution_id: Execution of the request.
    """
    error: object = cast("Mapping[str, object]", body).get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return error_from_payload(cast("object", error), execution_id=execution_id)
    retry_after = headers.get("retry-after", "")
    message = f"the answer of {address} was {status} and not from an lg_streaming gateway: is the url right?"
    if status in _REDIRECTS and (target := headers.get("location")):
        message = (
            f"{address} redirects ({status}) to {target:.200}, and redirects are not followed: give the client that url"
        )
    return InterruptedStreamError(
        ConnectionLostError(
            message,
            execution_id=execution_id,
            retry_after=float(retry_after) if _SECONDS.fullmatch(retry_after) else None,
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
