"""Answer the prompts of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.errors import PromptError
from lg_streaming.hub.callbacks import RegisteredHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.hub.callbacks import CallbackRunner, ResponseHandler
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.writer import UpdateWriter

__all__ = ["PromptManager"]


class PromptManager:
    """Manager of open prompts: it publishes the response to a prompt and calls the program's handlers.

    Args:
        registry: The executions, with their open prompts.
        writer: Appends the responses.
        callbacks: Calls the handlers.
    """

    def __init__(self, registry: ExecutionRegistry, writer: UpdateWriter, callbacks: CallbackRunner) -> None:
        self._registry = registry
        self._writer = writer
        self._callbacks = callbacks

    def is_open(self, execution_id: str, prompt_id: str) -> bool:
        """Return whether the prompt waits for an answer in this process."""
        execution = self._registry.executions.get(execution_id)
        return execution is not None and prompt_id in execution.prompts

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """Answer a prompt that this process has published. See `StreamHub.respond`."""
        self.answer(execution_id, prompt_id, response)
        await self._writer.flush()

    def answer(self, execution_id: str, prompt_id: str, response: object) -> None:
        """Publish an answer, like `respond`, on any thread. The application's `redact` may be called."""
        self._registry.ensure_open()
        execution = self._registry.executions.get(execution_id)
        scope = execution.prompts.get(prompt_id) if execution is not None else None
        if execution is None or scope is None:
            raise PromptError(execution_id=execution_id)
        data = {"prompt_id": prompt_id, "response": response}
        drafts = self._writer.encoder.encode(
            execution, "human_response", data, scope, None, large="refuse", by_hub=True
        )
        with execution.lock:
            if execution.prompts.get(prompt_id) is not scope:  # another response came first
                raise PromptError(execution_id=execution_id)
            del execution.prompts[prompt_id]
            self._writer.append(execution, drafts)
            handlers = tuple(execution.handlers.response.values()) if execution.handlers is not None else ()
        self._callbacks.call(handlers, execution_id, prompt_id, response)

    def on_response(self, execution_id: str, handler: ResponseHandler) -> Callable[[], None]:
        """Call `handler(prompt_id, response)` for each response; return a function that removes it."""
        execution = self._registry.get_or_create(execution_id)
        return execution.add_handler(lambda handlers: handlers.response, RegisteredHandler.here(handler))
