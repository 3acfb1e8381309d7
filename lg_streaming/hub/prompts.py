"""Answer the prompts of runs."""

from __future__ import annotations

import functools
import inspect
import logging
from typing import TYPE_CHECKING, Any

from lg_streaming.errors import BadRequestError, PromptError, StreamingError
from lg_streaming.eventloop import running_loop
from lg_streaming.hub.callbacks import RegisteredHandler, call_in_thread
from lg_streaming.prompts import check_answer
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.hub.callbacks import AnswersHandler, CallbackRunner, ResponseHandler
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.writer import UpdateWriter
    from lg_streaming.prompts import Prompt

__all__ = ["PromptManager"]

logger: logging.Logger = logging.getLogger(__name__)


class PromptManager:
    """Manager of open prompts: it checks an answer, publishes it and calls the program's handlers.

    A run may wait at several prompts. When the last one has its answer, the handlers of `on_answers` get all of them.

    Args:
        registry: The executions, with their open prompts.
        writer: Appends the responses.
        callbacks: Calls the handlers.
    """

    def __init__(self, registry: ExecutionRegistry, writer: UpdateWriter, callbacks: CallbackRunner) -> None:
        self._registry = registry
        self._writer = writer
        self._callbacks = callbacks
        self._warned = False
        self.resume: AnswersHandler | None = None
        """Called with the answers of a run that has no handler of `on_answers`."""

    def is_open(self, execution_id: str, prompt_id: str) -> bool:
        """Return whether the prompt waits for an answer in this process."""
        execution = self._registry.executions.get(execution_id)
        return execution is not None and prompt_id in execution.prompts

    # --- answers --------------------------------------------------------------------------------------------

    async def respond(
        self, execution_id: str, prompt_id: str, response: object, *, responder: str | None = None
    ) -> None:
        """Answer a prompt that this process has published. See `StreamHub.respond`."""
        self.answer(execution_id, prompt_id, response, responder=responder)
        await self._writer.flush()

    def answer(self, execution_id: str, prompt_id: str, response: object, *, responder: str | None = None) -> None:
        """Publish an answer, like `respond`, on any thread. The application's `redact` may be called."""
        self._registry.ensure_open()
        execution = self._registry.executions.get(execution_id)
        prompt = execution.prompts.get(prompt_id) if execution is not None else None
        if execution is None or prompt is None:
            raise PromptError(execution_id=execution_id)
        try:
            answer = check_answer(prompt, response)
        except BadRequestError as error:
            error.execution_id = execution_id
            raise
        self._accept(execution, prompt, answer, {"response": answer, "responded_by": responder})

    def _accept(self, execution: Execution, prompt: Prompt, answer: object, data: Mapping[str, Any]) -> None:
        """Publish the answer to a prompt, and call the handlers.

        Raises:
            PromptError: If the prompt has an answer, or its run has resumed or ended.
        """
        execution_id, prompt_id = execution.execution_id, prompt.prompt_id
        shown = {"prompt_id": prompt_id, **data}
        if shown.get("responded_by", "") is None:
            del shown["responded_by"]
        drafts = self._writer.encoder.encode(
            execution, "human_response", shown, prompt.scope, None, large="refuse", by_hub=True
        )
        answers: dict[str, Any] | None = None
        with execution.lock:
            if execution.prompts.get(prompt_id) is not prompt:  # another response came first
                raise PromptError(execution_id=execution_id)
            execution.close_prompt(prompt_id)
            self._writer.append(execution, drafts)
            handlers = tuple(execution.handlers.response.values()) if execution.handlers is not None else ()
            if prompt.pauses:
                execution.answers[prompt_id] = answer
                if not any(each.pauses for each in execution.prompts.values()):
                    answers, execution.answers = execution.answers, {}
            resuming = self._resuming(execution)
        self._callbacks.call(handlers, execution_id, prompt_id, answer)
        if answers is not None:
            self._callbacks.call(resuming, execution_id, execution_id, answers)
            if not resuming and not handlers:
                self._warn_of_no_handler(execution_id)

    def _warn_of_no_handler(self, execution_id: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "the answers to execution %r resume nothing: start its graph with streaming.runs, or pass "
                "StreamingModule(resume=…), which gets the answers; further executions are not logged",
                execution_id,
            )

    def _resuming(self, execution: Execution) -> tuple[RegisteredHandler, ...]:
        own = tuple(execution.handlers.answers.values()) if execution.handlers is not None else ()
        if own or self.resume is None:
            return own
        return (RegisteredHandler(functools.partial(_resume, self.resume), execution.answers_loop),)

    def on_response(self, execution_id: str, handler: ResponseHandler) -> Callable[[], None]:
        """Call `handler(prompt_id, response)` for each response; return a function that removes it."""
        execution = self._registry.get_or_create(execution_id)
        return execution.add_handler(lambda handlers: handlers.response, RegisteredHandler.here(handler))

    def on_answers(self, execution_id: str, handler: AnswersHandler) -> Callable[[], None]:
        """Call `handler(execution_id, answers)` when all prompts of an interrupted run have answers.

        The answers are a mapping by prompt, which fits ``Command(resume=answers)``. The returned function removes the
        handler.
        """
        execution = self._registry.get_or_create(execution_id)
        return execution.add_handler(lambda handlers: handlers.answers, RegisteredHandler.here(handler))

    # --- prompts of interrupts ------------------------------------------------------------------------------

    def watch(self, execution: Execution, prompts: Sequence[Prompt]) -> None:
        """Start the timeouts of prompts that a run now waits for."""
        with execution.lock:
            execution.answers_loop = running_loop()
            for prompt in prompts:
                if prompt.expires_at is not None and execution.prompts.get(prompt.prompt_id) is prompt:
                    left = max(0.0, prompt.expires_at - self._registry.clock())
                    execution.prompt_timers[prompt.prompt_id] = self._start_timer(execution, prompt, left)

    def _start_timer(self, execution: Execution, prompt: Prompt, left: float) -> Callable[[], None]:
        """Answer the prompt in ``left`` seconds; return a function that prevents it."""
        expire = RegisteredHandler(functools.partial(self._expire, execution, prompt), execution.answers_loop)

        def on_time(_scheduler: object, _state: object) -> None:
            self._callbacks.call((expire,), execution.execution_id)

        return current_timer().schedule_relative(left, on_time).dispose

    async def _expire(self, execution: Execution, prompt: Prompt) -> None:
        """Answer a prompt with its default, or with the mark of a timeout."""
        data = {"response": prompt.data.get("default"), "timed_out": True}
        try:
            self._accept(execution, prompt, prompt.answer_after_timeout, data)
            await self._writer.flush()
        except PromptError:
            pass  # an answer came first
        except StreamingError as error:
            logger.warning("the timeout of a prompt of execution %r is lost: %s", execution.execution_id, error)


async def _resume(handler: AnswersHandler, execution_id: str, answers: Mapping[str, Any]) -> None:
    """Call the program's handler; a sync one, which may run the whole graph, in a thread."""
    if inspect.iscoroutinefunction(handler):
        await handler(execution_id, answers)
        return
    result = await call_in_thread(lambda: handler(execution_id, answers))
    if inspect.isawaitable(result):
        await result
