"""Take back what a run has changed in its thread's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.checkpoint.base import BaseCheckpointSaver

if TYPE_CHECKING:
    from collections.abc import Container

    from lg_streaming.capture import RunnableConfig

__all__ = ["RUN_KEY", "checkpoint_before", "without_checkpoint"]

RUN_KEY: Final = "lg_streaming_run_id"
"""Key of a run's id in the metadata of its calls and of its checkpoints."""


async def checkpoint_before(
    checkpointer: BaseCheckpointSaver[Any], thread_id: str, run_ids: Container[str]
) -> str | None:
    """Return the newest checkpoint of a thread that none of these runs has made; None without one."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    async for found in checkpointer.alist(config):
        if str(found.metadata.get(RUN_KEY)) not in run_ids:
            return found.checkpoint["id"]
    return None


def without_checkpoint(config: RunnableConfig) -> RunnableConfig:
    """Return a config for the newest checkpoint of its thread."""
    configurable: dict[str, Any] = config.get("configurable") or {}
    kept = {name: value for name, value in configurable.items() if name != "checkpoint_id"}
    return cast("RunnableConfig", {**config, "configurable": kept})
