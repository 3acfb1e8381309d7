"""Settings, from arguments or from environment variables (``LG_STREAMING_…``, nested with ``__``).

``None`` always means "no limit" or "not set". Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override

from lg_streaming.checks import NUMBER_ERROR, Number, count, option, rate, seconds
from lg_streaming.errors import StreamingConfigError
from lg_streaming.events import Delivery, Priority
from lg_streaming.frequency import Frequency
from lg_streaming.types import TransportName

__all__ = [
    "AuthSettings",
    "CompressionSettings",
    "ContentCoding",
    "GatewaySettings",
    "LimitSettings",
    "RedisSettings",
    "RetentionSettings",
    "RunSettings",
    "StreamingSettings",
    "TokenDefaults",
    "TokenFormat",
]

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


ContentCoding = Literal["gzip", "zstd", "br", "deflate"]

Seconds = Annotated[float, option(seconds())]
IDLE_TIMEOUT: Final = seconds(zero="never ends it", none="for never")
"""Seconds that a run may be idle; `hub.open` takes the same."""


class _Section(BaseModel):
    # Errors do not show the value: it may be a secret, or be next to one.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]

_BROWSER_HEADERS: Final = frozenset({"authorization", "cookie", "host", "origin", "referer", "user-agent"})
"""Headers that a browser adds to requests of every page, or that have their own rule."""


class AuthSettings(_Section):
    """Authentication of callers by JWT; `StreamingModule(authenticate=…)` adds logins by the application."""

    enabled: bool | None = None
    """``True``: a valid token is required. ``False``: every caller is accepted, on purpose. ``None``: a valid token is
    required if a key is set; without a key, for development, only callers from loopback are accepted. With
    ``authenticate`` leave it unset: authentication is then on."""
    secret: SecretStr | None = None
    """Shared secret of HMAC tokens (HS256); at least 32 bytes."""
    public_key: str | None = None
    """PEM public key of RS256, ES256 or EdDSA tokens."""
    jwks_url: str | None = None
    """URL of the JWK Set with the keys of RS256, ES256 or EdDSA tokens: ``https``, or ``http`` to this machine.
    A token's ``kid`` chooses the key. The set is fetched again every 5 minutes, and for an unknown ``kid``."""
    algorithms: tuple[Algorithm, ...] | None = None
    """Accepted algorithms. ``None``: HS256 with a secret; RS256, ES256 and EdDSA with a public key or a JWK Set."""
    audience: str | None = None
    """``aud`` that a token must have."""
    issuer: str | None = None
    """``iss`` that a token must have."""
    leeway: Annotated[float, option(seconds(zero="forgives none"))] = 5.0
    """Clock difference that the check of a token's times tolerates."""
    cookie: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")] | None = "lg_streaming_token"
    """Cookie that may carry the token; ``None``: cookies are ignored."""
    headers: tuple[HeaderName, ...] = ("x-api-key",)
    """Request headers that may carry the token if ``Authorization`` does not, with or without ``Bearer`` before it.
    A value that has not the form of a JWT or a link is ignored here, and ``authenticate`` may read it. Empty: none."""
    max_link_age: Annotated[float | None, option(seconds(zero="makes none", none="for no limit"))] = 604_800.0
    """Most seconds that a read-only link to one execution lasts. 0: there are no links."""

    @field_validator("headers")
    @classmethod
    def _can_carry_tokens(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name.lower() in _BROWSER_HEADERS or name.lower().startswith(("sec-", "proxy-")):
                raise ValueError(f"auth.headers has {name}, which browsers send by themselves: choose another header")
        return tuple(dict.fromkeys(name.lower() for name in names))

    @field_validator("jwks_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        if url is not None:
            _check_jwks_url(url)
        return url

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if sum(key is not None for key in (self.secret, self.public_key, self.jwks_url)) > 1:
            raise ValueError(
                "set one of auth.secret, auth.public_key and auth.jwks_url: a token is checked with one kind of key"
            )
        if self.enabled and self.secret is None and self.public_key is None and self.jwks_url is None:
            raise ValueError(
                "auth.enabled needs a key: set auth.secret, auth.public_key or auth.jwks_url, or leave it unset with "
                "StreamingModule(authenticate=…)"
            )
        for algorithm in self.algorithms or ():
            if algorithm.startswith("HS") != (self.secret is not None):
                raise ValueError(f"auth.algorithms has {algorithm}, which does not go with the key that is set")
        if self.secret is not None:
            check_secret(self.secret.get_secret_value(), self.algorithms or ("HS256",))
        return self


_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}


def check_secret(secret: str, algorithms: tuple[str, ...]) -> None:
    """Check that ``secret`` can be used with each of the HMAC algorithms.

    Raises:
        ValueError: If the secret is too short, or is a key of another kind.
    """
    if secret.lstrip(" \t\r\n\"'").startswith("-----BEGIN"):
        raise ValueError("auth.secret is a PEM key: set auth.public_key to the public one")
    for algorithm in algorithms:
        needed = _SECRET_BYTES[algorithm]
        if len(secret.encode()) < needed:
            raise ValueError(
                f"auth.secret is shorter than {needed} bytes, which {algorithm} needs: "
                f"make one with `openssl rand -hex {needed}`"
            )


def _check_jwks_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"auth.jwks_url is not an address: {error}") from None
    if not host or parts.username is not None or parts.password is not None or parts.fragment or not url.isprintable():
        raise ValueError("auth.jwks_url is an address such as https://login.example.com/.well-known/jwks.json")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("auth.jwks_url needs https: an attacker who changes the answer can make tokens")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class CompressionSettings(_Section):
    """Compression, for clients that accept it."""

    http: bool = True
    """Compress event streams and HTTP responses, by the request's ``Accept-Encoding``."""
    websocket: bool = False
    """Compress messages of WebSockets, Socket.IO's too, that negotiated ``permessage-deflate`` with the server."""
    codings: Annotated[tuple[ContentCoding, ...], Field(min_length=1)] | None = None
    """HTTP content codings, by preference: the first wins among those that a client accepts equally. ``None``:
    ``gzip``, ``zstd``, ``br`` and ``deflate``, without those that are not installed."""
    threshold: Annotated[int, option(count("bytes", zero="compresses all"))] = 1_024
    """Bytes. A smaller message or response is not compressed, nor is the beginning of a gzip or deflate stream."""
    level: Annotated[int, option(Number(whole=True, most=9, zero="compresses nothing"))] = 6
    """Compression level, from 1 (fastest) to 9 (smallest). 0 compresses nothing."""


class GatewaySettings(_Section):
    """Network endpoints: routes, origins, transports, heartbeats and pacing."""

    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """Path before every route, such as ``/streaming``."""
    namespace: Annotated[str, Field(pattern=r"^/[^\s,?]*$")] = "/"
    """Socket.IO namespace."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that are allowed besides the server's, such as ``https://app.example.com``; ``*`` allows all."""
    cors_headers: tuple[HeaderName, ...] | None = None
    """Further request headers that pages of these origins may send, such as ``X-Tenant`` or ``traceparent``.
    ``None``: every header that they ask for. Empty: no further header. ``Authorization``, ``Cache-Control``,
    ``Content-Type``, ``Last-Event-ID`` and those of ``auth.headers`` are always allowed."""
    transports: tuple[TransportName, ...] = ("socketio", "websocket", "sse", "rest")
    """Transports that clients may use. ``GET /health`` and ``POST /tickets`` remain without ``rest``. Empty: none."""
    heartbeat_interval: Annotated[float | None, option(seconds(none="for none"))] = 15.0
    """Seconds between heartbeats (Socket.IO, WebSocket) and keep-alive comments (SSE). Each heartbeat also checks
    whether the caller's token was revoked. ``None``: no heartbeats and no check."""
    max_stream_duration: Annotated[float | None, option(seconds(none="for no limit"))] = None
    """Most seconds that one event stream (SSE) lasts. Its reader then reconnects and resumes from its position."""
    frame_interval: Annotated[float, option(seconds(zero="sends at once"))] = 0.005
    """Least seconds between two frames to one reader; updates that arrive in between share a frame. 0 sends at once."""
    ping_interval: Seconds = 25.0
    """Seconds between pings of the transport."""
    ping_timeout: Seconds = 10.0
    """Seconds that a peer may take to answer a ping before it counts as dead."""
    ui: bool = False
    """Serve the watch page: ``/watch/`` lists executions, ``/watch/{execution_id}`` shows one."""
    login_url: Annotated[str, Field(pattern=r"^(/([!-.0-\[\]-~][!-~]*)?|https?://[!-~]+)$")] | None = None
    """Address of the application's own login, to which the watch page links. ``{next}`` in it becomes the path of the
    page, percent-encoded."""
    metrics: bool | None = None
    """Serve ``GET /metrics``. ``None``: if the extra ``metrics`` is installed."""
    compression: CompressionSettings = CompressionSettings()


def _rate(value: str) -> str:
    try:
        Frequency.parse(value)
    except ValueError:
        raise PydanticCustomError(
            NUMBER_ERROR,
            "is a rate above 0, such as '10/second' or '600/minute', or None for no limit, not {shown}",
            {"shown": f"{value!r:.40}"},
        ) from None
    return value


Rate = Annotated[str, AfterValidator(_rate)]


class LimitSettings(_Section):
    """Limits of callers, connections, producers and executions."""

    connections: Annotated[int | None, option(count("connections", none="for no limit"))] = 10_000
    """Open connections to this process."""
    connections_per_subject: Annotated[int | None, option(count("connections", none="for no limit"))] = 20
    """Open connections with tokens of the same ``sub``, over all processes that share the log."""
    connections_per_address: Annotated[int | None, option(count("connections", none="for no limit"))] = 100
    """Open connections from the same address; with IPv6, from the same /64 network. Behind a proxy the server needs
    the callers' real addresses, see the guide on deployment."""
    connects_per_address: Rate | None = "600/minute"
    """Rate at which an address may open connections, such as ``10/second`` or ``600/minute``."""
    failed_logins_per_address: Rate | None = "60/minute"
    """Rate of failed logins of an address. Beyond it, the address is refused until the period has passed."""
    subscriptions_per_connection: Annotated[int | None, option(count("subscriptions", none="for no limit"))] = 128
    messages_per_second: Annotated[float | None, option(rate("messages", none="for no limit"))] = 20.0
    """Messages that a connection may send, on average; ``message_burst`` may arrive at once."""
    message_burst: Annotated[int, option(count("messages"))] = 40
    frames_per_second: Annotated[float | None, option(rate("frames", none="for no limit"))] = 100.0
    """WebSocket frames, other than whole messages, that a connection may send, on average: pings, pongs, fragments,
    and packets of engine.io that carry no message."""
    frame_burst: Annotated[int, option(count("frames"))] = 200
    """Such frames that may arrive at once."""
    message_timeout: Seconds = 20.0
    """Seconds from the first byte of a WebSocket message to its last."""
    inbound_bytes: Annotated[int, option(count("bytes"))] = 65_536
    """Size of an inbound message."""
    start_bytes: Annotated[int, option(count("bytes"))] = 1_048_576
    """Size of the body of a start, or of an injected input, over HTTP. Over Socket.IO and ``/ws`` a message has
    ``inbound_bytes``."""
    starts_per_subject: Rate | None = "60/minute"
    """Rate at which a token's ``sub``, or without a token an address, may start runs in one process."""
    backlog_bytes: Annotated[int, option(count("bytes"))] = 1_048_576
    """Bytes that may wait to be sent to one connection before it is closed as slow."""
    backlog_frames: Annotated[int, option(count("frames"))] = 1_024
    send_timeout: Seconds = 10.0
    """Seconds that a write may make no progress before the peer counts as dead."""
    login_timeout: Seconds = 10.0
    """Seconds from opening a transport to a completed login."""
    update_bytes: Annotated[int, option(count("bytes", least=1_024))] = 262_144
    """Size of one update, encoded. A longer text is published in several updates that join to the same text. Captured
    data of nodes, models and tools is shortened."""
    large_updates: Literal["refuse", "shorten"] = "refuse"
    """Treatment of a larger update that a program publishes and that is no text: ``refuse`` raises
    `UpdateTooLargeError`, ``shorten`` shortens the update like captured data."""
    max_executions: Annotated[int | None, option(count("executions", none="for no limit"))] = None
    """Executions that may run at one time."""
    max_subscribers_per_execution: Annotated[int | None, option(count("readers", none="for no limit"))] = None
    """Readers of one execution. Readers of ``subscribe_events`` do not count: their connection limits them."""
    updates_per_second: Annotated[float | None, option(rate("updates", none="for no limit"))] = None
    """Updates that an execution may publish, on average; as many may be published at once. Beyond the rate,
    ``at-most-once`` updates are dropped and counted. All others pass, as do statuses and starts and ends of nodes."""
    idle_timeout: Annotated[float | None, option(IDLE_TIMEOUT)] = 300.0
    """Seconds without updates and without a running node after which an open run is abandoned. A run that waits for a
    human, or a room, is never abandoned. ``None`` or 0: never."""
    cancel_grace: Annotated[float, option(seconds(zero="ends it at once"))] = 10.0
    """Seconds that a run that handles its cancellation may take to end; then the hub ends it as cancelled."""
    producer_buffer_updates: Annotated[int, option(count("updates"))] = 10_000
    """Updates that may wait for a slow or unavailable log; beyond, updates are dropped and counted."""
    producer_buffer_bytes: Annotated[int, option(count("bytes"))] = 16 * 1024 * 1024


class RetentionSettings(_Section):
    """Retention of executions, for late and returning readers."""

    max_updates: Annotated[int, option(count("updates"))] = 10_000
    """Updates that are kept of one execution."""
    max_bytes: Annotated[int, option(count("bytes"))] = 8 * 1024 * 1024
    """Memory of the updates of one execution, with the objects around them; the newest update is always kept."""
    total_bytes: Annotated[int | None, option(count("bytes", none="for no limit"))] = 512 * 1024 * 1024
    """Memory of all executions of one process. Beyond it, ended executions are evicted, the oldest first, then the
    oldest updates of running ones. Readers get a gap. With a log on Redis, ``maxmemory`` of Redis is the limit."""
    ttl: Seconds = 900.0
    """Seconds that updates are kept after an execution's last update."""
    record_ttl: Seconds = 86_400.0
    """Seconds that an ended execution's state and final update are kept."""


class RedisSettings(_Section):
    """The log on Redis, which several processes share; see ``log``."""

    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = "lg"
    """Beginning of every key and channel in Redis. Applications that share a Redis server need different prefixes."""
    lease: Annotated[float, option(Number(unit="seconds", least=1))] = 10.0
    """Seconds without a sign of life after which a process counts as dead. Other processes then end its runs as
    abandoned."""
    check_interval: Seconds = 5.0
    """Seconds between two comparisons of positions with Redis, which find lost notifications."""
    timeout: Seconds = 5.0
    """Seconds that one answer of Redis may take. Then the log counts as unavailable, and the request is retried."""
    request_timeout: Seconds = 5.0
    """Seconds that the answer of another process may take, to a cancellation or a response for example."""


TokenFormat = Literal["text", "json", "structured"]

MAX_BUFFER_SIZE: Final = 1_000
"""Most tokens that a token stream may buffer, or join into one update."""
MAX_FLUSH_INTERVAL: Final = 60.0
"""Most seconds that a token may be buffered."""


class TokenDefaults(_Section):
    """Options of ``@stream_token`` that a decorator leaves out."""

    enabled: bool = True
    """Publish text."""
    buffer_size: Annotated[int, option(count("tokens", most=MAX_BUFFER_SIZE))] = 50
    """Tokens that are buffered; this many flush the buffer. 1: no token is buffered."""
    batch_size: Annotated[int, option(count("tokens", most=MAX_BUFFER_SIZE))] = 10
    """Tokens that may be joined into one update. 1: each token is one update."""
    flush_interval: Annotated[float, option(seconds(zero="holds none", most=MAX_FLUSH_INTERVAL))] = 0.1
    """Most seconds that a token is buffered. 0: no token is buffered."""
    format: TokenFormat = "text"
    """Format of an update's data: see `stream_token`."""
    include_metadata: bool = False
    """Add ``metadata`` about the model and its call to an update's data."""
    first_token_immediately: bool = True
    """Publish the first token of each message at once."""


MAX_EVENT_BUFFER: Final = 10_000
MAX_EVENT_BATCH: Final = 1_000
MAX_EVENT_INTERVAL: Final = 10.0
"""Seconds; people watch events live."""


class EventDefaults(_Section):
    """Options of ``@stream_event`` that a decorator leaves out."""

    enabled: bool = True
    """Publish events. Every decorated node publishes its start and end, without its result, in any case."""
    buffer_size: Annotated[int, option(count("events", most=MAX_EVENT_BUFFER))] = 100
    """Events that are buffered; this many flush the buffer. 1: no event is buffered."""
    batch_size: Annotated[int, option(count("events", most=MAX_EVENT_BATCH))] = 10
    """Most events that are appended to the log in one batch. Each event stays a separate update."""
    flush_interval: Annotated[float, option(seconds(zero="holds none", most=MAX_EVENT_INTERVAL))] = 0.05
    """Seconds. An event is published at once when the last flush is at least this long ago; otherwise it waits, at
    most this long. Errors and the node's start and end never wait. 0: no event waits."""
    delivery: Delivery = "at-least-once"
    """Guarantee until an event is in the log. ``at-most-once``: it may be dropped under pressure, which is counted.
    ``at-least-once``: it is not dropped. ``exactly-once``: it is not dropped, and a node that is retried does not
    repeat the events that it published before."""
    include_state: bool = False
    """Publish the state that a node was called with, as a ``values`` update."""
    min_priority: Priority = "low"
    """Lowest priority that is published."""
    include_debug: bool = False
    """Publish ``debug`` and ``debug:…`` events."""


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(set(values)))


Milestone = Annotated[float, option(Number(unit="percent", above=True, most=100))]
MAX_PROGRESS_INTERVAL: Final = 3600.0
"""Seconds; after a longer pause, readers cannot distinguish a slow node from a dead one."""
MAX_MILESTONES: Final = 100
MAX_PRECISION: Final = 6


class ProgressFormatDefaults(_Section):
    """Fields of a progress update."""

    show_percentage: bool = True
    """``progress``, 0 to 100. Without it the update still has ``status`` and the other fields."""
    show_current: bool = False
    """``current``, as reported by the node."""
    show_total: bool = False
    """``total``, as reported by the node."""
    show_rate: bool = False
    """``rate``: units of ``current`` per second, averaged since the node's start."""
    precision: Annotated[int, option(Number(unit="decimals", whole=True, most=MAX_PRECISION))] = 1
    """Decimals of ``progress``. Rounding never gives 100 before the node has reached it."""


class ProgressDefaults(_Section):
    """Options of ``@stream_progress`` that a decorator leaves out."""

    enabled: bool = True
    interval: Annotated[float, option(seconds(zero="lets every report leave", most=MAX_PROGRESS_INTERVAL))] = 1.0
    """Least seconds between two reports of a node; 0 publishes every report. 0 %, milestones and 100 % do not wait.
    Of the reports within an interval, the newest is published at its end."""
    granularity: Literal["coarse", "fine", "detailed"] = "fine"
    """``coarse``: start, milestones and end. ``fine``: also one report each interval. ``detailed``: every report."""
    include_eta: bool = True
    """Add ``eta_s``, the estimated seconds left, once there is an estimate."""
    include_metrics: bool = False
    """Add ``elapsed_s``, seconds since the node's start, and ``rate``, units of ``current`` per second."""
    milestones: Annotated[tuple[Milestone, ...], Field(max_length=MAX_MILESTONES), AfterValidator(_ascending)] = ()
    """Percentages, above 0 and up to 100: a node that reaches one publishes a ``milestone`` update."""
    format: ProgressFormatDefaults = ProgressFormatDefaults()


class NodeDefaults(_Section):
    """Options of all decorators that a decorator leaves out."""

    token: TokenDefaults = TokenDefaults()
    event: EventDefaults = EventDefaults()
    progress: ProgressDefaults = ProgressDefaults()

    def changed(self, **parts: Mapping[str, Any] | None) -> Self:
        """Return these defaults with some options of ``token``, ``event`` or ``progress`` changed.

        Raises:
            pydantic.ValidationError: If an option is unknown, or its value cannot be used.
        """
        merged = self.model_dump()
        for name, options in parts.items():
            for each, value in (options or {}).items():
                nested = isinstance(value, Mapping) and isinstance(merged[name].get(each), dict)
                merged[name][each] = {**merged[name][each], **value} if nested else value
        return type(self).model_validate(merged)


class RunSettings(_Section):
    """Runs that ``streaming.runs`` starts."""

    max_concurrent: Annotated[int, option(count("runs"))] | None = 100
    """Most runs that work at once; others wait in a queue in which owners take turns. A run that waits for a human
    does not count."""
    max_queued: Annotated[int, option(count("runs"))] | None = 10_000
    """Most runs that wait in the queue; a further start is refused."""
    max_recursion_limit: Annotated[int, option(count("steps"))] | None = 1_000
    """Highest ``recursion_limit`` that a start over the network may set."""
    disconnect_grace: Annotated[float, option(seconds(zero="cancels at once"))] = 10.0
    """Seconds without a reader after which a run with ``on_disconnect="cancel"`` is cancelled."""
    on_abandoned: Literal["end", "resume"] = "end"
    """Handling of a run whose process dies or stops while it works: it ends as abandoned, or another process resumes
    it."""
    shutdown_grace: Annotated[float, option(seconds(zero="cancels at once"))] = 10.0
    """Seconds that runs have to end by themselves when the process stops."""
    publish_states: bool = False
    """Publish the graph's state after each step, as a ``state`` update. Wires that need it turn it on."""
    state_bytes: Annotated[int, option(count("bytes", zero="publishes none"))] = 65_536
    """Largest state that a ``state`` update holds. A larger one is read from the checkpointer, by the update's
    ``checkpoint_id``."""


Path = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")]
"""Path of an address, or the empty text."""


class WireSettings(_Section):
    """Routes for clients of other systems, which ``install(app, wires=[…])`` adds."""

    graph: str | None = None
    """Graph that a request starts which names none. ``None``: the only one in ``streaming.graphs``."""
    ai_sdk_path: Path = "/api/chat"
    """Path of the Vercel AI SDK's chat."""
    ai_sdk_clients: Literal["any", "5", "7"] = "any"
    """Major version of all clients. ``7``: retried nodes take their text back. ``5``: no approvals."""
    ai_sdk_data: tuple[str, ...] = ("milestone", "workflow_progress")
    """Types of updates, and globs, that are sent as transient data parts."""
    ai_sdk_resumes_interrupted: bool = False
    """A page that loads while a run waits for a person gets its message, and not 204."""
    langgraph_path: Path = ""
    """Path before ``/threads``, ``/runs`` and ``/assistants`` of the LangGraph SDK."""
    ag_ui_path: Path = "/agui"
    """Path of AG-UI's endpoint."""
    ag_ui_on_disconnect: Literal["cancel", "continue"] = "cancel"
    """Handling of a run of AG-UI whose client closes the connection: it is cancelled, or goes on."""
    ag_ui_on_cancelled: Literal["answer", "cancel_run"] = "answer"
    """Handling of an interrupt that a page cancels: the graph gets ``{"cancelled": true}``, or false where it asked for
    an approval; or its run is cancelled."""
    ag_ui_custom_interrupts: bool = False
    """Send interrupts as ``CUSTOM`` events ``on_interrupt``, too, for pages that were made for ``ag-ui-langgraph``."""
    copilotkit_path: Path = "/copilotkit"
    """Path before the routes of CopilotKit's runtime."""
    durable_streams_path: Path = "/v1/stream"
    """Path before the ids of executions for clients of Durable Streams."""
    body_bytes: Annotated[int, option(count("bytes"))] = 8_388_608
    """Largest body of a request. These clients send the whole conversation each time."""

    def below(self, prefix: str) -> Self:
        """Return the settings with all paths below a prefix."""
        paths = {name: prefix + getattr(self, name) for name in type(self).model_fields if name.endswith("_path")}
        return self.model_copy(update=paths)


_LOG_SCHEMES: Final = (
    "memory",
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
_LONGEST_SCHEME: Final = 20


class LogUrl(str):
    """URL of a log. Its ``repr`` has neither a user with a password, nor the query."""

    __slots__ = ()

    @property
    def shown(self) -> str:
        """The URL with ``***`` in place of what may be secret."""
        scheme, _, rest = self.partition("://")
        place, _, query = rest.partition("?")
        user, at, address = place.rpartition("@")
        if "@" in query:  # in the query's password, or behind a user's
            return f"{scheme}://***"
        return f"{scheme}://{'***' if user else ''}{at}{address}{'?***' if query else ''}"

    @override
    def __repr__(self) -> str:
        return repr(self.shown)


def _check_log_url(url: str) -> LogUrl:
    scheme, separator, rest = url.partition("://")
    known = ", ".join(f"{each}://" for each in _LOG_SCHEMES)
    if not separator:
        raise ValueError(f"log is the URL of a log; its scheme is one of {known}")
    if scheme not in _LOG_SCHEMES:
        raise ValueError(f"log has the unknown scheme {scheme[:_LONGEST_SCHEME]!r}: use one of {known}")
    if scheme == "memory" and rest:
        raise ValueError("log is 'memory://' alone for the memory of this process")
    return LogUrl(url)


_CLIENT_TOKEN: Final = "TOKEN"
"""Variable ``LG_STREAMING_TOKEN``: the token of the command line's clients, and no setting."""


class StreamingSettings(BaseSettings):
    """Settings of a module, a hub and a gateway. Unknown names are refused, so that no misspelt one goes unnoticed."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="LG_STREAMING_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    log: Annotated[str, AfterValidator(_check_log_url)] = "memory://"
    """URL of the log of executions. ``memory://`` keeps them in this process. Several processes share a log on Redis:
    ``redis://``, ``rediss://`` (TLS), ``unix://`` (a socket), ``redis+cluster://``, ``rediss+cluster://``,
    ``redis+sentinel://`` or ``rediss+sentinel://``. The URL may have a password: it is never shown."""
    auth: AuthSettings = AuthSettings()
    gateway: GatewaySettings = GatewaySettings()
    limits: LimitSettings = LimitSettings()
    retention: RetentionSettings = RetentionSettings()
    redis: RedisSettings = RedisSettings()
    runs: RunSettings = RunSettings()
    wires: WireSettings = WireSettings()
    token_defaults: TokenDefaults = TokenDefaults()
    event_defaults: EventDefaults = EventDefaults()
    progress_defaults: ProgressDefaults = ProgressDefaults()
    capture: Literal["decorated", "all"] = "decorated"
    """``decorated``: capture decorated nodes and graphs. ``all``: capture every node of every graph that is called
    with `streaming.config(...)`, inside an execution block, or while the module is active."""
    auto_open: bool = True
    """Open a run for an update if no run is open; otherwise the update is refused with `ExecutionNotFoundError`.
    Blocks, graphs and `hub.open` open a run in any case."""
    log_events: bool = False
    """Log each published update, with its data, at ``INFO`` on the logger ``lg_streaming.updates``."""
    debug: bool = False
    """Put stack traces into ``node_error`` and ``workflow_error``. Never set it on a public server."""

    @field_serializer("log", when_used="json")
    def _without_password(self, log: str) -> str:
        return LogUrl(log).shown

    @model_validator(mode="before")
    @classmethod
    def _names_are_known(cls, values: Any) -> Any:
        """Refuse unknown variables: pydantic-settings ignores them, misspelt ones too."""
        prefix = cls.model_config.get("env_prefix", "")
        for name in os.environ:
            before, _, rest = name.upper().partition(prefix)
            if not before and rest != _CLIENT_TOKEN and rest.partition("__")[0].lower() not in cls.model_fields:
                raise ValueError(f"the environment variable {name} is none of the settings: correct or unset it")
        return values


def settings_from(settings: StreamingSettings | Mapping[str, Any] | None) -> StreamingSettings:
    """Return the settings that a module or a hub was given as settings, or as a mapping of their fields.

    Raises:
        StreamingConfigError: If ``settings`` is neither, or a setting cannot be used.
    """
    settings = {} if settings is None else settings
    if isinstance(settings, StreamingSettings):
        return settings
    if not isinstance(settings, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StreamingConfigError(
            f"settings is a StreamingSettings, or a mapping of its fields, not {type(settings).__name__}"
        )
    try:
        return StreamingSettings(**settings)
    except ValidationError as error:
        raise StreamingConfigError(describe_invalid(error)) from None
    except TypeError as error:
        raise StreamingConfigError(f"settings: {error}") from None


def describe_invalid(error: ValidationError) -> str:
    """Return the problems of settings in one line, each with the name of its setting and without its value."""
    problems: list[str] = []
    for each in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in each["loc"])
        text = each["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {text}" if name and not text.startswith(name) else text)
    return "; ".join(problems)
