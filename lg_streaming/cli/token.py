"""Sign tokens for development."""

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

from lg_streaming.gateway.auth.claims import refuse_constant
from lg_streaming.gateway.auth.keys import DEFAULT_ALGORITHMS, algorithms_of
from lg_streaming.gateway.auth.principal import CLAIM
from lg_streaming.settings import check_secret

__all__ = ["TokenError", "TokenRequest", "make_token", "parse_duration"]

_MAX_DURATION: Final = 3_650 * 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_HMAC: Final = ("HS256", "HS384", "HS512")
_RESERVED_CLAIMS: Final = frozenset({"sub", "exp", "iat", "jti", "aud", "iss", CLAIM})


class TokenError(Exception):
    """The token cannot be signed; the message is printed on the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """Claims of a token, and its key: either `secret` or `private_key`."""

    subject: str
    expires_in: int
    """Seconds."""
    executions: tuple[str, ...] = ()
    """Globs of execution ids that the token grants, in addition to the subject's executions."""
    actions: tuple[str, ...] = ()
    """Actions on these executions: `read`, `control`, `start`. Empty: `read`."""
    graphs: tuple[str, ...] = ()
    """Globs of the names of graphs that the token may start."""
    secret: str | None = None
    private_key: Path | None = None
    """A PEM file."""
    algorithm: str | None = None
    """Signing algorithm; None: the usual algorithm of the key."""
    audience: str | None = None
    issuer: str | None = None
    kid: str | None = None
    claims: tuple[str, ...] = field(default=())
    """Additional claims, each as `name=JSON`."""


def make_token(
    request: TokenRequest, *, clock: Callable[[], float] = time.time, new_id: Callable[[], str] | None = None
) -> str:
    """Sign a token.

    Raises:
        TokenError: If the request is not valid.
    """
    if not request.subject:
        raise TokenError("--subject is empty: a token needs a subject")
    if request.private_key is None:
        key, algorithm = _key_from_secret(request)
    elif request.secret is None:
        key, algorithm = _key_from_file(request.private_key, request.algorithm)
    else:
        raise TokenError("give --secret or --private-key, not both: a token is signed once")
    now = int(clock())
    claims: dict[str, Any] = {
        "sub": request.subject,
        "iat": now,
        "exp": now + request.expires_in,
        "jti": new_id() if new_id is not None else secrets.token_hex(8),
        "aud": request.audience,
        "iss": request.issuer,
        CLAIM: _grants(request),
        **_extra_claims(request.claims),
    }
    present = {name: value for name, value in claims.items() if value is not None or name not in _RESERVED_CLAIMS}
    return jwt.encode(present, key, algorithm, headers=None if request.kid is None else {"kid": request.kid})


def parse_duration(text: str) -> int:
    """Return the seconds in `3600`, `30m`, `1h` or `7d`.

    Raises:
        TokenError: If the text has another form, or the duration is 0 or too long.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = 0 if found is None else int(found[1]) * _UNITS[found[2] or "s"]
    if not 0 < seconds <= _MAX_DURATION:
        raise TokenError(
            f"--expires-in is seconds, or a number with s, m, h or d, such as 30m, and at most 3650d; not {text!r}"
        )
    return seconds


def _key_from_secret(request: TokenRequest) -> tuple[str, str]:
    algorithm = request.algorithm or "HS256"
    if request.secret is None:
        raise TokenError("a key is needed: set LG_STREAMING_AUTH__SECRET, or give --secret or --private-key")
    if algorithm not in _HMAC:
        raise TokenError(f"--algorithm {algorithm} needs --private-key; a secret goes with {', '.join(_HMAC)}")
    try:
        check_secret(request.secret, (algorithm,))
    except ValueError as error:
        raise TokenError(str(error).replace("auth.public_key to the public one", "--private-key")) from None
    return request.secret, algorithm


def _key_from_file(path: Path, algorithm: str | None) -> tuple[Any, str]:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise TokenError(f"{path} is encrypted: decrypt it first, with openssl pkey") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TokenError(f"{path} is not a private key in PEM") from None
    supported = algorithms_of(key.public_key())
    if not supported:
        raise TokenError(f"{path} goes with no algorithm: make an RSA (2,048 bits), EC or Ed25519 key")
    algorithm = algorithm or next((each for each in supported if each in DEFAULT_ALGORITHMS), supported[0])
    if algorithm not in supported:
        raise TokenError(f"--algorithm {algorithm} does not fit {path}: it goes with {', '.join(supported)}")
    return key, algorithm


def _grants(request: TokenRequest) -> list[dict[str, list[str]]] | None:
    unknown = set(request.actions) - {"read", "control", "start"}
    if unknown:
        raise TokenError(f"--action is read, control or start, not {min(unknown)!r}")
    if "start" in request.actions and not request.graphs:
        raise TokenError("--action start applies to the graphs of --graph: give --graph too")
    actions = list(dict.fromkeys(request.actions))
    if request.executions and not actions:
        actions = ["read"]
    if not request.executions and set(actions) - {"start"}:
        raise TokenError("--action applies to the executions of --execution: give --execution too")
    if request.graphs and "start" not in actions:
        actions.append("start")
    if not actions:
        return None
    lists = {"executions": list(request.executions), "graphs": list(request.graphs)}
    return [{"actions": actions, **{name: globs for name, globs in lists.items() if globs}}]


def _extra_claims(claims: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for claim in claims:
        name, equals, text = claim.partition("=")
        if not name or not equals:
            raise TokenError(f"--claim is name=JSON, such as role='\"admin\"'; not {claim!r}")
        if name in _RESERVED_CLAIMS:
            raise TokenError(f"--claim {name}: this claim has a separate option, or is set automatically")
        if name in found:
            raise TokenError(f"--claim {name} is given twice")
        try:
            found[name] = json.loads(text, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            raise TokenError(f"--claim {name}: {text!r} is not JSON; text needs quotes: {name}='\"{text}\"'") from None
    return found
