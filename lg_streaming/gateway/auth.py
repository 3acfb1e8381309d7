"""Who may come in, and what they may see.

Identity comes from a signed token's claims and from nothing else. The key decides the algorithms: a token
that names another one is refused before its signature is looked at, so ``none`` and a public key used as a
shared secret get nowhere.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lg_streaming.errors import (
    ForbiddenError,
    OriginError,
    StreamingConfigError,
    TokenExpiredError,
    UnauthorizedError,
)
from lg_streaming.gateway.globs import matches

if TYPE_CHECKING:
    from lg_streaming.gateway.peer import Peer
    from lg_streaming.settings import AuthSettings

__all__ = ["ANONYMOUS", "Action", "Authorize", "Grant", "Policy", "Principal"]

logger = logging.getLogger(__name__)

Action = Literal["read", "control"]

CLAIM: Final = "lg_streaming"
"""The claim that grants more than a principal's own executions."""
_MAX_TOKEN: Final = 16_384
_MAX_GRANTS: Final = 64
_ACTIONS: Final = frozenset({"read", "control"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Actions on all executions whose ids match one of the globs: ``*`` within a ``/`` segment, ``**`` across."""

    actions: frozenset[str]
    executions: tuple[str, ...]

    def allows(self, action: Action, execution_id: str) -> bool:
        """Whether this grant is enough."""
        return action in self.actions and any(matches(each, execution_id) for each in self.executions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a connection acts for."""

    subject: str | None = None
    """The token's ``sub``; None for everybody while authentication is off."""
    grants: tuple[Grant, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """All claims of the token."""
    expires_at: float | None = None
    """Seconds since 1970; None: never."""


ANONYMOUS: Final = Principal()

Authorize = Callable[[Principal, Action, str, str | None], bool | Awaitable[bool]]
"""``authorize(principal, action, execution_id, owner) -> bool``, sync (run in a thread) or async.

Asked when neither ownership nor a grant allows the action; while authentication is off it alone decides.
``owner`` is None when the execution has none or does not exist (yet). An exception, or no answer in 10 seconds,
means no.
"""


class Policy:
    """The rules of admission.

    Args:
        settings: Keys and switches.
        cors_origins: Browser origins that are let in beside the server's own; ``*`` means all.
        authorize: The application's own say.
        clock: Seconds since 1970.
        authorize_timeout: Seconds until no answer counts as no.

    Raises:
        StreamingConfigError: Authentication is on and there is no key, or the key cannot be read.
    """

    def __init__(
        self,
        settings: AuthSettings,
        *,
        cors_origins: tuple[str, ...] = (),
        authorize: Authorize | None = None,
        clock: Callable[[], float] = time.time,
        authorize_timeout: float = 10.0,
    ) -> None:
        self._settings = settings
        self._origins = frozenset(origin.lower().rstrip("/") for origin in cors_origins)
        self._authorize = authorize
        self._authorize_timeout = authorize_timeout
        self._clock = clock
        self._keys = _keys(settings)
        self.requires_token = bool(self._keys) if settings.enabled is None else settings.enabled
        """Whether callers need a token: ``auth.enabled``, and where that is unset, whether there is a key."""
        self.local_only = settings.enabled is None and not self.requires_token
        """Whether only callers from this machine are let in, because nobody has set authentication up."""
        if self.requires_token and not self._keys:
            raise StreamingConfigError("auth.enabled needs a key: set auth.secret or auth.public_key")

    # ------------------------------------------------------------ coming in
    def check_origin(self, peer: Peer) -> None:
        """Lets a browser in only from this server's own pages and from ``gateway.cors_origins``.

        Raises:
            OriginError: It comes from elsewhere.
        """
        if peer.origin is not None and not (self.trusts_origin(peer) or "*" in self._origins):
            raise OriginError(f"origin {peer.origin!r:.200} is not allowed: add it to gateway.cors_origins")

    def trusts_origin(self, peer: Peer) -> bool:
        """Whether the caller's cookies may count: no other site's page, and not merely let in by ``*``."""
        return peer.origin is None or peer.is_same_origin or peer.origin.lower().rstrip("/") in self._origins

    def cors_headers(self, peer: Peer) -> dict[str, str]:
        """What lets a page of an allowed origin read the answer."""
        if peer.origin is None or peer.is_same_origin:
            return {}
        if self.trusts_origin(peer):
            return {
                "Access-Control-Allow-Origin": peer.origin,
                "Access-Control-Allow-Credentials": "true",
                "Vary": "Origin",
            }
        return {"Access-Control-Allow-Origin": "*"} if "*" in self._origins else {}

    async def admit(self, peer: Peer, token: str | None = None, *, ticket: str | None = None) -> Principal:
        """Who the caller is.

        Args:
            peer: The caller.
            token: What a message carried; without it the bearer header and then the cookie are looked at.

        Raises:
            OriginError: A browser page from elsewhere.
            UnauthorizedError: No valid token, or no token is asked for and the caller is not on this machine.
            TokenExpiredError: The token was valid once.
        """
        self.check_origin(peer)
        if not self.requires_token:
            if self.local_only and not peer.is_local:
                raise UnauthorizedError(
                    "authentication is not set up, so only direct callers from this machine are let in: set "
                    "LG_STREAMING_AUTH__SECRET or LG_STREAMING_AUTH__PUBLIC_KEY (or LG_STREAMING_AUTH__ENABLED=false "
                    "to let everybody in)"
                )
            return ANONYMOUS
        token = token or self.token_of(peer)
        if token is None:
            raise UnauthorizedError("a token is required")
        return self.verify(token)

    def token_of(self, peer: Peer) -> str | None:
        """The token a request carries: in its header, or in the cookie, where that may count."""
        return peer.bearer or (peer.cookie if self.trusts_origin(peer) else None)

    def verify(self, token: str) -> Principal:
        """The principal of a token.

        Raises:
            UnauthorizedError: It does not hold. The message does not say why, the debug log does.
            TokenExpiredError: It was valid once.
        """
        settings = self._settings
        try:
            if len(token) > _MAX_TOKEN:
                raise jwt.InvalidTokenError("too long")
            algorithm = jwt.get_unverified_header(token).get("alg")
            if not isinstance(algorithm, str) or algorithm not in self._keys:
                raise jwt.InvalidAlgorithmError("not an accepted algorithm")
            claims = jwt.decode(
                token,
                self._keys[algorithm],
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway,
                options={
                    "require": _required(settings),
                    "verify_aud": settings.audience is not None,
                    "verify_iss": settings.issuer is not None,
                },
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpiredError from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            logger.debug("a token was refused: %s", error)
            raise UnauthorizedError("the token is not valid") from None
        return Principal(
            subject=claims["sub"],
            grants=_grants(claims.get(CLAIM)),
            claims=claims,
            expires_at=int(claims["exp"]) + settings.leeway,  # whole seconds, as pyjwt looks at it
        )

    # ------------------------------------------------------------ seeing things
    async def check(self, principal: Principal, action: Action, execution_id: str, owner: str | None) -> None:
        """Lets ``principal`` do ``action``, or not.

        Raises:
            ForbiddenError: It may not. An execution that does not exist gets the same answer.
        """
        if not await self.allows(principal, action, execution_id, owner):
            raise ForbiddenError(execution_id=execution_id)

    async def allows(self, principal: Principal, action: Action, execution_id: str, owner: str | None) -> bool:
        """Whether ``principal`` may do ``action`` on the execution of ``owner``."""
        if self.requires_token:
            if owner is not None and principal.subject == owner:
                return True
            if any(grant.allows(action, execution_id) for grant in principal.grants):
                return True
        elif self._authorize is None:
            return True
        if self._authorize is None:
            return False
        try:
            async with asyncio.timeout(self._authorize_timeout):
                return await _ask(self._authorize, principal, action, execution_id, owner) is True
        except Exception:
            logger.exception("authorize failed for %s on execution %r: denied", action, execution_id)
            return False


async def _ask(
    authorize: Authorize, principal: Principal, action: Action, execution_id: str, owner: str | None
) -> object:
    if inspect.iscoroutinefunction(authorize):
        return await authorize(principal, action, execution_id, owner)
    answer = await asyncio.to_thread(authorize, principal, action, execution_id, owner)
    return await answer if inspect.isawaitable(answer) else answer


_KeyOf = Mapping[str, Any]


def _keys(settings: AuthSettings) -> _KeyOf:
    """The key of each accepted algorithm."""
    if settings.enabled is False:
        return {}
    if settings.secret is not None:
        secret = settings.secret.get_secret_value()
        return dict.fromkeys(settings.algorithms or ("HS256",), secret)
    if settings.public_key is None:
        return {}
    try:
        key = load_pem_public_key(settings.public_key.encode())
    except ValueError as error:
        raise StreamingConfigError(f"auth.public_key is not a PEM public key: {error}") from None
    able = _algorithms_of(key)
    accepted = settings.algorithms or tuple(name for name in able if name in {"RS256", "ES256", "EdDSA"})
    if not accepted or not set(accepted) <= set(able):
        raise StreamingConfigError(
            f"auth.public_key can check {', '.join(able) or 'no known algorithm'}: set auth.algorithms to one of these"
        )
    return dict.fromkeys(accepted, key)


def _algorithms_of(key: object) -> tuple[str, ...]:
    match key:
        case RSAPublicKey():
            return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
        case EllipticCurvePublicKey():
            return {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}.get(key.curve.name, ())
        case Ed25519PublicKey() | Ed448PublicKey():
            return ("EdDSA",)
        case _:
            return ()


def _required(settings: AuthSettings) -> list[str]:
    asked = {"aud": settings.audience, "iss": settings.issuer}
    return ["exp", "sub", *(claim for claim, value in asked.items() if value is not None)]


def _grants(claim: object) -> tuple[Grant, ...]:
    """What the claim grants; whatever is not of the right shape grants nothing."""
    if not isinstance(claim, list):
        return ()
    found: list[Grant] = []
    for entry in cast("list[object]", claim)[:_MAX_GRANTS]:
        if not isinstance(entry, dict):
            continue
        grant = cast("dict[str, object]", entry)
        actions, executions = _strings(grant.get("actions")), _strings(grant.get("executions"))
        if executions and _ACTIONS.intersection(actions):
            found.append(Grant(actions=_ACTIONS.intersection(actions), executions=executions))
    return tuple(found)


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(each for each in cast("list[object]", value)[:_MAX_GRANTS] if isinstance(each, str))
