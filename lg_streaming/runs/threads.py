"""Threads of registered graphs, as JSON values: states, history, updates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.types import Interrupt, StateSnapshot

from lg_streaming.errors import TransitionError
from lg_streaming.runs.commands import GraphThread, check_checkpoint
from lg_streaming.runs.registry import checkpointer_of
from lg_streaming.runs.rollback import checkpoint_before

if TYPE_CHECKING:
    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry

__all__ = ["RemoteThreads"]


class RemoteThreads:
    """Reader of the threads of registered graphs. It does not decide who may.

    The application's ``redact`` removes secrets. A state is a JSON object as LangGraph's server has it: ``values``,
    ``next``, ``tasks``, ``metadata``, ``created_at``, ``checkpoint``, ``parent_checkpoint``, ``interrupts``.

    Args:
        hub: The hub, which converts values to JSON.
        graphs: The graphs.
    """

    def __init__(self, hub: StreamHub, graphs: GraphRegistry) -> None:
        self._hub = hub
        self._graphs = graphs

    def _thread(self, graph: AnyGraph | str, thread_id: str) -> GraphThread:
        return GraphThread(self._graphs.find(graph)[1], thread_id)

    async def state(
        self,
        graph: AnyGraph | str,
        thread_id: str,
        checkpoint_id: str | None = None,
        *,
        subgraphs: bool = False,
        namespace: str = "",
        redacted: bool = True,
    ) -> dict[str, Any] | None:
        """Return the state of a thread at a checkpoint, by default the newest; None if the thread has none.

        Args:
            graph: The graph, or its name.
            thread_id: The thread.
            checkpoint_id: The checkpoint.
            subgraphs: Whether tasks have the states of the subgraphs that wait.
            namespace: Checkpoint namespace of a subgraph, whose state is returned.
            redacted: Whether the application's ``redact`` removes secrets. Without it the state is for no caller.

        Raises:
            GraphNotFoundError: If the graph is not registered.
            BadRequestError: If the thread has no such checkpoint.
            TransitionError: If a checkpoint is named, and the graph has no checkpointer.
        """
        thread = self._thread(graph, thread_id)
        if checkpoint_id is not None and not namespace:
            await check_checkpoint(thread, checkpoint_id)
        if checkpointer_of(thread.graph) is None:
            return None
        config = _below(thread.config_at(checkpoint_id), namespace)
        snapshot = await thread.graph.aget_state(config, subgraphs=subgraphs)
        return self._to_json(snapshot, redacted=redacted) if snapshot.created_at is not None else None

    async def history(
        self,
        graph: AnyGraph | str,
        thread_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        namespace: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Return the states of a thread, newest first.

        Args:
            graph: The graph, or its name.
            thread_id: The thread.
            limit: Most states; None for no limit.
            before: Checkpoint; only older ones are returned.
            metadata: Values that the metadata of a checkpoint must have.
            namespace: Checkpoint namespace of a subgraph, whose states are returned.

        Raises:
            GraphNotFoundError: If the graph is not registered.
        """
        thread = self._thread(graph, thread_id)
        if checkpointer_of(thread.graph) is None:
            return
        states = thread.graph.aget_state_history(
            _below(thread.config_at(None), namespace),
            filter=dict(metadata) if metadata else None,
            before=None if before is None else thread.config_at(before),
            limit=limit,
        )
        async for snapshot in states:
            yield self._to_json(snapshot)

    async def checkpoint_before(self, graph: str, thread_id: str, message_id: str) -> str | None:
        """Return the newest checkpoint whose state does not have a message, for a run that replaces it.

        For a message of the thread's first input it is the checkpoint before that input. None if no checkpoint without
        the message is kept: the run then has to begin with an empty thread.

        Raises:
            GraphNotFoundError: If the graph is not registered.
        """
        thread = self._thread(graph, thread_id)
        if checkpointer_of(thread.graph) is None:
            return None
        first: str | None = None
        async for snapshot in thread.graph.aget_state_history(thread.config_at(None)):
            has_message = message_id in _message_ids(snapshot.values)
            checkpoint_id = str(snapshot.config.get("configurable", {}).get("checkpoint_id"))
            if snapshot.next == ("__start__",):  # the input waits to be applied
                first = None if has_message else checkpoint_id
            elif not has_message:
                return checkpoint_id
        return first

    def keeps(self, graph: str) -> bool:
        """Return whether a graph has a checkpointer.

        Raises:
            GraphNotFoundError: If the graph is not registered.
        """
        return checkpointer_of(self._graphs[graph]) is not None

    async def open_calls(self, graph: str, thread_id: str) -> list[str]:
        """Return the ids of the tool calls at the end of a thread's messages that have no result."""
        thread = self._thread(graph, thread_id)
        if checkpointer_of(thread.graph) is None:
            return []
        values = (await thread.graph.aget_state(thread.config_at(None))).values
        messages = cast("Mapping[str, Any]", values).get("messages") if isinstance(values, Mapping) else None
        answered: set[str] = set()
        for each in reversed(cast("list[Any]", messages) if isinstance(messages, list) else []):
            if isinstance(each, ToolMessage):
                answered.add(each.tool_call_id)
                continue
            calls = each.tool_calls if isinstance(each, AIMessage) else []
            return [str(call["id"]) for call in calls if call["id"] not in answered]
        return []

    async def message_ids(self, graph: str, thread_id: str) -> list[str]:
        """Return the ids of the messages in the newest state, in order."""
        thread = self._thread(graph, thread_id)
        if checkpointer_of(thread.graph) is None:
            return []
        return _message_ids((await thread.graph.aget_state(thread.config_at(None))).values)

    async def delete(self, thread_id: str) -> None:
        """Delete the checkpoints of a thread, of all graphs."""
        found = [each for each in map(checkpointer_of, self._graphs.values()) if each is not None]
        for saver in {id(each): each for each in found}.values():
            await saver.adelete_thread(thread_id)

    async def take_back(self, graph: str, thread_id: str, run_id: str) -> None:
        """Make the state before a run the thread's newest one.

        Raises:
            GraphNotFoundError: If the graph is not registered.
            TransitionError: If the graph has no checkpointer.
        """
        thread = self._thread(graph, thread_id)
        saver = checkpointer_of(thread.graph)
        if saver is None:
            raise TransitionError("the graph has no checkpointer, so that no state can be taken back")
        before = await checkpoint_before(saver, thread_id, {run_id})
        if before is None:
            await saver.adelete_thread(thread_id)
        else:
            await thread.graph.aupdate_state(thread.config_at(before), None, "__copy__")

    def _to_json(self, snapshot: StateSnapshot, *, redacted: bool = True) -> dict[str, Any]:
        redact = self._hub.publisher.redact if redacted else _keep
        return cast("dict[str, Any]", orjson.loads(self._hub.publisher.encode(_described(snapshot, redact))))


def _below(config: RunnableConfig, namespace: str) -> RunnableConfig:
    """Return a config for the graph of a checkpoint namespace."""
    if not namespace:
        return config
    return {"configurable": {**config.get("configurable", {}), "checkpoint_ns": namespace}}


def _keep(_type: str, data: object) -> object:
    return data


def _described(snapshot: StateSnapshot, redact: Callable[[str, object], Any]) -> dict[str, Any]:
    """Return a state without secrets: each part is redacted like the update that has it."""

    def part(type: str, name: str, value: object) -> Any:
        shown = redact(type, {name: value})
        return cast("dict[str, Any]", shown).get(name) if isinstance(shown, dict) else None

    def interrupts(found: Iterable[Interrupt]) -> list[dict[str, Any]]:
        return [{"id": each.id, "value": part("human_prompt", "value", each.value)} for each in found]

    return {
        "values": part("state", "values", snapshot.values or {}),
        "next": list(snapshot.next),
        "tasks": [
            {
                "id": task.id,
                "name": task.name,
                "path": list(cast("tuple[Any, ...]", task.path)),
                "error": part("node_error", "error", _error(task.error)),
                "interrupts": interrupts(task.interrupts),
                "checkpoint": None if task.state is None else _checkpoint(_config_of(task.state)),
                "state": _described(task.state, redact) if isinstance(task.state, StateSnapshot) else None,
                "result": None if task.result is None else part("updates", task.name, task.result),
            }
            for task in snapshot.tasks
        ],
        "metadata": snapshot.metadata,
        "created_at": snapshot.created_at,
        "checkpoint": _checkpoint(snapshot.config),
        "parent_checkpoint": None if snapshot.parent_config is None else _checkpoint(snapshot.parent_config),
        "interrupts": interrupts(snapshot.interrupts),
    }


def _error(error: object) -> str | None:
    return error if error is None or isinstance(error, str) else repr(error)  # a saved one is a text already


def _config_of(state: Any) -> Any:
    return state.config if isinstance(state, StateSnapshot) else state


def _checkpoint(config: Any) -> dict[str, Any]:
    values = config.get("configurable", {})
    return {name: values.get(name, "") for name in ("thread_id", "checkpoint_ns", "checkpoint_id")}


def _message_ids(values: Any) -> list[str]:
    fields: list[Any] = list(cast("Mapping[str, Any]", values).values()) if isinstance(values, Mapping) else [values]
    lists = [cast("list[Any]", each) for each in fields if isinstance(each, list)]
    return [str(each.id) for part in lists for each in part if isinstance(each, BaseMessage)]
