"""People in runs: prompts from LangGraph's interrupts, and the answers that resume a graph."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.types import Command

from lg_streaming.events import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langgraph.types import Interrupt, StateSnapshot

    from lg_streaming.hub import StreamHub

__all__ = ["Prompt", "WaitForAnswers", "prompts_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Question to a human."""

    prompt_id: str
    """Id of LangGraph's interrupt, or of a breakpoint."""
    data: Mapping[str, Any]
    """Data of its ``human_prompt`` update."""
    scope: Scope = field(default_factory=Scope)
    is_breakpoint: bool = False
    """True for a stop before or after a node, which takes no value."""


def prompts_of(interrupts: Sequence[Interrupt], snapshot: StateSnapshot, run_id: str) -> list[Prompt]:
    """Return a prompt for each interrupt of a paused graph, or one for its breakpoint."""
    tasks = {each.id: task for task in snapshot.tasks for each in task.interrupts}
    prompts: list[Prompt] = []
    for each in interrupts:
        task = tasks.get(each.id)
        scope = Scope(
            run_id=run_id,
            node_id=task.name if task is not None else None,
            namespace=f"{task.name}:{task.id}" if task is not None else None,
        )
        data = {"prompt_id": each.id, "prompt": str(each.value), "type": "input", "value": each.value}
        prompts.append(Prompt(prompt_id=each.id, data=data, scope=scope))
    if not prompts:
        checkpoint = snapshot.config.get("configurable", {}).get("checkpoint_id", "")
        nodes = ", ".join(snapshot.next)
        data = {"prompt_id": f"breakpoint-{checkpoint}", "prompt": f"Continue with {nodes}?", "type": "confirmation"}
        scope = Scope(run_id=run_id, node_id=snapshot.next[0])
        prompts.append(Prompt(prompt_id=data["prompt_id"], data=data, scope=scope, is_breakpoint=True))
    return prompts


class WaitForAnswers:
    """Wait of a paused run for the answers to all its prompts, in any order."""

    def __init__(self, hub: StreamHub, execution_id: str, prompts: Sequence[Prompt]) -> None:
        self._hub = hub
        self._execution_id = execution_id
        self._prompts = {each.prompt_id: each for each in prompts}
        self._answers: dict[str, object] = {}
        self._all = asyncio.Event()
        self._stop_listening: Callable[[], None] | None = None

    def open(self) -> None:
        """Publish the prompts, and take answers from now on."""
        self._stop_listening = self._hub.on_response(self._execution_id, self._take)
        for prompt in self._prompts.values():
            self._hub.publish(self._execution_id, "human_prompt", prompt.data, scope=prompt.scope, missing="drop")

    def _take(self, prompt_id: str, response: object) -> None:
        if prompt_id in self._prompts:
            self._answers[prompt_id] = response
            if len(self._answers) == len(self._prompts):
                self._all.set()

    async def wait(self) -> Command[Any] | None:
        """Return the input that resumes the graph; None after a breakpoint."""
        await self._all.wait()
        answers = {each: answer for each, answer in self._answers.items() if not self._prompts[each].is_breakpoint}
        return Command(resume=answers) if answers else None

    def close(self) -> None:
        """Take no more answers."""
        if self._stop_listening is not None:
            self._stop_listening()
