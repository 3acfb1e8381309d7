"""Attempts of nodes that a run has made in other processes, from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.capture.node import task_name

if TYPE_CHECKING:
    from lg_streaming.log.base import EventLog

__all__ = ["attempts_of"]

_PAGE: Final = 1_000


async def attempts_of(log: EventLog, execution_id: str, run_id: str) -> dict[str, int]:
    """Return the number of attempts by task, as `RunTracker.next_attempt` counts them, of the updates that are kept.

    Raises:
        LogUnavailableError: If the log cannot be reached.
    """
    found: dict[str, int] = {}
    after = 0
    while (read := await log.read(execution_id, after, _PAGE)) is not None and read.records:
        after = read.records[-1].seq
        for record in read.records:
            scope = record.scope
            if record.type != "node_start" or scope.run_id != run_id or scope.namespace is None:
                continue
            task = task_name(scope.namespace, scope.node_id)
            found[task] = max(found.get(task, 0), scope.attempt or 1)
            path, _, number = scope.namespace.rpartition(":")
            if number.isdecimal():  # a function that is called as a node: each call has the next number
                found[path] = max(found.get(path, 0), int(number))
    return found
