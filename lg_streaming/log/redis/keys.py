"""Names of the keys and channels in Redis."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ExecutionKeys", "Keys"]

_BRACES: Final = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})


class ExecutionKeys(NamedTuple):
    """Keys and the channel of one execution. They share a hash tag, so a cluster keeps them on one node."""

    updates: str
    """Stream of the updates. An entry is a chunk of consecutive ones; its id is ``<last sequence number>-0``."""
    state: str
    """Hash: epoch, head, run, owner, and the numbers of the producers."""
    idempotency: str
    """Sorted set of the idempotency keys of kept updates, by sequence number."""
    channel: str
    """Sharded channel of notifications."""


class Keys:
    """Names of the keys and channels of one log.

    Args:
        prefix: Beginning of every key and channel, so that several logs can share a Redis.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix
        self.all_updates: str = f"{prefix}:n"
        """Channel of the notifications of all executions."""
        self.ids: str = f"{prefix}:ids"
        """Sorted set of the ids of all executions, in their order."""
        self.due: str = f"{prefix}:due"
        """Sorted set of these ids, by the time at which the execution may have expired, in milliseconds."""
        self.starts: str = f"{prefix}:starts"
        """Sorted set of these ids, by the start of the last run in seconds since 1970."""
        self.owners: str = f"{prefix}:owners"
        """Hash of the owners of executions."""

    def execution(self, execution_id: str) -> ExecutionKeys:
        """Return the keys of an execution. Braces in its id are escaped, so that the tag is the whole id."""
        start = f"{self.prefix}:{{{execution_id.translate(_BRACES)}}}:"
        return ExecutionKeys(start + "u", start + "x", start + "k", start + "n")

    def owned(self, owner: str) -> str:
        """Return the sorted set of the ids of the executions of an owner."""
        return f"{self.prefix}:owned:{{{owner.translate(_BRACES)}}}"

    def owned_starts(self, owner: str) -> str:
        """Return the sorted set of these ids, by the start of the last run."""
        return f"{self.prefix}:owned:{{{owner.translate(_BRACES)}}}:starts"
