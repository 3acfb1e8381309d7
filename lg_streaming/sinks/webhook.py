"""Updates as signed HTTP requests."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

import orjson

from lg_streaming.backoff import Backoff
from lg_streaming.errors import MissingExtraError, SinkError, SinkRejectedError, StreamingConfigError
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.hub.sink import SendPolicy
from lg_streaming.sinks.signature import Secret, parse_keys, sign

if TYPE_CHECKING:
    import httpx2

    from lg_streaming.hub.page import Page
    from lg_streaming.hub.sink import CloseReason

__all__ = ["WebhookSink"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_RETRY_AFTER: Final = 300.0
_MAX_ANSWER: Final = 65_536
_GONE: Final = 410
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_BACKOFF: Final = Backoff(delay=0.5, max_delay=60.0)


class WebhookSink:
    """A sink that posts updates to a URL: in batches, signed, and with retries.

    The body is ``{"execution_id", "position", "gap"?, "updates": […]}``. The updates are those of every wire, and the
    position is that of the last one. ``gap`` describes the updates that are missing before the first.

    The headers ``webhook-id``, ``webhook-timestamp`` and, with a secret, ``webhook-signature`` are those of the
    Standard Webhooks specification: check them with `verify_webhook`. A repeated batch has the same id.

    A response of 2xx accepts the batch. After 408, 425, 429, 5xx, a broken connection or a timeout it is sent again.
    The pause before that is the longer of the backoff and the response's ``Retry-After`` (at most 5 minutes). Any other
    response, a redirect too, rejects the batch, and 410 detaches the sink.

    A shared sink serves one event loop, which has to last until the sink is closed.

    Args:
        url: The receiver; ``http`` or ``https``.
        secret: The key to sign with, see `verify_webhook`; each of several signs, for the time of a key rotation.
        batch_size: The most updates of one request.
        batch_interval: Seconds from one request to the next, unless a full batch waits.
        timeout: Seconds one request may take.
        attempts: How often a batch is sent before it has failed.
        backoff: The pauses between the attempts.
        headers: Sent with each request.
        id: The name of the sink; the URL without its query when not given.
        clock: Seconds since 1970.

    Raises:
        StreamingConfigError: If the URL, the secret or a number is invalid.
        MissingExtraError: If ``lg-streaming[client]`` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: Secret | Sequence[Secret] | None = None,
        batch_size: int = 100,
        batch_interval: float = 1.0,
        timeout: float = 10.0,
        attempts: int = 6,
        backoff: Backoff = _BACKOFF,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        place = urlsplit(url)
        if place.scheme not in {"http", "https"} or not place.hostname:
            raise StreamingConfigError(f"a webhook's URL begins with http:// or https:// and a host: {_shown(url)}")
        if not url.isprintable():  # line breaks would be left out silently
            raise StreamingConfigError(f"a webhook's URL has no control codes: {_shown(url)}")
        try:
            self.policy: SendPolicy = SendPolicy(
                batch_size=batch_size, interval=batch_interval, timeout=timeout, attempts=attempts, backoff=backoff
            )
        except ValueError as error:
            raise StreamingConfigError(f"webhook: {error}") from None
        self.id: str = id or f"webhook-{place.scheme}://{_host(place)}{place.path}"
        self._http = _httpx2()
        self._url = url
        self._keys = parse_keys(secret)
        self._headers = {**(headers or {}), "content-type": "application/json"}
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Reconnect: the present connections belong to the parent."""
        bury(self._client, self._loop)
        self._client = self._loop = None

    async def send_page(self, execution_id: str, page: Page) -> None:
        """Post ``page`` once.

        Raises:
            SinkError: If it was not accepted, and a retry may help.
            SinkRejectedError: If it was rejected.
        """
        body, webhook_id = _body(execution_id, page), _id(execution_id, page)
        headers = {**self._headers, **sign(self._keys, webhook_id, int(self._clock()), body)}
        try:
            status, retry_after = await self._post(headers, body)
        except self._http.RequestError as error:
            raise SinkError(f"no answer: {error!r}", sink_id=self.id) from None
        if status == _GONE:
            self._closed = True
            logger.warning("the webhook %r is gone (410): nothing more is sent to it", self.id)
        if status in _TRY_AGAIN or status >= _SERVER_ERROR:
            raise SinkError(f"it answered {status}", sink_id=self.id, retry_after=retry_after)
        if not 200 <= status < 300:  # noqa: PLR2004 (the classes of HTTP)
            raise SinkRejectedError(f"it refused the batch with {status}", sink_id=self.id)

    async def _post(self, headers: Mapping[str, str], body: bytes) -> tuple[int, float | None]:
        """Return the status of the response, and the seconds of its ``Retry-After``."""
        client = await self._connect()
        async with client.stream("POST", self._url, content=body, headers=headers) as answer:
            size = 0
            async for piece in answer.aiter_raw():  # a connection that is read to its end serves the next request too
                size += len(piece)
                if size > _MAX_ANSWER:
                    break
            return answer.status_code, _seconds(answer.headers.get("retry-after"), self._clock())

    async def _connect(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None:
            # in a thread, since it reads the system's certificates; the policy's timeout covers the whole request
            client: httpx2.AsyncClient = await asyncio.to_thread(self._http.AsyncClient, timeout=None)
            self._client, self._loop = client, loop
            return client
        if self._loop is not loop:
            raise SinkRejectedError("a WebhookSink serves one event loop: make another one", sink_id=self.id)
        return self._client

    async def closed(self, reason: CloseReason) -> None:
        """Post nothing: the final update is in the last batch."""

    def is_active(self) -> bool:
        """Return whether it is open and its receiver has not answered 410."""
        return not self._closed

    async def aclose(self) -> None:
        """Close the connection."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _shown(url: str) -> str:
    """Return a URL for an error message, without its password."""
    return repr(url.rpartition("@")[2])[:80]


def _httpx2() -> Any:
    try:
        return importlib.import_module("httpx2")
    except ImportError:
        raise MissingExtraError("a WebhookSink needs httpx2: pip install 'lg-streaming[client]'") from None


def _body(execution_id: str, page: Page) -> bytes:
    gap = b'"gap":%b,' % orjson.dumps(page.gap.to_dict()) if page.gap is not None else b""
    return b'{"execution_id":%b,"position":%b,%b"updates":[%b]}' % (
        orjson.dumps(execution_id),
        orjson.dumps(_position(page)),
        gap,
        b",".join([record.json for record in page.records]),
    )


def _position(page: Page) -> str | None:
    position = page.records[-1].position if page.records else page.position
    return None if position is None else str(position)


def _id(execution_id: str, page: Page) -> str:
    """Return an id that depends on the updates only, so that a repeated batch has the same one."""
    first = page.records[0].seq if page.records else 0
    gap = page.gap.to_dict() if page.gap is not None else None
    key = orjson.dumps([execution_id, first, _position(page), gap])
    return f"msg_{hashlib.sha256(key).hexdigest()[:32]}"


def _seconds(text: str | None, now: float) -> float | None:
    """Parse ``Retry-After``: a number of seconds, or a date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)


def _host(place: SplitResult) -> str:
    """Return host and port, without the user and the password."""
    return place.netloc.rpartition("@")[2]
