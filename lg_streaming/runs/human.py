"""People in runs: prompts from the state of a paused graph, and the wait for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from langgraph.types import StateSnapshot

from lg_streaming.prompts import Prompt, breakpoint_prompt, prompt_from_interrupt

if TYPE_CHECKING:
    from langgraph.types import Interrupt

    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.registry import AnyGraph

__all__ = ["Prompt", "WaitForAnswers", "prompts_of", "prompts_of_state"]


def prompts_of_state(graph: AnyGraph, snapshot: StateSnapshot, run_id: str) -> list[Prompt]:
    """Return the prompts that a thread waits for: one for each interrupt, or one for a breakpoint; none at its end.

    Args:
        graph: The graph, for the arguments of its tools.
        snapshot: The thread's newest state, of ``graph.aget_state(config, subgraphs=True)``.
        run_id: The run.
    """
    return prompts_of(snapshot.interrupts, snapshot, run_id, tools=_tools_of(graph))


def prompts_of(
    interrupts: Sequence[Interrupt],
    snapshot: StateSnapshot,
    run_id: str,
    *,
    tools: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Prompt]:
    """Return a prompt for each interrupt of a paused graph, or one for its breakpoint; none if it has ended."""
    places = _places_of(snapshot)
    prompts = {
        each.id: prompt_from_interrupt(
            each.id,
            each.value,
            run_id=run_id,
            namespace=places.get(each.id),
            schema=getattr(each, "response_schema", None),
            tools=tools,
        )
        for each in interrupts
    }
    if prompts or not snapshot.next:
        return list(prompts.values())
    return [breakpoint_prompt(snapshot.config.get("configurable", {}).get("checkpoint_id", ""), snapshot.next, run_id)]


def _places_of(snapshot: StateSnapshot, around: str = "") -> dict[str, str]:
    """Return the checkpoint namespaces of the nodes that wait, by interrupt: of the innermost subgraph that is kept."""
    found: dict[str, str] = {}
    for task in snapshot.tasks:
        namespace = f"{around}{task.name}:{task.id}"
        found |= dict.fromkeys((each.id for each in task.interrupts), namespace)
        if isinstance(task.state, StateSnapshot):
            found |= _places_of(task.state, f"{namespace}|")
    return found


def _tools_of(graph: AnyGraph) -> dict[str, dict[str, Any]] | None:
    """Return the JSON Schemas of the arguments of a graph's tools, by name; None without a node of tools."""
    graphs: list[Any] = [graph, *dict(cast("Any", graph.get_subgraphs(recurse=True))).values()]
    found: dict[str, dict[str, Any]] = {}
    for node in [node for each in graphs for node in each.nodes.values()]:
        tools = getattr(getattr(node, "bound", None), "tools_by_name", None)
        if isinstance(tools, Mapping):
            found |= {name: _schema_of(tool) for name, tool in cast("Mapping[str, Any]", tools).items()}
    return found or None


def _schema_of(tool: Any) -> dict[str, Any]:
    try:
        schema = tool.tool_call_schema
        return cast("dict[str, Any]", schema) if isinstance(schema, dict) else schema.model_json_schema()
    except Exception:  # noqa: BLE001 (arguments that JSON Schema cannot describe: the tool checks them)
        return {}


class WaitForAnswers:
    """Wait of a paused run for the answers to all its prompts, in any order, on the running event loop.

    LangGraph can resume one interrupt alone. It would run the other waiting nodes again up to their interrupts, and
    repeat what they do before. The run would be interrupted again after each answer.

    Args:
        hub: The hub.
        execution_id: The execution.
    """

    def __init__(self, hub: StreamHub, execution_id: str) -> None:
        self._answers: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._stop_listening = hub.prompts.on_answers(execution_id, self._take)

    def _take(self, _execution_id: str, answers: Mapping[str, Any]) -> None:
        if not self._answers.done():
            self._answers.set_result(dict(answers))

    async def wait(self) -> dict[str, Any]:
        """Return the answers, by prompt: those of interrupts fit ``Command(resume=…)``."""
        return await self._answers

    def close(self) -> None:
        """Take no more answers."""
        self._stop_listening()
        self._answers.cancel()
