"""Makes tokens to try a server with."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lg_streaming.gateway.auth.keys import DEFAULT_ALGORITHMS, algorithms_of
from lg_streaming.gateway.auth.principal import CLAIM
from lg_streaming.settings import check_secret

__all__ = ["TokenError", "TokenRequest", "make_token", "seconds_of"]

_LONGEST: Final = 3_650 * 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_HMAC: Final = ("HS256", "HS384", "HS512")
_OWN: Final = frozenset({"sub", "exp", "iat", "jti", "aud", "iss", CLAIM})


class TokenError(Exception):
    """A token that cannot be made; the message is for the person at the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a token is to say, and how it is signed.

    One of `secret` and `private_key` is given.
    """

    subject: str
    expires_in: int
    """Seconds."""
    executions: tuple[str, ...] = ()
    """Globs of execution ids the holder may use beside its own."""
    actions: tuple[str, ...] = ()
    """What it may do with these: `read`, `control`. None given: `read`."""
    secret: str | None = None
    private_key: Path | None = None
    """A PEM file."""
    algorithm: str | None = None
    """None: the usual one of the key."""
    audience: str | None = None
    issuer: str | None = None
    kid: str | None = None
    claims: tuple[str, ...] = field(default=())
    """Further claims, each as `name=JSON`."""


def make_token(
    wanted: TokenRequest, *, clock: Callable[[], float] = time.time, new_id: Callable[[], str] | None = None
) -> str:
    """The token.

    Raises:
        TokenError: It cannot be made so.
    """
    if not wanted.subject:
        raise TokenError("--subject is empty: a token is for somebody")
    if wanted.private_key is None:
        key, algorithm = _from_secret(wanted)
    elif wanted.secret is None:
        key, algorithm = _from_file(wanted.private_key, wanted.algorithm)
    else:
        raise TokenError("give --secret or --private-key, not both: a token is signed once")
    now = int(clock())
    claims: dict[str, Any] = {
        "sub": wanted.subject,
        "iat": now,
        "exp": now + wanted.expires_in,
        "jti": new_id() if new_id is not None else secrets.token_hex(8),
        "aud": wanted.audience,
        "iss": wanted.issuer,
        CLAIM: _grants(wanted),
        **_further(wanted.claims),
    }
    said = {name: value for name, value in claims.items() if value is not None or name not in _OWN}
    return jwt.encode(said, key, algorithm, headers=None if wanted.kid is None else {"kid": wanted.kid})


def seconds_of(text: str) -> int:
    """The seconds in `3600`, `30m`, `1h` or `7d`.

    Raises:
        TokenError: It is no such text, or nothing.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = 0 if found is None else int(found[1]) * _UNITS[found[2] or "s"]
    if not 0 < seconds <= _LONGEST:
        raise TokenError(
            f"--expires-in is seconds, or a number with s, m, h or d, such as 30m, and at most 3650d; not {text!r}"
        )
    return seconds


def _from_secret(wanted: TokenRequest) -> tuple[str, str]:
    algorithm = wanted.algorithm or "HS256"
    if wanted.secret is None:
        raise TokenError("a key is needed: set LG_STREAMING_AUTH__SECRET, or give --secret or --private-key")
    if algorithm not in _HMAC:
        raise TokenError(f"--algorithm {algorithm} needs --private-key; a secret goes with {', '.join(_HMAC)}")
    try:
        check_secret(wanted.secret, (algorithm,))
    except ValueError as error:
        raise TokenError(str(error).replace("auth.public_key to the public one", "--private-key")) from None
    return wanted.secret, algorithm


def _from_file(path: Path, algorithm: str | None) -> tuple[Any, str]:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise TokenError(f"{path} is encrypted: decrypt it first, with openssl pkey") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TokenError(f"{path} is not a private key in PEM") from None
    able = algorithms_of(key.public_key())
    if not able:
        raise TokenError(f"{path} goes with no algorithm: make an RSA (2,048 bits), EC or Ed25519 key")
    algorithm = algorithm or next((each for each in able if each in DEFAULT_ALGORITHMS), able[0])
    if algorithm not in able:
        raise TokenError(f"--algorithm {algorithm} does not fit {path}: it goes with {', '.join(able)}")
    return key, algorithm


def _grants(wanted: TokenRequest) -> list[dict[str, list[str]]] | None:
    if not wanted.executions:
        if wanted.actions:
            raise TokenError("--action says what may be done with executions: give --execution too")
        return None
    unknown = set(wanted.actions) - {"read", "control"}
    if unknown:
        raise TokenError(f"--action is read or control, not {min(unknown)!r}")
    actions = list(dict.fromkeys(wanted.actions)) or ["read"]
    return [{"actions": actions, "executions": list(wanted.executions)}]


def _further(claims: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for claim in claims:
        name, equals, text = claim.partition("=")
        if not name or not equals:
            raise TokenError(f"--claim is name=JSON, such as role='\"admin\"'; not {claim!r}")
        if name in _OWN:
            raise TokenError(f"--claim {name}: there is an option of its own for it, or it is made by itself")
        if name in found:
            raise TokenError(f"--claim {name} is given twice")
        try:
            found[name] = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise TokenError(f"--claim {name}: {text!r} is not JSON; text needs quotes: {name}='\"{text}\"'") from None
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
