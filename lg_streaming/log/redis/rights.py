"""Rights that a log on Redis needs, as a rule of Redis's access control lists."""

from __future__ import annotations

from typing import Final

__all__ = ["CLUSTER_COMMANDS", "COMMANDS", "acl_rule"]

COMMANDS: Final[tuple[str, ...]] = (
    # connections
    *("ping", "info", "client|setname"),
    # scripts, and the time in them
    *("eval", "evalsha", "script|load", "time"),
    # notifications
    *("publish", "subscribe", "unsubscribe", "spublish", "ssubscribe", "sunsubscribe"),
    # any key, strings
    *("del", "exists", "pexpire", "pttl", "get", "getdel", "mget", "set"),
    # hashes
    *("hdel", "hexists", "hget", "hgetall", "hkeys", "hmget", "hset"),
    # lists, sets
    *("llen", "lpop", "lrem", "rpush", "sadd", "srandmember", "srem"),
    # sorted sets
    *("zadd", "zrange", "zrangebylex", "zrangebyscore", "zrem", "zremrangebyscore", "zscore"),
    # streams
    *("xadd", "xdel", "xrange"),
)
"""Commands of the log and of `lg-streaming doctor`."""

CLUSTER_COMMANDS: Final[tuple[str, ...]] = ("cluster|slots", "command", "asking")
"""Further commands in a cluster."""


def acl_rule(user: str, prefix: str, *, cluster: bool = False, db: bool = False) -> str:
    """Return the rule of a user that has the least rights, without a password.

    Args:
        user: Name of the user.
        prefix: Prefix of the log's keys and channels.
        cluster: Whether Redis is a cluster.
        db: Whether the URL names another database than 0.
    """
    commands = (*COMMANDS, *(CLUSTER_COMMANDS if cluster else ()), *(("select",) if db else ()))
    rights = " ".join(f"+{command}" for command in commands)
    return f"{user} on resetkeys ~{prefix}:* resetchannels &{prefix}:* -@all {rights}"
