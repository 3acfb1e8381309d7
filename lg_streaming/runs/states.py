"""Publish the state of a run's graph after each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from langgraph.types import GraphOutput

from lg_streaming.errors import StreamingError
from lg_streaming.events import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.registry import AnyGraph

__all__ = ["StatePublisher"]

_MODES: Final = ("values", "checkpoints")


class StatePublisher:
    """Publisher of ``state`` updates: the state of a graph, and of its subgraphs, after the input and each step.

    The data is ``{values, next, checkpoint_id, parent_checkpoint_id, source, step}``. Without a checkpointer it is
    ``{values}``. ``values`` is absent if it has more than ``runs.state_bytes`` bytes. The update of a subgraph has its
    namespace.

    Args:
        hub: The hub.
        execution_id: The execution.
    """

    def __init__(self, hub: StreamHub, execution_id: str) -> None:
        self._hub = hub
        self._execution_id = execution_id
        self._unpublished: dict[str, Any] = {}  # values whose checkpoint has not come yet, by namespace

    async def call(self, graph: AnyGraph, step: Any, config: RunnableConfig, **options: Any) -> GraphOutput[Any]:
        """Call a graph like ``ainvoke(…, version="v2")``, and publish its states."""
        latest: Any = None
        interrupts: list[Any] = []
        stream = cast("Any", graph).astream(step, config, stream_mode=_MODES, subgraphs=True, version="v2", **options)
        async for part in stream:
            namespace, data = "|".join(part["ns"]), part["data"]
            if part["type"] == "checkpoints":
                self._publish_checkpoint(namespace, data)
            elif part.get("interrupts"):  # the same state again
                if not namespace:
                    latest = data
                    interrupts.extend(part["interrupts"])
            else:
                self._flush(namespace)
                self._unpublished[namespace] = data
                latest = latest if namespace else data
        for namespace in list(self._unpublished):
            self._flush(namespace)
        return GraphOutput(value=latest, interrupts=tuple(interrupts))

    def _flush(self, namespace: str) -> None:
        if namespace in self._unpublished:
            self._publish(namespace, self._unpublished.pop(namespace), {})

    def _publish_checkpoint(self, namespace: str, checkpoint: Mapping[str, Any]) -> None:
        values = self._unpublished.pop(namespace, checkpoint["values"])
        metadata = checkpoint["metadata"]
        facts = {
            "next": list(checkpoint["next"]),
            "checkpoint_id": _checkpoint_id(checkpoint["config"]),
            "parent_checkpoint_id": _checkpoint_id(checkpoint["parent_config"]),
            "source": metadata.get("source"),
            "step": metadata.get("step"),
        }
        self._publish(namespace, values, {name: value for name, value in facts.items() if value is not None})

    def _publish(self, namespace: str, values: Any, facts: Mapping[str, Any]) -> None:
        hub = self._hub
        try:
            encoded = hub.publisher.encode(values)
            small = len(encoded) <= hub.settings.runs.state_bytes
            data = {**({"values": orjson.Fragment(encoded)} if small else {}), **facts}
            hub.publish(self._execution_id, "state", data, scope=Scope(namespace=namespace or None), missing="drop")
        except StreamingError as error:
            hub.publisher.note_refused(self._execution_id, "state", error)


def _checkpoint_id(config: Mapping[str, Any] | None) -> str | None:
    return None if config is None else config.get("configurable", {}).get("checkpoint_id")
