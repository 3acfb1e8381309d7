"""The models of the table. Each makes its answers with a script, so that what it is asked is counted."""

from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from typing_extensions import override

from lg_streaming.testing import ScriptedChatModel

Script = Callable[[list[BaseMessage]], AIMessage]


class WholeChatModel(ScriptedChatModel):
    """A model that cannot stream."""

    @override
    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        message = self._next_answer(messages)
        assert isinstance(message, AIMessage)
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": "whole"})

    _agenerate = BaseChatModel._agenerate
    _stream = BaseChatModel._stream
    _astream = BaseChatModel._astream


class SeveralChatModel(ScriptedChatModel):
    """A model that gives several answers to a prompt, and one where it streams: the last."""

    n: int = 2

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"n": self.n}

    @override
    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return {"n": self.n}

    def _answers(self, messages: list[BaseMessage]) -> ChatResult:
        message = self._next_answer(messages)
        assert isinstance(message, AIMessage)
        other = AIMessage("another answer")
        return ChatResult(generations=[ChatGeneration(message=message), ChatGeneration(message=other)])

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._answers(messages)

    @override
    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return self._answers(messages)


def with_usage(script: Script) -> BaseChatModel:
    def answer(messages: list[BaseMessage]) -> AIMessage:
        message = script(messages)
        usage: Any = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
        return message.model_copy(update={"usage_metadata": usage, "response_metadata": {"finish_reason": "stop"}})

    return ScriptedChatModel(answers=answer)


def flaky(script: Script) -> BaseChatModel:
    """Fails in the middle of its first answer."""
    return ScriptedChatModel(answers=script, fail_after=1, failures=1, error=ConnectionError("dropped"))


MODELS: dict[str, Callable[[Script], BaseChatModel]] = {
    "streaming": lambda script: ScriptedChatModel(answers=script),
    "whole": lambda script: WholeChatModel(answers=script),
    "streaming disabled": lambda script: ScriptedChatModel(answers=script, disable_streaming=True),
    "streaming disabled with tools": lambda script: ScriptedChatModel(answers=script, disable_streaming="tool_calling"),
    "usage": with_usage,
    "several answers": lambda script: SeveralChatModel(answers=script),
    "fails once": flaky,
    "fails": lambda script: ScriptedChatModel(answers=script, fail_after=0, error=ConnectionError("refused")),
}


def texts() -> Iterator[str]:
    """Different texts, without end."""
    number = 0
    while True:
        number += 1
        yield f"Answer {number} of some words."
