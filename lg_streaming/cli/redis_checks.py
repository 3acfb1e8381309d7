"""Checks of a log on Redis: rights, script, notifications, facts of the servers, latency, clock."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions
from redis.asyncio import RedisCluster

from lg_streaming.cli.findings import Finding, worst
from lg_streaming.cli.redis_facts import (
    check_connections,
    check_eviction,
    check_memory,
    check_persistence,
    check_replicas,
    check_server,
)
from lg_streaming.codec import Codec
from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.base import Batch, PendingUpdate
from lg_streaming.log.redis import RedisLog
from lg_streaming.log.redis.connection import connect_async
from lg_streaming.log.redis.notifications import Notifications
from lg_streaming.log.redis.rights import CLUSTER_COMMANDS, COMMANDS
from lg_streaming.log.redis.target import RedisTarget
from lg_streaming.publisher import NO_SCOPE
from lg_streaming.settings import RedisSettings

if TYPE_CHECKING:
    from lg_streaming.cli.findings import Level
    from lg_streaming.log.redis.connection import AsyncClient

__all__ = ["check_redis"]

_PINGS: Final = 200
_SLOW_MEDIAN: Final = 0.005
_SLOW_TAIL: Final = 0.05
_CLOCK_DIFFERENCE: Final = 1.0
_TIMEOUT: Final = 5.0
_CHECK_URL: Final = "Check that Redis runs, and host, port and TLS of the URL."
_CHECK_LOGIN: Final = "Check user and password, as in redis://user:password@host. Encode special characters: @ is %40."
_RULE: Final = "`lg-streaming doctor --acl` prints the rule of a user with enough rights."


async def check_redis(url: str, prefix: str) -> Sequence[Finding]:
    """Return the findings on a log. Without a connection there is only one.

    Args:
        url: URL of the log.
        prefix: Prefix of its keys. The checks write below ``<prefix>:doctor-…``. They remove that, or let it expire.

    Raises:
        StreamingConfigError: If the URL cannot be used.
    """
    target = RedisTarget.parse(url)
    client = connect_async(target, timeout=_TIMEOUT)
    try:
        return await _Checks(url, target, client, f"{prefix}:doctor-{secrets.token_hex(4)}").run()
    finally:
        await client.aclose()


class _Checks:
    def __init__(self, url: str, target: RedisTarget, client: AsyncClient, prefix: str) -> None:
        self._url = url
        self._target = target
        self._client: Any = client
        self._prefix = prefix
        self._findings: list[Finding] = []
        self._facts: Mapping[str, Mapping[str, Any]] = {}
        """Facts of each master, by its name."""

    async def run(self) -> Sequence[Finding]:
        start = time.perf_counter()
        try:
            await self._client.ping()
        except Exception as error:  # noqa: BLE001 (any error is a finding)
            advice = _CHECK_LOGIN if isinstance(error, exceptions.AuthenticationError) else _CHECK_URL
            self._add("connection", "failure", f"{self._target}: {type(error).__name__}: {error}", advice)
            return self._findings
        self._add("connection", "ok", f"{self._target} answers after {(time.perf_counter() - start) * 1000:.1f} ms")
        for check in (
            self._server,
            self._rights,
            self._script,
            self._notifications,
            self._data,
            self._latency,
            self._clock,
        ):
            await self._try(check)
        return self._findings

    async def _try(self, check: Callable[[], Awaitable[None]]) -> None:
        name = check.__name__.removeprefix("_")
        try:
            await check()
        except exceptions.NoPermissionError:
            self._add(name, "warning", "not known: the user lacks the right to ask", "Use an administrator's URL.")
        except Exception as error:  # noqa: BLE001 (the other checks go on)
            self._add(name, "failure", f"{type(error).__name__}: {error}")

    def _add(self, check: str, level: Level, message: str, advice: str = "") -> None:
        self._findings.append(Finding(check, level, message, advice))

    def _add_facts(self, check: Callable[[Mapping[str, Any]], Finding]) -> None:
        """Add the finding on the facts of the only master, or the worst findings on those of a cluster."""
        found = {name: check(facts) for name, facts in self._facts.items()}
        level = worst(found.values())
        bad = {name: each for name, each in found.items() if each.level == level}
        if level == "ok" or len({each.message for each in found.values()}) == 1:
            self._findings.append(next(iter(bad.values())))
        else:
            self._findings += [replace(each, message=f"{name}: {each.message}") for name, each in bad.items()]

    async def _server(self) -> None:
        if isinstance(self._client, RedisCluster):
            nodes = self._client.get_primaries()
            self._facts = {node.name: await self._client.info(target_nodes=node) for node in nodes}
        else:
            self._facts = {"": await self._client.info()}
        self._add_facts(lambda facts: check_server(facts, self._target.kind, len(self._facts)))

    async def _rights(self) -> None:
        commands = [*COMMANDS, *(CLUSTER_COMMANDS if self._target.kind == "cluster" else ())]
        missing: list[str] = []
        for name in sorted(commands, key="del".__eq__):  # the last one removes what the others have written
            if (arguments := _PROBES.get(name)) is None:
                continue  # `asking`, and those that `_notifications` checks
            filled = [each.replace("KEY", f"{self._prefix}:{{rights}}") for each in arguments.split()]
            node: Mapping[str, Any] = {} if "KEY" in arguments else self._one_node()
            try:
                await self._client.execute_command(*name.upper().split("|"), *filled, **node)
            except exceptions.NoPermissionError:
                missing.append(name)
            except exceptions.NoScriptError:
                pass
        if missing:
            message = f"the user lacks a right below {self._prefix.partition(':doctor-')[0]}: {', '.join(missing)}"
            self._add("rights", "failure", message, _RULE)
        else:
            self._add("rights", "ok", f"the user has the right to the {len(commands)} commands of the log")

    async def _script(self) -> None:
        settings = RedisSettings(timeout=_TIMEOUT).model_copy(update={"prefix": self._prefix})  # it may be long
        log = RedisLog(self._url, redis=settings)
        now = time.time()
        body = Codec().encode("probe", "doctor", None, scope=NO_SCOPE, priority="medium", timestamp=now)
        update = PendingUpdate("doctor", NO_SCOPE, "medium", now, body)
        try:
            await asyncio.to_thread(log.append, Batch("probe", [update], "doctor", 1))
            found = await log.read("probe", 0, 10)
            await log.drop("probe")
        except LogUnavailableError as error:
            self._add("script", "failure", f"an update cannot be appended: {_shortened(error)}", _RULE)
        else:
            if found is not None and [each.seq for each in found.records] == [1]:
                self._add("script", "ok", "an update was appended, read and removed")
            else:
                self._add("script", "failure", "an update was appended, but not found", "Look at the eviction.")
        finally:
            await log.aclose()
            with suppress(exceptions.ResponseError):
                await self._client.delete(f"{self._prefix}:processes")  # it stays where the log closes as it begins

    async def _notifications(self) -> None:
        notifications = Notifications(self._client)
        sharded, common = f"{self._prefix}:{{probe}}:n", f"{self._prefix}:n"
        try:
            async with asyncio.timeout(_TIMEOUT):
                await notifications.connect()
                await notifications.subscribe(common)
                await notifications.subscribe_sharded([sharded])
                await self._client.publish(common, "1")
                await self._client.execute_command("SPUBLISH", sharded, "1")
                missing = {common, sharded}
                async for channel, _ in notifications.messages():
                    missing.discard(channel)
                    if not missing:
                        break
                await notifications.unsubscribe_sharded([sharded])
                await notifications.unsubscribe(common)
        except (exceptions.NoPermissionError, LogUnavailableError) as error:
            self._add("notifications", "failure", f"a channel cannot be used: {_shortened(error)}", _RULE)
        except TimeoutError:
            advice = "A proxy in front of Redis must support SSUBSCRIBE and SPUBLISH."
            self._add("notifications", "failure", f"none arrived within {_TIMEOUT:g} s", advice)
        else:
            self._add("notifications", "ok", "messages of both kinds of channels arrive")
        finally:
            await notifications.aclose()

    async def _data(self) -> None:
        if not self._facts:
            raise exceptions.NoPermissionError
        schedule, fsync, idle = [await self._setting(name) for name in ("save", "appendfsync", "timeout")]
        self._add_facts(check_eviction)
        self._add_facts(check_memory)
        self._add_facts(lambda facts: check_persistence(facts, schedule, fsync))
        self._add_facts(lambda facts: check_replicas(facts, self._target.kind))
        self._add_facts(lambda facts: check_connections(facts, idle))

    async def _setting(self, name: str) -> str | None:
        """Return a setting of the server; None if the user lacks the right to read it."""
        try:
            found = await self._client.config_get(name, **self._one_node())
        except exceptions.ResponseError:
            return None
        return str(found[name]) if name in found else None

    def _one_node(self) -> Mapping[str, Any]:
        """Return the argument that sends a command without a key to one node of a cluster."""
        return {"target_nodes": self._client.get_default_node()} if isinstance(self._client, RedisCluster) else {}

    async def _latency(self) -> None:
        seconds: list[float] = []
        for _ in range(_PINGS):
            start = time.perf_counter()
            await self._client.ping()
            seconds.append(time.perf_counter() - start)
        percentiles = quantiles(seconds, n=100)
        median, tail = percentiles[49], percentiles[98]
        message = f"{median * 1000:.2f} ms (median), {tail * 1000:.2f} ms (99 %)"
        if median > _SLOW_MEDIAN or tail > _SLOW_TAIL:
            advice = "Each update takes this time once more: run Redis near the processes, with a CPU of its own."
            self._add("latency", "warning", message, advice)
        else:
            self._add("latency", "ok", message)

    async def _clock(self) -> None:
        before = time.time()
        answer: Any = await self._client.time(**self._one_node())
        middle = (before + time.time()) / 2
        difference: float = int(answer[0]) + int(answer[1]) / 1e6 - middle
        message = f"{abs(difference):.3f} s {'ahead of' if difference > 0 else 'behind'} this machine"
        if abs(difference) > _CLOCK_DIFFERENCE:
            self._add("clock", "warning", message, "Synchronise the clocks: updates have the time of the producer.")
        else:
            self._add("clock", "ok", message)


_PROBES: Final[Mapping[str, str]] = {
    "ping": "",
    "info": "server",
    "client|setname": "lg_streaming",
    "eval": "return(1) 1 KEY",
    "evalsha": f"{'0' * 40} 1 KEY",
    "script|load": "return(1)",
    "time": "",
    "publish": "KEY x",
    "spublish": "KEY x",
    "exists": "KEY",
    "pexpire": "KEY 1",
    "pttl": "KEY",
    "get": "KEY",
    "getdel": "KEY",
    "mget": "KEY",
    "set": "KEY:v x",
    "hdel": "KEY f",
    "hexists": "KEY f",
    "hget": "KEY f",
    "hgetall": "KEY",
    "hkeys": "KEY",
    "hmget": "KEY f",
    "hset": "KEY:h f x",
    "llen": "KEY",
    "lpop": "KEY",
    "lrem": "KEY 0 x",
    "rpush": "KEY:l x",
    "sadd": "KEY:s x",
    "srandmember": "KEY",
    "srem": "KEY:s x",
    "zadd": "KEY:z 0 x",
    "zrange": "KEY 0 0",
    "zrangebylex": "KEY - +",
    "zrangebyscore": "KEY 0 0",
    "zrem": "KEY:z x",
    "zremrangebyscore": "KEY 0 0",
    "zscore": "KEY x",
    "xadd": "KEY:x 1-0 f x",
    "xdel": "KEY 1-0",
    "xrange": "KEY - +",
    "del": "KEY KEY:v KEY:h KEY:l KEY:s KEY:z KEY:x",
    "cluster|slots": "",
    "command": "",
}
"""Arguments with which a right is tried. KEY is a key of the doctor."""


def _shortened(error: Exception) -> str:
    """Return the message of an error without the advice to use this command."""
    return str(error).partition(". Check ")[0]
