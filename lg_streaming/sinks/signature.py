"""Signatures of webhooks, as the Standard Webhooks specification has them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from lg_streaming.errors import StreamingConfigError, UnauthorizedError

__all__ = ["Secret", "parse_keys", "sign", "verify_webhook"]

Secret = str | bytes
"""The key as bytes, or as text: ``whsec_`` and its Base64."""

_PREFIX: Final = "whsec_"
_MIN_KEY: Final = 16
_MAX_AGE_DIGITS: Final = 12


def parse_keys(secret: Secret | Sequence[Secret] | None) -> list[bytes]:
    """The keys to sign with.

    Raises:
        StreamingConfigError: One is shorter than 16 bytes, or a text that is not ``whsec_`` and Base64.
    """
    if secret is None:
        return []
    given = [secret] if isinstance(secret, (str, bytes)) else secret
    keys = [_parse_key(each) for each in given]
    if not keys or any(len(key) < _MIN_KEY for key in keys):
        raise StreamingConfigError(
            f"a webhook's secret has at least {_MIN_KEY} bytes; make one with secrets.token_bytes(32)"
        )
    return keys


def _parse_key(secret: Secret) -> bytes:
    if isinstance(secret, bytes):
        return secret
    if not secret.startswith(_PREFIX):
        raise StreamingConfigError("a webhook's secret is bytes, or 'whsec_' and the Base64 of bytes")
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise StreamingConfigError("what follows 'whsec_' in a webhook's secret is not Base64") from None


def sign(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook; without a key it is not signed."""
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp)}
    if keys:
        headers["webhook-signature"] = " ".join(_signature(key, webhook_id, str(timestamp), body) for key in keys)
    return headers


def _signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode(errors="replace") + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    secret: Secret | Sequence[Secret],
    *,
    tolerance: float = 300.0,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """The JSON of a webhook, if it comes from somebody who knows the secret and is not an old one.

    Remember the ids you have seen, the header ``webhook-id``: a batch may come again under the same one.

    Args:
        headers: Of the request; upper and lower case are the same.
        body: Of the request, its bytes as they came.
        secret: Bytes, or ``whsec_`` and their Base64; one of several may have signed it.
        tolerance: Seconds by which the sender's clock, or the way of the request, may be off.
        clock: Seconds since 1970.

    Raises:
        UnauthorizedError: A header is missing, the signature is not good, or the time is not now.
        StreamingConfigError: The secret cannot be used.
    """
    keys = parse_keys(secret)
    given = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, timestamp = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"].split()
    except KeyError as error:
        raise UnauthorizedError(f"the webhook has no header {error.args[0]!r}") from None
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_AGE_DIGITS):
        raise UnauthorizedError("the webhook's timestamp is no number of seconds")
    good = [_signature(key, webhook_id, timestamp, body).encode() for key in keys]
    if not any(hmac.compare_digest(one, other.encode(errors="replace")) for other in signatures for one in good):
        raise UnauthorizedError("the webhook's signature is not good")
    if abs(clock() - int(timestamp)) > tolerance:
        raise UnauthorizedError(f"the webhook was sent more than {tolerance} s ago, or will be")
    return orjson.loads(body)
