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
    """Return the keys to sign with.

    Raises:
        StreamingConfigError: If one is shorter than 16 bytes, or a text that is not ``whsec_`` and Base64.
    """
    if secret is None:
        return []
    secrets = [secret] if isinstance(secret, (str, bytes)) else secret
    keys = [_parse_key(each) for each in secrets]
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
    """Return the headers of a webhook; without a key it is not signed."""
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
    """Return the JSON of a webhook, if its signature is valid and recent.

    Remember the ids you have seen, the header ``webhook-id``: a repeated batch has the same one.

    Args:
        headers: The headers of the request, in any case.
        body: The body of the request, unchanged.
        secret: Bytes, or ``whsec_`` and their Base64; of several, one must have signed it.
        tolerance: The most seconds between the timestamp and now.
        clock: Seconds since 1970.

    Raises:
        UnauthorizedError: If a header is missing, the signature is wrong, or the timestamp is too far from now.
        StreamingConfigError: If the secret is invalid.
    """
    keys = parse_keys(secret)
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, timestamp = lowered["webhook-id"], lowered["webhook-timestamp"]
        signatures = lowered["webhook-signature"].split()
    except KeyError as error:
        raise UnauthorizedError(f"the webhook has no header {error.args[0]!r}") from None
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_AGE_DIGITS):
        raise UnauthorizedError("the webhook's timestamp is no number of seconds")
    expected = [_signature(key, webhook_id, timestamp, body).encode() for key in keys]
    if not any(hmac.compare_digest(one, other.encode(errors="replace")) for other in signatures for one in expected):
        raise UnauthorizedError("the webhook's signature is not good")
    if abs(clock() - int(timestamp)) > tolerance:
        raise UnauthorizedError(f"the webhook was sent more than {tolerance} s ago, or will be")
    return orjson.loads(body)
