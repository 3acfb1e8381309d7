"""Clients of the Redis servers of a URL, and the errors that mean "not reachable now".

The clients never retry: the log retries batches by their number. Only a redirection within a cluster (MOVED, ASK,
TRYAGAIN) sends a command again: the first node has not executed it.
"""

from __future__ import annotations

import asyncio
import re
from ssl import TLSVersion
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import LogUnavailableError, MissingExtraError

try:
    import redis
    import redis.asyncio
    from redis import exceptions
    from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.asyncio.sentinel import Sentinel as AsyncSentinel
    from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelPool
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode
    from redis.retry import Retry
    from redis.sentinel import Sentinel, SentinelConnectionPool
except ImportError as missing:
    raise MissingExtraError("a log on Redis needs redis-py: pip install 'lg-streaming[redis]'") from missing

try:
    import hiredis
except ImportError:
    hiredis = None

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.redis.target import RedisTarget

__all__ = ["AsyncClient", "SyncClient", "connect_async", "connect_sync", "to_unavailable"]

SyncClient = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster

_CONNECT_TIMEOUT: Final = 2.0
_HEALTH_CHECK: Final = 10
_CLIENT_NAME: Final = "lg_streaming"
_TLS_VERSIONS: Final = {"TLSv1.2": TLSVersion.TLSv1_2, "TLSv1.3": TLSVersion.TLSv1_3}
_UNAVAILABLE: Final = (
    exceptions.ConnectionError,  # also LOADING, no master found, no free connection, a rejected password
    exceptions.TimeoutError,
    exceptions.InvalidResponse,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.ClusterError,  # also CLUSTERDOWN and MASTERDOWN
    exceptions.TryAgainError,
    exceptions.AskError,  # also MOVED
    exceptions.RedisClusterException,  # no node answers, or a slot has no node
    OSError,
    EOFError,
    asyncio.TimeoutError,
)
_REFUSALS: Final = re.compile(
    r"no permissions|unknown (sub)?command|Unknown Redis command|can't run this command|ACL failure"
    r"|Error compiling script|DB index is out of range|SELECT is not allowed",
    re.IGNORECASE,
)
"""Errors of a server, a user or a database that the log cannot use until an operator has changed it."""
_UNAVAILABLE_CODES: Final = frozenset(
    {"BUSY", "MISCONF", "NOREPLICAS", "LOADING", "UNKILLABLE", "NOQUORUM", "NOGOODSLAVE"}
)


def connect_sync(target: RedisTarget, *, timeout: float = 5.0) -> SyncClient:
    """Return a client for threads. Close it with ``close()``.

    It connects at its first command. A client of a cluster connects here, so call this in a thread that may wait.

    Args:
        target: The servers, and options that take precedence.
        timeout: Seconds that an answer may take. A connection may take two.

    Raises:
        LogUnavailableError: If no node of a cluster answers.
    """
    options = _client_options(target, timeout)
    options["retry"] = Retry(NoBackoff(), 0)
    match target.kind:
        case "cluster":
            nodes = [ClusterNode(host, port) for host, port in target.hosts]
            try:
                return redis.RedisCluster(startup_nodes=nodes, **options)
            except Exception as error:
                raise to_unavailable(error) from error
        case "sentinel":
            sentinels = Sentinel(target.hosts, sentinel_kwargs=_sentinel_options(target, options), **options)
            client = sentinels.master_for(target.service or "", connection_pool_class=_SentinelPool, db=target.db)
        case _:
            client = redis.Redis(**options, **_address(target))
    if hiredis is not None:
        client.connection_pool.connection_kwargs["command_packer"] = _Packer()
    return client


def connect_async(target: RedisTarget, *, timeout: float = 5.0) -> AsyncClient:
    """Return a client for one event loop. It connects at its first command; close it with ``aclose()``.

    Args:
        target: The servers, and options that take precedence.
        timeout: Seconds that an answer may take. A connection may take two.
    """
    options = _client_options(target, timeout)
    options["retry"] = AsyncRetry(NoBackoff(), 0)
    match target.kind:
        case "cluster":
            nodes = [AsyncClusterNode(host, port) for host, port in target.hosts]
            return redis.asyncio.RedisCluster(startup_nodes=nodes, **options)
        case "sentinel":
            sentinels = AsyncSentinel(target.hosts, sentinel_kwargs=_sentinel_options(target, options), **options)
            return sentinels.master_for(target.service or "", connection_pool_class=_AsyncSentinelPool, db=target.db)
        case _:
            return redis.asyncio.Redis(**options, **_address(target))


def to_unavailable(error: Exception) -> Exception:
    """Return a `LogUnavailableError` for an error that a later try may not have, and any other error unchanged."""
    if (
        isinstance(error, _UNAVAILABLE)
        or (isinstance(error, exceptions.ResponseError) and str(error).partition(" ")[0] in _UNAVAILABLE_CODES)
        or (isinstance(error, RuntimeError) and "the handler is closed" in str(error))  # uvloop, if the peer has reset
    ):
        return LogUnavailableError(f"the log on Redis cannot be reached: {type(error).__name__}: {error}{_hint(error)}")
    if isinstance(error, exceptions.ResponseError) and _REFUSALS.search(str(error)):
        return LogUnavailableError(
            f"Redis refuses a command of the log: {error}. Check the server, the rights and the URL with "
            "`lg-streaming doctor`"
        )
    return error


def _hint(error: Exception) -> str:
    if isinstance(error, exceptions.MovedError):
        return ". The server is a node of a cluster: use a redis+cluster:// URL"
    return ""


class _Packer:
    """Packer of commands by hiredis, without redis-py's check of each argument, which takes longer than the packing."""

    def pack(self, *arguments: Any) -> Sequence[bytes]:
        """Return a command as it is sent. Its name may have two words, as redis-py gives some."""
        name: str | bytes = arguments[0]
        if name != "EVALSHA":
            arguments = (*(name.encode() if isinstance(name, str) else name).split(), *arguments[1:])
        return [cast("Any", hiredis).pack_command(arguments)]


class _SentinelPool(SentinelConnectionPool):
    """Connections to the master; closing them closes the connections to the sentinels too."""

    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


class _AsyncSentinelPool(AsyncSentinelPool):
    """Connections to the master; closing them closes the connections to the sentinels too."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _client_options(target: RedisTarget, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": target.username,
        "password": target.password,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "socket_timeout": timeout,
        "health_check_interval": _HEALTH_CHECK,
        "client_name": _CLIENT_NAME,
        "driver_info": None,  # it costs each connection two commands, which Redis 7.0 does not have
        "protocol": 2,  # as fast as 3 with hiredis, and no pushes between answers
    }
    if target.kind != "socket":
        options["socket_keepalive"] = True
    options |= {name: value for name, value in target.options.items() if not name.startswith("sentinel_")}
    if target.tls:
        options["ssl"] = True
        if options.get("ssl_cert_reqs") == "none":
            options["ssl_check_hostname"] = False
        if version := options.get("ssl_min_version"):
            options["ssl_min_version"] = _TLS_VERSIONS[version]
    return options


def _address(target: RedisTarget) -> dict[str, Any]:
    if target.kind == "socket":
        return {"unix_socket_path": target.path, "db": target.db}
    ((host, port),) = target.hosts
    return {"host": host, "port": port, "db": target.db}


def _sentinel_options(target: RedisTarget, options: dict[str, Any]) -> dict[str, Any]:
    sentinel = {
        name: value for name, value in options.items() if name not in {"username", "password", "max_connections"}
    }
    sentinel["username"] = target.options.get("sentinel_username")
    sentinel["password"] = target.options.get("sentinel_password")
    return sentinel
