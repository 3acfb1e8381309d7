"""Publish the updates of one recorded run into an open run of a hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.events import FINAL_TYPES, Scope, StreamUpdate
from lg_streaming.publisher import RunOutcome
from lg_streaming.testing.replaying.asked import recorded_prompt
from lg_streaming.testing.replaying.reading import items, members

if TYPE_CHECKING:
    from lg_streaming.hub import StreamHub
    from lg_streaming.testing.replaying.ids import RenewedIds
    from lg_streaming.testing.replaying.pace import Pace

__all__ = ["RunPlayer"]

_BURST: Final = 256
"""Updates after which other tasks, and a log that may block, get their turn."""
_AT_WORK: Final = frozenset(
    {
        *("llm_start", "node_cached", "node_start", "thinking", "token", "tool_args", "tool_start"),
        *("workflow_complete", "workflow_error"),
    }
)
"""Types that a run does not publish while it waits for a human: a recording may lack the status ``resumed``."""

Change = Callable[[StreamUpdate, Any], object]
"""``change(update, data)`` returns the data of an update as it is published; None drops the update."""


class RunPlayer:
    """Player of one recorded run in a run that is open already, and has participants.

    Types, data, scopes and priorities are those of the recording. Positions and times are the log's, and the run has
    its own id. A prompt can be answered as that of a real run: the first answer closes it, that of a reader or the
    recorded one. It then goes on after the recorded answer, at once if a reader was faster.

    Args:
        hub: The hub.
        execution_id: The execution.
        run_id: The open run.
        pace: The times of the updates.
        ids: New ids of messages and tool calls.
        pause_at_prompts: True waits for an answer of a reader at each prompt, without a limit.
        change: Changes the data of updates.
    """

    def __init__(
        self,
        hub: StreamHub,
        execution_id: str,
        run_id: str,
        *,
        pace: Pace,
        ids: RenewedIds,
        pause_at_prompts: bool = False,
        change: Change | None = None,
    ) -> None:
        self._hub = hub
        self._execution_id = execution_id
        self._run_id = run_id
        self._pace = pace
        self._ids = ids
        self._pauses = pause_at_prompts
        self._change = change
        self._is_waiting = False  # for a human, with the state `interrupted`
        self._asked: list[StreamUpdate] = []  # prompts that belong to the interrupt that follows
        self._open: list[str] = []  # prompts that the recording has not answered so far
        self._answered = asyncio.Event()
        execution = hub.runs.registry.executions[execution_id]
        self._participants = execution.participants  # of a run that `streaming.runs` has started, the graph too
        self._scopes: tuple[Scope, Scope] | None = None

    async def play(self, updates: AsyncIterable[StreamUpdate]) -> StreamUpdate | None:
        """Publish the updates, and return the final one when it is due; None if the recording was cut off before.

        Neither the start of the run nor its final update is published.

        Raises:
            asyncio.CancelledError: If the run was ended by another part of the program.
        """
        stop_listening = self._hub.on_response(self._execution_id, lambda _prompt, _response: self._answered.set())
        try:
            number = 0
            async for update, following in _with_next(updates):
                number += 1
                if update.type in FINAL_TYPES:
                    await self._wait_until_due(update)
                    if self._is_waiting and update.type in _AT_WORK:
                        self._resume()
                    return update
                if update.type == "workflow_start":
                    self._pace.set_now(update.metadata.timestamp)
                else:
                    await self._step(update, following)
                if number % _BURST == 0:
                    await self._hub.writer.flush()
                    await asyncio.sleep(0)
        finally:
            stop_listening()
        return None

    async def _step(self, update: StreamUpdate, following: StreamUpdate | None) -> None:
        match update.type:
            case "human_prompt":
                await self._pace.wait_for(update.metadata.timestamp)
                if following is not None and following.type in {"human_prompt", "workflow_interrupted"}:
                    self._asked.append(update)
                else:
                    self._ask(update)
            case "workflow_interrupted":
                await self._pace.wait_for(update.metadata.timestamp)
                self._interrupt(update)
            case "human_response":
                await self._respond(update)
            case "status" if self._is_waiting and members(update.data).get("status") == "resumed":
                await self._wait_until_due(update)
                self._resume()
            case _:
                await self._pace.wait_for(update.metadata.timestamp)
                if self._is_waiting and update.type in _AT_WORK:
                    self._resume()
                self._publish(update)

    def _publish(self, update: StreamUpdate) -> None:
        data = self._ids.data(update.data)
        if self._change is not None:
            data = self._change(update, data)
            if data is None and update.data is not None:
                return
        self._hub.publish(
            self._execution_id,
            update.type,
            data,
            scope=self._scope(update),
            priority=update.metadata.priority,
            large="shorten",
            missing="drop",
        )

    def _scope(self, update: StreamUpdate) -> Scope:
        """Return the scope of an update in the open run. Tokens share the one before, with its encoded form."""
        recorded = update.metadata.scope
        if self._scopes is None or self._scopes[0] != recorded:
            self._scopes = (recorded, self._ids.scope(recorded).derive(run_id=self._run_id))
        return self._scopes[1]

    # --- people ---------------------------------------------------------------------------------------------

    def _ask(self, update: StreamUpdate) -> None:
        """Publish a prompt for which no graph waits."""
        prompt_id = members(update.data).get("prompt_id")
        if isinstance(prompt_id, str):
            self._open.append(prompt_id)
        self._publish(update)

    def _interrupt(self, update: StreamUpdate) -> None:
        """Publish the prompts of an interrupted run, and that it waits."""
        data = dict(members(self._ids.data(update.data)))
        asked = {members(each.data).get("prompt_id"): each for each in self._asked}
        self._asked = []
        shown = items(data.pop("prompts", ())) or [each.data for each in asked.values()]
        prompts = [
            recorded_prompt(
                self._ids.data(each),
                self._scope(asked.get(each.get("prompt_id"), update)),
                expires_in=None if self._pauses else lambda at: (at - update.timestamp.timestamp()) / self._pace.speed,
            )
            for each in map(members, shown)
            if isinstance(each.get("prompt_id"), str)
        ]
        self._open += [each.prompt_id for each in prompts]
        outcome = RunOutcome("workflow_interrupted", data)
        for _ in range(self._participants):  # the last one to leave publishes it
            self._hub.runs.leave_run(self._execution_id, self._run_id, outcome, prompts=prompts)
        self._is_waiting = True

    async def _respond(self, update: StreamUpdate) -> None:
        """Wait for an answer until the recorded one is due, and publish that one if there is no other."""
        prompt_id = members(update.data).get("prompt_id")
        was_asked = prompt_id in self._open
        if isinstance(prompt_id, str) and was_asked:
            self._open.remove(prompt_id)
            if await self._is_answered([prompt_id], update):
                self._pace.set_now(update.metadata.timestamp)
                return
        else:
            await self._pace.wait_for(update.metadata.timestamp)
        self._publish(update)

    async def _wait_until_due(self, update: StreamUpdate) -> None:
        """Wait until an update is due that ends a wait for people, or until they have answered."""
        waiting, self._open = self._open, []
        if not waiting:
            await self._pace.wait_for(update.metadata.timestamp)
        elif await self._is_answered(waiting, update):
            self._pace.set_now(update.metadata.timestamp)

    async def _is_answered(self, prompt_ids: Iterable[str], update: StreamUpdate) -> bool:
        """Wait until readers have answered all prompts, or until an update is due; return whether they have."""
        due = None if self._pauses else self._pace.due(update.metadata.timestamp)
        is_open = self._hub.prompts.is_open
        for prompt_id in prompt_ids:
            while is_open(self._execution_id, prompt_id):
                self._answered.clear()
                try:
                    async with asyncio.timeout_at(due):
                        await self._answered.wait()
                except TimeoutError:
                    return False
        return True

    def _resume(self) -> None:
        """Join the run again, which publishes that it has resumed."""
        self._is_waiting = False
        if self._hub.runs.current_run_id(self._execution_id) != self._run_id:
            raise asyncio.CancelledError
        for _ in range(self._participants):
            self._hub.runs.join_run(self._execution_id)


async def _with_next(
    updates: AsyncIterable[StreamUpdate],
) -> AsyncGenerator[tuple[StreamUpdate, StreamUpdate | None]]:
    previous: StreamUpdate | None = None
    async for update in updates:
        if previous is not None:
            yield previous, update
        previous = update
    if previous is not None:
        yield previous, None
