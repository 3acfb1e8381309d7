"""What readers may ask of a run: that it be cancelled, and that a prompt of it be answered."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from lg_streaming.errors import HubClosedError, PromptError
from lg_streaming.hub.callbacks import CallbackRunner, Handlers
from lg_streaming.hub.producers import Producers
from lg_streaming.publisher import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.codec import Redact
    from lg_streaming.hub.callbacks import CancelHandler, ResponseHandler
    from lg_streaming.hub.execution import Execution
    from lg_streaming.log.base import EventLog
    from lg_streaming.settings import StreamingSettings

__all__ = ["Control"]

logger: logging.Logger = logging.getLogger(__name__)

Handler = TypeVar("Handler")


class Control(Producers):
    """Everything that is asked of runs: see `StreamHub`, which adds the readers.

    Runs, handlers and open prompts live in the process that runs the graph. In another process `cancel` finds nothing
    running and `respond` no prompt, even if both read the same log: send such requests to the process of the run.
    """

    def __init__(
        self,
        settings: StreamingSettings,
        log: EventLog,
        redact: Redact | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(settings, log, redact, clock, monotonic)
        self._handler_calls = CallbackRunner()

    # --- cancelling ---------------------------------------------------------------------------------------

    async def cancel(self, execution_id: str, reason: str | None = None) -> bool:
        """Cancels the open run; returns whether one was open.

        Where nobody handles it (see `on_cancel`; an `execution(...)` block does while it lasts), the run ends at once
        with `workflow_cancelled`, whose data has the reason, and this returns when the log has it. Otherwise the
        handlers are called, once for each run, and the run ends by its own outcome; when it has not ended after
        `limits.cancel_grace` seconds, it ends as cancelled anyway, and what it still publishes is dropped.

        Args:
            execution_id: The execution.
            reason: Told to the handlers and to readers.
        """
        execution = self._executions.get(execution_id)
        if execution is None or not self._cancel(execution, reason):
            return False
        if not execution.running:
            await self.flush()
        return True

    def _cancel(self, execution: Execution, reason: str | None) -> bool:
        """See `cancel`; whether a run was open."""
        with execution.lock:
            run_id, asked_before = execution.run_id, execution.cancelling
            if run_id is None:
                return False
            handlers = tuple(execution.handlers.cancel.values()) if execution.handlers is not None else ()
            execution.cancelling, execution.cancel_reason = True, reason
        if not handlers:
            cancelled = RunOutcome("workflow_cancelled", {"reason": reason} if reason else {})
            self._end(execution.execution_id, cancelled, run_id)
        elif not asked_before:
            grace = self.settings.limits.cancel_grace
            asyncio.get_running_loop().call_later(grace, self._end_unheeding, execution, run_id)
            self._handler_calls.make(handlers, execution.execution_id, reason)
        return True

    async def _cancel_all(self, reason: str) -> None:
        """Cancels all open runs; those that handle it have `limits.cancel_grace` seconds, all at the same time.

        No run begins any more. A run that cannot be ended holds up none of the others.
        """
        with self._lock:
            self._stopping = True
        for execution in list(self._open_runs.values()):
            try:
                self._cancel(execution, reason)
            except Exception:
                logger.exception("execution %r could not be cancelled", execution.execution_id)
        await self._ends.until(lambda: self._running == 0, self.settings.limits.cancel_grace)
        for execution in list(self._open_runs.values()):
            try:
                self._end_unheeding(execution, execution.run_id)
            except Exception:
                logger.exception("execution %r could not be ended", execution.execution_id)

    def _end_unheeding(self, execution: Execution, run_id: str | None) -> None:
        """Ends a run that was asked to end and has not."""
        if run_id is None or execution.run_id != run_id or self._closed:
            return
        self.lifecycle.flush_execution(execution.execution_id)  # what was said before the end is not lost with it
        reason = execution.cancel_reason
        cancelled = RunOutcome("workflow_cancelled", {"reason": reason} if reason else {})
        if self._conclude(execution, run_id, cancelled):
            self.lifecycle.close_execution(execution.execution_id)

    def on_cancel(self, execution_id: str, handler: CancelHandler) -> Callable[[], None]:
        """Has `handler(reason)` called when a run of the execution shall be cancelled; returns what undoes that.

        The handler makes the run stop, soon; it is called on the event loop that cancels, at most once for each run,
        and must not block. It may be a coroutine function. What it raises is logged. It stays until it is undone, or
        until the hub forgets the execution (`retention.ttl` seconds after its last update).

        Raises:
            BadRequestError: The id cannot name an execution.
        """
        return _added(self._execution(execution_id), lambda handlers: handlers.cancel, handler)

    # --- answers of humans --------------------------------------------------------------------------------

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """Answers a prompt of the open run: a `human_prompt` update with this `prompt_id` in its data.

        The first answer wins: it is published as `human_response` `{prompt_id, response}`, about the same node, and
        given to the handlers of `on_response`. Returns when the log has it. It resumes no graph by itself. A run
        keeps its newest 1,000 open prompts, until it ends.

        Raises:
            PromptError: There is no such prompt, it was answered, or its run is over.
            UpdateTooLargeError: The answer is over `limits.update_bytes`; the prompt stays open.
            HubClosedError: The hub was closed.
        """
        if self._closed:
            raise HubClosedError
        execution = self._executions.get(execution_id)
        if execution is None:
            raise PromptError(execution_id=execution_id)
        scope = execution.prompts.get(prompt_id)
        if scope is None:
            raise PromptError(execution_id=execution_id)
        answer = {"prompt_id": prompt_id, "response": response}
        drafts = self._drafts.of(execution, "human_response", answer, scope, None, refuses=True)
        with execution.lock:
            if execution.prompts.get(prompt_id) is not scope:  # another answer came first
                raise PromptError(execution_id=execution_id)
            del execution.prompts[prompt_id]
            self._appender.append(execution, drafts)
            handlers = tuple(execution.handlers.response.values()) if execution.handlers is not None else ()
        self._handler_calls.make(handlers, execution_id, prompt_id, response)
        await self.flush()

    def on_response(self, execution_id: str, handler: ResponseHandler) -> Callable[[], None]:
        """Has `handler(prompt_id, response)` called when a prompt of the execution is answered; like `on_cancel`."""
        return _added(self._execution(execution_id), lambda handlers: handlers.response, handler)


def _added(
    execution: Execution, of: Callable[[Handlers], dict[object, Handler]], handler: Handler
) -> Callable[[], None]:
    key = object()
    with execution.lock:
        if execution.handlers is None:
            execution.handlers = Handlers()
        known = of(execution.handlers)
        known[key] = handler

    def undo() -> None:
        with execution.lock:
            known.pop(key, None)

    return undo
