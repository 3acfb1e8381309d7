"""Checks of facts that a Redis server reports of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.cli.findings import Finding

if TYPE_CHECKING:
    from lg_streaming.log.redis.target import TargetKind

__all__ = ["check_connections", "check_eviction", "check_memory", "check_persistence", "check_replicas", "check_server"]

Facts = Mapping[str, Any]
"""Answer of the command INFO."""

_LEAST_VERSION: Final = 7
_FULL: Final = 0.8
_IDLE_TIMEOUT: Final = 60
_MB: Final = 1024 * 1024
_KINDS: Final[Mapping[TargetKind, str]] = {
    "server": "one server",
    "socket": "one server",
    "sentinel": "master that sentinels watch",
    "cluster": "cluster",
}


def check_server(facts: Facts, kind: TargetKind, masters: int) -> Finding:
    """Check version, mode and role."""
    is_cluster = facts.get("server_mode", facts.get("redis_mode")) == "cluster"
    product = "Valkey" if "valkey_version" in facts else "Redis"
    version = str(facts.get("valkey_version") or facts["redis_version"])
    what = f"cluster of {masters} masters" if is_cluster and kind == "cluster" else _KINDS[kind]
    message = f"{product} {version}, {what}"
    if int(version.partition(".")[0]) < _LEAST_VERSION:
        advice = "Install Redis 7.0 or later, or Valkey: older ones lack sharded channels."
        return Finding("server", "failure", message, advice)
    if is_cluster and kind != "cluster":
        advice = "It is a node of a cluster: use a URL with redis+cluster:// or rediss+cluster://."
        return Finding("server", "failure", message, advice)
    if facts["role"] != "master":
        advice = "It is a replica, which refuses writes: use the address of the master."
        return Finding("server", "failure", message, advice)
    return Finding("server", "ok", message)


def check_eviction(facts: Facts) -> Finding:
    """Check what happens at the limit of memory."""
    policy = str(facts["maxmemory_policy"])
    if policy == "noeviction":
        return Finding("eviction", "ok", "noeviction: at the limit Redis refuses writes, and updates wait")
    return Finding(
        "eviction",
        "warning",
        f"{policy}: at the limit Redis removes executions, even those that run; readers get gaps",
        "CONFIG SET maxmemory-policy noeviction",
    )


def check_memory(facts: Facts) -> Finding:
    """Check the limit of memory."""
    limit, used = int(facts["maxmemory"]), int(facts["used_memory"])
    if not limit:
        return Finding(
            "memory",
            "warning",
            f"{used / _MB:.0f} MB used, no limit: the system may end Redis when memory is short",
            "CONFIG SET maxmemory to three quarters of the memory, at most",
        )
    message = f"{used / _MB:.0f} of {limit / _MB:.0f} MB used"
    if used > _FULL * limit:
        return Finding("memory", "warning", message, "Raise maxmemory, or shorten the retention.")
    return Finding("memory", "ok", message)


def check_persistence(facts: Facts, schedule: str | None, fsync: str | None) -> Finding:
    """Check what a crash loses. ``schedule`` and ``fsync`` are the settings save and appendfsync; None: not known."""
    if facts.get("aof_last_write_status", "ok") != "ok" or facts.get("rdb_last_bgsave_status", "ok") != "ok":
        advice = "Look at the log of Redis. It may refuse all writes until it can."
        return Finding("persistence", "failure", "Redis could not write to its disk", advice)
    if facts["aof_enabled"]:
        losses = {"always": "nothing", "everysec": "the last second", "no": "what was not yet on the disk"}
        lost = losses.get(fsync or "", "a second or more")
        return Finding("persistence", "ok", f"append-only file, fsync {fsync or 'not known'}: a crash loses {lost}")
    if schedule:
        message = f"snapshots only ({schedule}): a crash loses all updates since the last one"
    elif schedule is None:
        message = "no append-only file: a crash loses all updates since the last snapshot, if Redis makes any"
    else:
        message = "none: a restart of Redis loses all executions"
    return Finding("persistence", "warning", message, "CONFIG SET appendonly yes")


def check_replicas(facts: Facts, kind: TargetKind) -> Finding:
    """Check that replicas are in step."""
    count = int(facts["connected_slaves"])
    if count:
        replicas = [cast("dict[str, object]", facts.get(f"slave{number}", {})) for number in range(count)]
        behind = sum(each.get("state") != "online" for each in replicas)
        if behind:
            return Finding("replicas", "warning", f"{count}, of which {behind} are not in step", "Look at their logs.")
        return Finding("replicas", "ok", f"{count}: a failover loses the updates that they have not received yet")
    if kind == "sentinel":
        return Finding("replicas", "warning", "none: a sentinel has nothing to fail over to", "Start a replica.")
    return Finding("replicas", "ok", "none: while this server is away, updates wait in the processes")


def check_connections(facts: Facts, idle: str | None) -> Finding:
    """Check the number of connections. ``idle`` is the setting timeout; None: not known."""
    used, most = int(facts["connected_clients"]), int(facts.get("maxclients", 0))
    message = f"{used} of {most or 'a number that is not known'}"
    if most and used > _FULL * most:
        return Finding("connections", "warning", message, "Raise maxclients.")
    if idle and 0 < int(idle) < _IDLE_TIMEOUT:
        message += f"; Redis closes a connection after {idle} s without a command"
        return Finding("connections", "warning", message, "CONFIG SET timeout 0")
    return Finding("connections", "ok", message)
