"""Check a token's claims, once its signature is valid."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import jwt

from lg_streaming.errors import TokenExpiredError, UnauthorizedError

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.keys import Keys
    from lg_streaming.settings import AuthSettings

__all__ = ["ClaimsReader"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_TOKEN: Final = 16_384
_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_LATEST: Final = 253_402_300_799
"""The last second of the year 9999."""


class ClaimsReader:
    """Check of a token's signature, claims and times.

    Args:
        settings: The claims that a token must have.
        keys: Source of the keys.
        clock: Seconds since 1970.
    """

    def __init__(self, settings: AuthSettings, keys: Keys, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock

    async def read(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token: `sub` is text, and `exp` a number of seconds since 1970.

        Raises:
            UnauthorizedError: If the token is not valid. Only the debug log has the reason.
            TokenExpiredError: If the token was valid, and has expired.
            KeysUnavailableError: If the token's key is unknown while the key set cannot be fetched.
        """
        try:
            header = _header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if not isinstance(algorithm, str) or not isinstance(kid, str | None):
                raise jwt.InvalidAlgorithmError("no algorithm, or a strange key id")
            if "crit" in header:
                raise jwt.InvalidTokenError("the header has crit: no extension is understood here")
            key = await self._keys.find(algorithm, kid)
            if key is None:
                raise jwt.InvalidAlgorithmError("not an accepted algorithm, or not a known key")
            claims = self._decode(token, key, algorithm)
            self._check_issuer(claims)
            self._check_times(claims)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            logger.debug("a token was refused: %s", error)
            raise UnauthorizedError("the token is not valid") from None
        return claims

    def _decode(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        audience, issuer = self._settings.audience, self._settings.issuer
        wanted = {"exp": True, "sub": True, "aud": audience is not None, "iss": issuer is not None}
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audience,
            issuer=issuer,
            options={
                "require": [claim for claim, is_required in wanted.items() if is_required],
                "verify_aud": audience is not None,
                "verify_iss": issuer is not None,
                # pyjwt accepts text for a time, and uses the system clock: see _check_times.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,  # it takes text only: see below
            },
        )
        sub = claims["sub"]
        if isinstance(sub, int) and not isinstance(sub, bool):
            sub = str(sub)  # many issuers put the number of a user there
        if not isinstance(sub, str) or not sub:
            raise jwt.InvalidTokenError("sub is no text")
        return {**claims, "sub": sub}

    def _check_issuer(self, claims: dict[str, Any]) -> None:
        """Compare the whole issuer: some versions of pyjwt accept a part of it."""
        issuer = self._settings.issuer
        if issuer is not None and claims.get("iss") != issuer:
            raise jwt.InvalidIssuerError("another issuer")

    def _check_times(self, claims: dict[str, Any]) -> None:
        now, leeway = self._clock(), self._settings.leeway
        times = {name: _time(claims[name]) for name in ("exp", "nbf", "iat") if name in claims}
        for name in ("nbf", "iat"):
            if times.get(name, now) > now + leeway:
                raise jwt.ImmatureSignatureError(f"{name} is in the future")
        if times["exp"] + leeway <= now:
            raise TokenExpiredError


def _header(token: str) -> dict[str, Any]:
    """Return the header of a well-formed token. Its signature is not checked yet."""
    if len(token) > _MAX_TOKEN:
        raise ValueError("too long")
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        raise ValueError("not three parts in base64url")
    header, claims, _ = (_bytes(part) for part in shape.groups())
    _json_object(claims)
    return _json_object(header)


def _bytes(part: str) -> bytes:
    """Decode a part of a token. Only the canonical encoding is accepted."""
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).decode().rstrip("=") != part:
        raise ValueError("not base64url")
    return decoded


def _json_object(text: bytes) -> dict[str, Any]:
    """Parse a part as a JSON object.

    Repeated names and NaN are refused, because parsers differ in how they read them.
    """
    found: object = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=refuse_constant)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (not a wrong type of ours)
    return cast("dict[str, Any]", found)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _time(value: object) -> float:
    """Return a time of a token, in seconds since 1970, after a check."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise ValueError("a time is no number of seconds since 1970")
    return value
