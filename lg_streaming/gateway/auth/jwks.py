"""Keys that an identity provider publishes as a JWK Set, and rotates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import jwt
from jwt.algorithms import get_default_algorithms

from lg_streaming.errors import KeysUnavailableError
from lg_streaming.gateway.auth.keys import DEFAULT_ALGORITHMS, algorithms_of
from lg_streaming.gateway.limits.workers import Workers

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.keys import CheckingKey

__all__ = ["Fetch", "RemoteKeys", "fetch"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 262_144
_MAX_KEYS: Final = 100
_FETCH_TIMEOUT: Final = 5.0
_PATIENCE: Final = 10.0
"""Seconds that a login waits. A fetch may exceed its own limit, because of a name server or slow headers."""
_FAMILIES: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}

Fetch = Callable[[str], bytes]
"""Function that returns the body of an address. It may block, and may raise any exception."""

_KeyTable = Mapping[tuple[str, str], "CheckingKey"]


class RemoteKeys:
    """The keys behind `auth.jwks_url`.

    A token's `kid` chooses the key. The set is fetched again when it is older than `lifetime`, and when it lacks a
    `kid`. The latter happens at most once per `cooldown`. All callers wait for the same fetch.

    While the address cannot be reached or its answer is malformed, the present keys stay valid for at most `grace`. A
    token of an unknown key then raises `KeysUnavailableError`. A fetched set replaces the one before: a key that is
    missing in it is no longer valid.

    Args:
        url: The address of the set.
        algorithms: Accepted ones; None: RS256, ES256 and EdDSA.
        lifetime: Seconds.
        cooldown: Seconds between two fetches.
        grace: Seconds that keys count after they were fetched, at most.
        clock: Seconds, monotonic.
        get: Fetches the set; called in a thread.
    """

    def __init__(
        self,
        url: str,
        algorithms: tuple[str, ...] | None = None,
        *,
        lifetime: float = 300.0,
        cooldown: float = 10.0,
        grace: float = 86_400.0,
        clock: Callable[[], float] = time.monotonic,
        get: Fetch | None = None,
    ) -> None:
        self._url = url
        self._accepted = frozenset(algorithms or DEFAULT_ALGORITHMS)
        self._lifetime = lifetime
        self._cooldown = cooldown
        self._grace = grace
        self._clock = clock
        self._get = get or fetch
        self._keys: _KeyTable = {}
        self._kids: frozenset[str] = frozenset()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._reachable = False
        self._fetching: asyncio.Future[_KeyTable | None] | None = None
        self._workers = Workers("keys", threads=1, idle_lifetime=0.0)

    async def find(self, algorithm: str, kid: str | None) -> CheckingKey | None:
        """See `Keys.find`. A token without a `kid` has no key."""
        if kid is None or algorithm not in self._accepted:
            return None
        if self._age() >= self._lifetime or kid not in self._kids:
            await self._refresh()
        if self._age() >= self._grace or (kid not in self._kids and not self._reachable):
            raise KeysUnavailableError(retry_after=self._cooldown)
        return self._keys.get((kid, algorithm))

    def close(self) -> None:
        """End the thread, after a fetch that runs."""
        self._workers.close()

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        """Wait for the running fetch, or for a new one if the cooldown has passed."""
        running = self._fetching
        if running is None:
            if self._tried_at is not None and self._clock() - self._tried_at < self._cooldown:
                return
            self._tried_at = self._clock()
            self._reachable = False  # until an answer arrives
            running = asyncio.ensure_future(self._workers.call("", self._fetch))
            running.add_done_callback(self._arrived)
            self._fetching = running
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await asyncio.shield(running)

    def _arrived(self, done: asyncio.Future[_KeyTable | None]) -> None:
        self._fetching = None
        keys = None if done.cancelled() or done.exception() is not None else done.result()
        self._reachable = keys is not None
        if keys is not None:
            self._keys = keys
            self._kids = frozenset(kid for kid, _ in keys)
            self._fetched_at = self._clock()

    def _fetch(self) -> _KeyTable | None:
        """Return the usable keys by `kid` and algorithm, or None without a valid JWK Set. Runs in a thread."""
        try:
            return _read(self._get(self._url), self._accepted)
        except Exception as error:  # noqa: BLE001 (on any failure the present keys stay)
            logger.warning("the keys of auth.jwks_url cannot be fetched, the present keys stay: %s", str(error)[:200])
            return None


def fetch(url: str) -> bytes:
    """Fetch the body of an address that answers with 200, within 5 s, and with at most 256 KiB.

    Redirects are not followed, so that keys come only from the address in the settings.

    Raises:
        OSError: If no answer arrives, or one with another status.
        http.client.HTTPException: If the answer is not HTTP.
        ValueError: If the answer is too large or too slow.
    """
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if urlsplit(url).scheme == "http":  # only to this machine, and never by way of a proxy
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 (the settings allow no other scheme)
    deadline = time.monotonic() + _FETCH_TIMEOUT
    with urllib.request.build_opener(*handlers).open(request, timeout=_FETCH_TIMEOUT) as response:
        body = bytearray()
        while piece := response.read1(65_536):
            body += piece
            if len(body) > _MAX_BYTES:
                raise ValueError(f"the answer has more than {_MAX_BYTES} bytes")
            if time.monotonic() > deadline:
                raise ValueError(f"the answer took more than {_FETCH_TIMEOUT:g} s")
        return bytes(body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _read(body: bytes, accepted: frozenset[str]) -> _KeyTable:
    found: object = json.loads(body)
    entries = cast("dict[str, object]", found).get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the answer is no JWK Set: an object with a list of keys")  # noqa: TRY004 (not a wrong type of ours)
    keys: dict[tuple[str, str], CheckingKey] = {}
    for entry in cast("list[object]", entries)[:_MAX_KEYS]:
        if isinstance(entry, dict):
            _add(keys, cast("dict[str, Any]", entry), accepted)
    if not keys:
        logger.warning("auth.jwks_url has no key that can be used: no token holds")
    return keys


def _add(keys: dict[tuple[str, str], CheckingKey], entry: dict[str, Any], accepted: frozenset[str]) -> None:
    """Add a key under each accepted algorithm that fits its type and, if the key has an `alg`, equals it."""
    kid, family, operations = entry.get("kid"), entry.get("kty"), entry.get("key_ops", ["verify"])
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig" or "verify" not in _list(operations):
        return
    if not isinstance(family, str) or family not in _FAMILIES:
        return
    try:
        key: Any = get_default_algorithms()[_FAMILIES[family]].from_jwk(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        logger.debug("a key of auth.jwks_url is passed over: %s", error)
        return
    fitting = accepted.intersection(algorithms_of(key))
    for algorithm in fitting.intersection({entry["alg"]}) if isinstance(entry.get("alg"), str) else fitting:
        keys.setdefault((kid, algorithm), key)


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
