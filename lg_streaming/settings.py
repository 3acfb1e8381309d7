"""All settings, from arguments or from the environment (``LG_STREAMING_…``, nested with ``__``).

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
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

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
    "RetentionSettings",
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
"""How long a run may be idle; `hub.open` takes the same."""


class _Section(BaseModel):
    # What is wrong is told without the value: it may be a secret, or have one beside it.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AuthSettings(_Section):
    """Who may come in."""

    enabled: bool | None = None
    """``None``: a valid token is required where a key is set; without one this is development, and only callers from
    loopback are let in. ``False``: open to everyone, on purpose. ``True``: a valid token is required."""
    secret: SecretStr | None = None
    """The shared secret of HMAC tokens (HS256); at least 32 bytes."""
    public_key: str | None = None
    """The PEM public key of RS256, ES256 or EdDSA tokens."""
    jwks_url: str | None = None
    """Where the keys of RS256, ES256 or EdDSA tokens are published, a JWK Set: ``https``, or ``http`` to this machine.
    A token's ``kid`` chooses the key. The set is fetched again every 5 minutes, and for an unknown ``kid``."""
    algorithms: tuple[Algorithm, ...] | None = None
    """Accepted algorithms. ``None``: HS256 with a secret; RS256, ES256 and EdDSA with a public key or a JWK Set."""
    audience: str | None = None
    """The ``aud`` a token must have."""
    issuer: str | None = None
    """The ``iss`` a token must have."""
    leeway: Annotated[float, option(seconds(zero="forgives none"))] = 5.0
    """Clock difference that is forgiven when a token's times are checked."""
    cookie: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")] | None = "lg_streaming_token"
    """The cookie that may carry the token; ``None``: cookies are not looked at."""

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
            raise ValueError("auth.enabled needs a key: set auth.secret, auth.public_key or auth.jwks_url")
        for algorithm in self.algorithms or ():
            if algorithm.startswith("HS") != (self.secret is not None):
                raise ValueError(f"auth.algorithms has {algorithm}, which does not go with the key that is set")
        if self.secret is not None:
            check_secret(self.secret.get_secret_value(), self.algorithms or ("HS256",))
        return self


_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}


def check_secret(secret: str, algorithms: tuple[str, ...]) -> None:
    """Finds a secret that is no use with one of the HMAC algorithms.

    Raises:
        ValueError: It is too short, or it is a key of another kind.
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
        raise ValueError("auth.jwks_url needs https: whoever can change the answer makes the tokens")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class CompressionSettings(_Section):
    """What is compressed, for clients that accept it."""

    http: bool = True
    """Event streams and HTTP answers, by the request's ``Accept-Encoding``."""
    websocket: bool = False
    """Messages of WebSockets, Socket.IO's too, that negotiated ``permessage-deflate`` with the server."""
    codings: Annotated[tuple[ContentCoding, ...], Field(min_length=1)] | None = None
    """The content codings of HTTP; of those a client likes alike, the first. ``None``: ``gzip``, ``zstd``, ``br`` and
    ``deflate``, without those that are not installed."""
    threshold: Annotated[int, option(count("bytes", zero="compresses all"))] = 1_024
    """Bytes. A message or an answer that is smaller stays as it is, and so does the beginning of a gzip or deflate
    stream."""
    level: Annotated[int, option(Number(whole=True, most=9, zero="compresses nothing"))] = 6
    """From 1, least work, to 9, smallest. 0 compresses nothing."""


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class GatewaySettings(_Section):
    """The network edge."""

    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """Path before every route, such as ``/streaming``."""
    namespace: Annotated[str, Field(pattern=r"^/[^\s,?]*$")] = "/"
    """The Socket.IO namespace."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins allowed beside the server's own, such as ``https://app.example.com``; ``*`` allows all."""
    cors_headers: tuple[HeaderName, ...] | None = None
    """Request headers of your own that pages of these origins may send, such as ``X-Tenant`` or ``traceparent``.
    ``None``: all they ask for. Empty: none. ``Authorization``, ``Cache-Control``, ``Content-Type`` and
    ``Last-Event-ID`` always pass."""
    transports: tuple[TransportName, ...] = ("socketio", "websocket", "sse", "rest")
    """How clients may come; without ``rest`` there are still ``GET /health`` and ``POST /tickets``. Empty: no way."""
    heartbeat_interval: Annotated[float | None, option(seconds(none="for none"))] = 15.0
    """Between heartbeats (Socket.IO, WebSocket) and keep-alive comments (SSE); at each it is also asked whether the
    caller's token has been revoked. ``None``: neither."""
    max_stream_duration: Annotated[float | None, option(seconds(none="for no limit"))] = None
    """How long one event stream (SSE) lasts at most; its reader is told to come back, and goes on where it was."""
    frame_interval: Annotated[float, option(seconds(zero="sends at once"))] = 0.005
    """Least time between two frames to one reader; what comes meanwhile shares a frame. 0 sends at once."""
    ping_interval: Seconds = 25.0
    """Between the transport's own pings."""
    ping_timeout: Seconds = 10.0
    """How long a peer may take to answer a ping before it counts as dead."""
    metrics: bool | None = None
    """Whether ``GET /metrics`` is served. ``None``: where the extra ``metrics`` is installed."""
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
    """What one caller, one connection or one producer may use."""

    connections: Annotated[int | None, option(count("connections", none="for no limit"))] = 10_000
    """Open connections of this process."""
    connections_per_subject: Annotated[int | None, option(count("connections", none="for no limit"))] = 20
    """Open connections with tokens of the same ``sub``."""
    connections_per_address: Annotated[int | None, option(count("connections", none="for no limit"))] = 100
    """Open connections from the same address; of IPv6, from the same /64 network. Behind a proxy the server has to know
    the callers' own addresses, see the guide on deployment."""
    connects_per_address: Rate | None = "600/minute"
    """Connections an address may open in a time, such as ``10/second`` or ``600/minute``."""
    failed_logins_per_address: Rate | None = "60/minute"
    """Failed logins of an address in a time; beyond, it is not let in until the time has passed."""
    subscriptions_per_connection: Annotated[int | None, option(count("subscriptions", none="for no limit"))] = 128
    messages_per_second: Annotated[float | None, option(rate("messages", none="for no limit"))] = 20.0
    """Messages a connection may send, on average; ``message_burst`` may come at once."""
    message_burst: Annotated[int, option(count("messages"))] = 40
    frames_per_second: Annotated[float | None, option(rate("frames", none="for no limit"))] = 100.0
    """WebSocket frames beside whole messages that a connection may send, on average: pings, pongs, fragments, and
    packets of engine.io that carry no message."""
    frame_burst: Annotated[int, option(count("frames"))] = 200
    """Such frames that may come at once."""
    message_timeout: Seconds = 20.0
    """From the first byte of a WebSocket message to its last."""
    inbound_bytes: Annotated[int, option(count("bytes"))] = 65_536
    """Size of one inbound message."""
    backlog_bytes: Annotated[int, option(count("bytes"))] = 1_048_576
    """What may wait to be sent to one connection before it is closed as slow."""
    backlog_frames: Annotated[int, option(count("frames"))] = 1_024
    send_timeout: Seconds = 10.0
    """How long a write may make no progress before the peer counts as dead."""
    login_timeout: Seconds = 10.0
    """From opening a transport to a completed login."""
    update_bytes: Annotated[int, option(count("bytes", least=1_024))] = 262_144
    """Size of one update, encoded. A longer text leaves in several updates that join to the same text. What is captured
    of nodes, models and tools leaves shortened."""
    large_updates: Literal["refuse", "shorten"] = "refuse"
    """What becomes of a larger update that a program publishes itself, where it is no text: ``refuse`` raises
    `UpdateTooLargeError` to it, ``shorten`` shortens it like a captured one."""
    max_executions: Annotated[int | None, option(count("executions", none="for no limit"))] = None
    """Executions running at one time."""
    max_subscribers_per_execution: Annotated[int | None, option(count("readers", none="for no limit"))] = None
    """Readers of one execution. Those of ``subscribe_events`` do not count: they are bounded by their connection."""
    updates_per_second: Annotated[float | None, option(rate("updates", none="for no limit"))] = None
    """Updates an execution may publish, on average; as many may come at once. Beyond, updates that are sent
    ``at-most-once`` are dropped and counted; all others, statuses and what starts or ends a node pass."""
    idle_timeout: Annotated[float | None, option(IDLE_TIMEOUT)] = 300.0
    """How long a run may be open with nothing to hear of it and no node at work in it; then it ends as abandoned. Not
    while it waits for a human, and rooms never end so. ``None`` or 0: never."""
    cancel_grace: Annotated[float, option(seconds(zero="ends it at once"))] = 10.0
    """How long a run that handles its cancelling may take to end; then it ends as cancelled anyway."""
    producer_buffer_updates: Annotated[int, option(count("updates"))] = 10_000
    """Updates that wait for a log that is slow or away; beyond, updates are given up and counted."""
    producer_buffer_bytes: Annotated[int, option(count("bytes"))] = 16 * 1024 * 1024


class RetentionSettings(_Section):
    """How much of an execution is kept for late and returning readers."""

    max_updates: Annotated[int, option(count("updates"))] = 10_000
    """Updates kept of one execution."""
    max_bytes: Annotated[int, option(count("bytes"))] = 8 * 1024 * 1024
    """Memory that the updates of one execution take, with the objects around them; the newest is always kept."""
    total_bytes: Annotated[int | None, option(count("bytes", none="for no limit"))] = 512 * 1024 * 1024
    """Memory that all executions of one process take. Beyond, ended executions go first, the oldest first, then the
    oldest updates of running ones. Readers get a gap."""
    ttl: Seconds = 900.0
    """How long updates are kept after an execution's last one."""
    record_ttl: Seconds = 86_400.0
    """How long an ended execution's state and final update are kept."""


TokenFormat = Literal["text", "json", "structured"]

MAX_BUFFER_SIZE: Final = 1_000
"""The most tokens a token stream may hold, or join into one update."""
MAX_FLUSH_INTERVAL: Final = 60.0
"""The longest a token may be held, in seconds."""


class TokenDefaults(_Section):
    """The options of ``@stream_token`` where a decorator leaves them out."""

    enabled: bool = True
    """Whether text leaves at all."""
    buffer_size: Annotated[int, option(count("tokens", most=MAX_BUFFER_SIZE))] = 50
    """Tokens that are held; with this many, all leave at once. 1: none is held."""
    batch_size: Annotated[int, option(count("tokens", most=MAX_BUFFER_SIZE))] = 10
    """Tokens that may be joined into one update. 1: each token is an update."""
    flush_interval: Annotated[float, option(seconds(zero="holds none", most=MAX_FLUSH_INTERVAL))] = 0.1
    """Seconds a token is held at most. 0: none is held."""
    format: TokenFormat = "text"
    """What an update's data holds beside ``content``: see `stream_token`."""
    include_metadata: bool = False
    """Whether an update's data has ``metadata`` about the model and its call."""
    first_token_immediately: bool = True
    """Whether the first token of each message leaves at once."""


MAX_EVENT_BUFFER: Final = 10_000
MAX_EVENT_BATCH: Final = 1_000
MAX_EVENT_INTERVAL: Final = 10.0
"""Seconds; events are for people who watch."""


class EventDefaults(_Section):
    """The options of ``@stream_event`` where a decorator leaves them out."""

    enabled: bool = True
    """Whether events leave. The node's own start and end, without its result, leave from every decorated node."""
    buffer_size: Annotated[int, option(count("events", most=MAX_EVENT_BUFFER))] = 100
    """Events that may wait; with this many, all leave at once. 1: none waits."""
    batch_size: Annotated[int, option(count("events", most=MAX_EVENT_BATCH))] = 10
    """Events that are appended to the log in one go, at most. Each stays an update of its own."""
    flush_interval: Annotated[float, option(seconds(zero="holds none", most=MAX_EVENT_INTERVAL))] = 0.05
    """Seconds. An event that comes at least this long after the last one left leaves at once; those that follow it
    closer wait, for this long at most. Errors and the node's own start and end never wait. 0: none waits."""
    delivery: Delivery = "at-least-once"
    """What may happen to an event before it is in the log. ``at-most-once``: under pressure it may be dropped, which is
    counted. ``at-least-once``: it is not. ``exactly-once``: it is not, and a node that is tried again does not repeat
    the events it sent before."""
    include_state: bool = False
    """Whether the state a node was called with leaves, as a ``values`` update."""
    min_priority: Priority = "low"
    """The lowest priority that passes."""
    include_debug: bool = False
    """Whether ``debug`` and ``debug:…`` may pass."""


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(set(values)))


Milestone = Annotated[float, option(Number(unit="percent", above=True, most=100))]
MAX_PROGRESS_INTERVAL: Final = 3600.0
"""Seconds; a reader that hears nothing for longer cannot tell a slow node from a dead one."""
MAX_MILESTONES: Final = 100
MAX_PRECISION: Final = 6


class ProgressFormatDefaults(_Section):
    """Which fields a progress update has."""

    show_percentage: bool = True
    """``progress``, 0 to 100. Without it a reader still gets ``status`` and what else is shown."""
    show_current: bool = False
    """``current``, as the node reported it."""
    show_total: bool = False
    """``total``, as the node reported it."""
    show_rate: bool = False
    """``rate``: units of ``current`` per second, on average since the node's start."""
    precision: Annotated[int, option(Number(unit="decimals", whole=True, most=MAX_PRECISION))] = 1
    """Decimals of ``progress``. 100 is shown only when it is reached."""


class ProgressDefaults(_Section):
    """The options of ``@stream_progress`` where a decorator leaves them out."""

    enabled: bool = True
    interval: Annotated[float, option(seconds(zero="lets every report leave", most=MAX_PROGRESS_INTERVAL))] = 1.0
    """Seconds between two reports of a node, at least; 0 lets every report leave. 0 %, milestones and 100 % do not
    wait. A report that has to wait is replaced by a newer one, and leaves when the interval is over."""
    granularity: Literal["coarse", "fine", "detailed"] = "fine"
    """``coarse``: start, milestones and end. ``fine``: reports in between too, one each interval. ``detailed``: all."""
    include_eta: bool = True
    """``eta_s``: the seconds left, once they can be estimated."""
    include_metrics: bool = False
    """``elapsed_s``, seconds since the node's start, and ``rate``, units of ``current`` per second."""
    milestones: Annotated[tuple[Milestone, ...], Field(max_length=MAX_MILESTONES), AfterValidator(_ascending)] = ()
    """Percentages, above 0 and up to 100: each makes a ``milestone`` update when the node gets there."""
    format: ProgressFormatDefaults = ProgressFormatDefaults()


class NodeDefaults(_Section):
    """The options of all decorators where they leave them out."""

    token: TokenDefaults = TokenDefaults()
    event: EventDefaults = EventDefaults()
    progress: ProgressDefaults = ProgressDefaults()

    def changed(self, **parts: Mapping[str, Any] | None) -> Self:
        """These defaults with some options of ``token``, ``event`` or ``progress`` changed.

        Raises:
            pydantic.ValidationError: An option is not known, or its value cannot be used.
        """
        merged = self.model_dump()
        for name, options in parts.items():
            for each, value in (options or {}).items():
                nested = isinstance(value, Mapping) and isinstance(merged[name].get(each), dict)
                merged[name][each] = {**merged[name][each], **value} if nested else value
        return type(self).model_validate(merged)


class StreamingSettings(BaseSettings):
    """Everything that can be set. Unknown names are refused, so a typing error does not go unnoticed."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="LG_STREAMING_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    log: Annotated[str, Field(pattern=r"^memory://$")] = "memory://"
    """Where executions are kept; ``memory://`` keeps them in this process."""
    auth: AuthSettings = AuthSettings()
    gateway: GatewaySettings = GatewaySettings()
    limits: LimitSettings = LimitSettings()
    retention: RetentionSettings = RetentionSettings()
    token_defaults: TokenDefaults = TokenDefaults()
    event_defaults: EventDefaults = EventDefaults()
    progress_defaults: ProgressDefaults = ProgressDefaults()
    capture: Literal["decorated", "all"] = "decorated"
    """What is captured of a graph: decorated nodes and graphs, or every node of every graph that is called with
    `streaming.config(...)`, inside an execution block, or while the module is active."""
    auto_open: bool = True
    """Whether an update opens a run where none is open; otherwise it is refused with `ExecutionNotFoundError`. Blocks,
    graphs and `hub.open` open one in any case."""
    log_events: bool = False
    """Whether each published update is logged, with its data, at ``INFO`` on the logger ``lg_streaming.updates``."""
    debug: bool = False
    """Stack traces in ``node_error`` and ``workflow_error``. Never on a public server."""

    @model_validator(mode="before")
    @classmethod
    def _names_are_known(cls, values: Any) -> Any:
        """pydantic-settings looks for the variables it knows and passes over all others, misspelt ones too."""
        prefix = cls.model_config.get("env_prefix", "")
        for name in os.environ:
            before, _, rest = name.upper().partition(prefix)
            if not before and rest.partition("__")[0].lower() not in cls.model_fields:
                raise ValueError(f"the environment variable {name} is none of the settings: correct or unset it")
        return values


def settings_from(settings: StreamingSettings | Mapping[str, Any] | None) -> StreamingSettings:
    """The settings that a module or a hub is given, which may be a mapping of their fields.

    Raises:
        StreamingConfigError: They are neither, or a setting cannot be used.
    """
    if settings is None:
        return StreamingSettings()
    if isinstance(settings, StreamingSettings):
        return settings
    if not isinstance(settings, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StreamingConfigError(
            f"settings is a StreamingSettings, or a mapping of its fields, not {type(settings).__name__}"
        )
    try:
        return StreamingSettings(**settings)
    except (ValidationError, TypeError) as error:
        raise StreamingConfigError(f"settings: {error}") from None
