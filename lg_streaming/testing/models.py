"""A chat model that streams scripted answers without a network."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr, field_validator
from typing_extensions import override

from lg_streaming.testing.chunks import message_chunks
from lg_streaming.testing.tokens import split_tokens

Answer = str | AIMessage
"""The answer of one turn: a text, or a whole message with blocks, tool calls or usage."""

AnswerScript = Callable[[list[BaseMessage]], Answer]
"""A function that makes the answer from the messages of the call; it may raise."""


class ScriptedError(Exception):
    """The default error of a `ScriptedChatModel` that is set to fail."""


class ScriptedChatModel(BaseChatModel):
    """A real chat model that streams scripted answers, token by token, through `_stream` and `_astream`.

    ```python
    model = ScriptedChatModel(answers=["Hello there.", "Goodbye."], delay=0.02)
    model = ScriptedChatModel(answers=lambda messages: messages[-1].text.upper())
    model = ScriptedChatModel(answers=[
        AIMessage("", tool_calls=[{"name": "search", "args": {"query": "rain"}, "id": "call-1"}]),
        AIMessage([{"type": "reasoning", "reasoning": "Rain?"}, {"type": "text", "text": "It rains."}]),
    ])
    ```

    The joined text of the stream is exactly the answer. Tool calls arrive as several `tool_call_chunks`, reasoning and
    thinking blocks as content blocks, and the usage with the last chunk. `bind_tools` changes no answer. All callers of
    an instance share the turns of its list. Many threads and tasks may call it at once.
    """

    answers: Sequence[Answer] | AnswerScript
    """The answers: a list that is used in turn, over and over, or a function of the messages."""

    delay: float = Field(default=0.0, ge=0)
    """Seconds before each token. At 0 an async stream still gives way to other tasks at each token."""

    first_delay: float | None = Field(default=None, ge=0)
    """Seconds before the first token instead of `delay`; None: the same as `delay`."""

    split: Callable[[str], list[str]] = split_tokens
    """A function that splits a text into tokens; the joined pieces must be the text."""

    fail_after: int | None = Field(default=None, ge=0)
    """Raise `error` once this many tokens of an answer (or all it has) went out; None: never fail."""

    failures: int | None = Field(default=None, ge=0)
    """Number of calls that fail before the model works again; None: every call. Needs `fail_after`."""

    error: BaseException = Field(default_factory=lambda: ScriptedError("the model was told to fail"))
    """The error to raise when `fail_after` is reached."""

    _turns: Iterator[int] = PrivateAttr(default_factory=itertools.count)
    _failed: Iterator[int] = PrivateAttr(default_factory=itertools.count)

    @field_validator("answers")
    @classmethod
    def _has_answers(cls, answers: Sequence[Answer] | AnswerScript) -> Sequence[Answer] | AnswerScript:
        if not callable(answers) and not answers:
            raise ValueError("answers needs at least one answer, or a function that makes one")
        return answers

    @property
    @override
    def _llm_type(self) -> str:
        return "scripted-chat-model"

    @override
    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind `tools`, so that they show up in the call; the script decides whether they are used."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for pause, message in self._play(messages):
            if pause:
                time.sleep(pause)
            yield ChatGenerationChunk(message=message)

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for pause, message in self._play(messages):
            await asyncio.sleep(pause)
            yield ChatGenerationChunk(message=message)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop))

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop))

    def _play(self, messages: list[BaseMessage]) -> Iterator[tuple[float, AIMessageChunk]]:
        """Yield each chunk of the next answer with the seconds to wait before it; raise at `fail_after`."""
        answer = self._next_answer(messages)
        fail_after = self._fail_after()
        first = self.delay if self.first_delay is None else self.first_delay
        for number, chunk in enumerate(message_chunks(answer, prompt=messages, split=self.split)):
            if number == fail_after:
                raise self.error
            last = chunk.chunk_position == "last"
            if last and fail_after is not None:
                raise self.error
            yield (first if number == 0 else 0.0 if last else self.delay), chunk

    def _next_answer(self, messages: list[BaseMessage]) -> AIMessage:
        script = self.answers
        answer = script(messages) if callable(script) else script[next(self._turns) % len(script)]
        return AIMessage(answer) if isinstance(answer, str) else answer

    def _fail_after(self) -> int | None:
        """Return the number of tokens after which this call fails; None for a call that succeeds."""
        if self.fail_after is None:
            return None
        if self.failures is not None and next(self._failed) >= self.failures:
            return None
        return self.fail_after
