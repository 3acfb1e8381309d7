"""Links: read-only credentials for one execution, which many readers may use until their end."""

from __future__ import annotations

import base64
import re
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from cryptography.fernet import Fernet, InvalidToken

from lg_streaming.errors import BadRequestError, ForbiddenError, TokenExpiredError, UnauthorizedError
from lg_streaming.gateway.auth.principal import Grant, Principal
from lg_streaming.gateway.auth.shared_secret import keep_secret, shared_secret
from lg_streaming.values import jsonable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.log.fleet import Fleet

__all__ = ["Link", "Links", "is_link"]

_START: Final = "lgl_"
_FORM: Final = re.compile(r"lgl_[A-Za-z0-9_-]{1,8188}", re.ASCII)
_MAX_LENGTH: Final = 8_192
"""Characters: proxies accept 8 KiB of a header."""
_LONGEST: Final = 1e9
"""Seconds of a link where the settings have no limit: 31 years."""
_KEY: Final = "link_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An issued link."""

    text: str
    expires_in: float
    """Seconds."""
    expires_at: float
    """Seconds since 1970."""


def is_link(credential: str) -> bool:
    """Return whether a credential has the beginning of a link, so that nothing else may accept it."""
    return credential.startswith(_START)


class Links:
    """Issue and check of links.

    A link is an encrypted text that has all of its facts: the execution, the end, and whose rights it has. So no
    process keeps it, and each process with the key accepts it. A fleet shares the key through the log.

    A link's holder may read one execution as the issuer may, and nothing else. The rights are checked at each use: by
    owner, by the grant that the issuer had, or by the application, which gets the issuer's claims. The claims keep
    `jti` and `iat`, so that a revocation of the issuer's token voids its links.

    Args:
        max_age: Most seconds that a link lasts; 0 for no links, None for no limit.
        clock: Seconds since 1970.
        fleet: The processes, which share the key; None for this process alone.
    """

    def __init__(
        self, max_age: float | None, *, clock: Callable[[], float] = time.time, fleet: Fleet | None = None
    ) -> None:
        self._max_age = max_age
        self._clock = clock
        self._fleet = fleet
        self._key: str | None = Fernet.generate_key().decode() if fleet is None else None

    async def issue(self, principal: Principal, execution_id: str, *, expires_in: float) -> Link:
        """Issue a link to an execution that `principal` may read.

        Args:
            principal: The account whose rights the link has.
            execution_id: The execution.
            expires_in: Seconds until the link's end.

        Raises:
            ForbiddenError: If there are no links, or the principal comes from a link itself.
            BadRequestError: If the link would last longer than allowed, or the claims are too large for it.
            LogUnavailableError: If the key cannot be read.
        """
        if self._max_age == 0:
            raise ForbiddenError("there are no links here: auth.max_link_age is 0", execution_id=execution_id)
        if principal.source == "link":
            raise ForbiddenError("the holder of a link cannot make another one", execution_id=execution_id)
        if not 0 < expires_in <= (self._max_age or _LONGEST):
            most = "" if self._max_age is None else f" and at most {self._max_age:g} (auth.max_link_age)"
            raise BadRequestError(f"a link lasts more than 0 seconds{most}, not {expires_in:g}")
        expires_at = self._clock() + expires_in
        facts: dict[str, Any] = {
            "execution_id": execution_id,
            "expires_at": expires_at,
            "subject": principal.subject,
            "granted": any(grant.allows("read", execution_id) for grant in principal.grants),
            "claims": jsonable(dict(principal.claims)),
        }
        sealed = Fernet(await self._present_key()).encrypt(zlib.compress(orjson.dumps(facts), 9))
        text = _START + sealed.decode().rstrip("=")
        if len(text) > _MAX_LENGTH:
            raise BadRequestError("the claims of this login are too large for a link", execution_id=execution_id)
        return Link(text=text, expires_in=expires_in, expires_at=expires_at)

    async def open(self, text: str) -> Principal:
        """Return the principal of a link.

        Raises:
            UnauthorizedError: If no process of the fleet has issued it.
            TokenExpiredError: If its end has passed.
            LogUnavailableError: If the key cannot be read.
        """
        facts = await self._read(text)
        if facts["expires_at"] <= self._clock():
            raise TokenExpiredError("the link has expired: ask its sender for a new one")
        execution_id: str = facts["execution_id"]
        grant = Grant(actions=frozenset({"read"}), executions=(execution_id,))
        return Principal(
            subject=facts["subject"],
            grants=(grant,) if facts["granted"] else (),
            claims=facts["claims"],
            expires_at=facts["expires_at"],
            restricted_to=execution_id,
            source="link",
        )

    async def _read(self, text: str) -> dict[str, Any]:
        sealed = _sealed(text)
        content = None if sealed is None or self._key is None else _content(self._key, sealed)
        if sealed is not None and content is None and self._fleet is not None:
            self._key = await shared_secret(self._fleet, _KEY)  # another one, if the log has lost its data
            content = _content(self._key, sealed)
        if content is None:
            raise UnauthorizedError("the link is not valid")
        return orjson.loads(zlib.decompress(content))

    async def _present_key(self) -> str:
        """Return the key that all processes have now. It is stored again, so that a key in use does not expire."""
        if self._fleet is None:
            return cast("str", self._key)
        self._key = await shared_secret(self._fleet, _KEY)
        await keep_secret(self._fleet, _KEY, self._key)
        return self._key


def _sealed(text: str) -> str | None:
    """Return the encrypted part of a link; None if the text is no link. Only the canonical encoding is accepted."""
    if _FORM.fullmatch(text) is None:
        return None
    sealed = text.removeprefix(_START)
    padded = sealed + "=" * (-len(sealed) % 4)
    try:
        return padded if base64.urlsafe_b64encode(base64.urlsafe_b64decode(padded)).decode() == padded else None
    except ValueError:
        return None


def _content(key: str, sealed: str) -> bytes | None:
    try:
        return Fernet(key).decrypt(sealed)
    except InvalidToken:
        return None
