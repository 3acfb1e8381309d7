"""Run that one process takes up after another, and the state of its thread."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.memory import InMemorySaver

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.runs.records import RunRecord
from lg_streaming.runs.registry import checkpointer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.types import StateSnapshot

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.runs.registry import AnyGraph

__all__ = ["Takeover", "at_breakpoint", "is_of", "persistent_checkpointer", "read_state"]

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """Run that this process takes up."""

    record: RunRecord
    graph: AnyGraph
    run_id: str
    """Present id of the run."""
    interrupted: bool
    """True if the run waited for a human, or was paused."""


def persistent_checkpointer(graph: AnyGraph) -> BaseCheckpointSaver[Any] | None:
    """Return the checkpointer of a graph, or None without one whose checkpoints outlive the process."""
    found = checkpointer_of(graph)
    return None if type(found) is InMemorySaver else found


def at_breakpoint(graph: AnyGraph, snapshot: StateSnapshot, options: Mapping[str, Any]) -> bool:
    """Return whether a thread that has further nodes may have stopped at a breakpoint of its graph or its run."""
    before = options.get("interrupt_before") or graph.interrupt_before_nodes
    after = options.get("interrupt_after") or graph.interrupt_after_nodes
    return bool(snapshot.next) and (bool(after) or before == "*" or any(each in before for each in snapshot.next))


def is_of(snapshot: StateSnapshot, record: RunRecord) -> bool:
    """Return whether the newest checkpoint of a thread is of the run of a record."""
    found = RunRecord.from_checkpoint(snapshot.metadata)
    return found is not None and found.run_id in {record.run_id, record.resumed_from}


async def read_state(graph: AnyGraph, config: RunnableConfig) -> StateSnapshot:
    """Return the newest state of a thread, with that of subgraphs. Repeat the read until the checkpointer answers."""
    attempt = 0
    while True:
        try:
            return await graph.aget_state(config, subgraphs=True)
        except Exception as error:
            if not attempt:
                logger.warning("the checkpointer of graph %r cannot be read yet", graph.get_name(), exc_info=error)
            await asyncio.sleep(LOG_BACKOFF.seconds(attempt, random.random))
            attempt += 1
