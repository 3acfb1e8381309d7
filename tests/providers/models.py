"""The real packages, pointed at the stand-ins; and the ways to call a model inside a node."""

import functools
import importlib
import operator
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, message_chunk_to_message
from pydantic import SecretStr

from tests.providers.anthropic import Messages
from tests.providers.mistral import MistralChat
from tests.providers.openai import ChatCompletions, Responses
from tests.providers.server import Dialect


@dataclass(frozen=True, slots=True)
class Package:
    """A provider's package in one of its forms."""

    name: str
    dialect: Dialect
    make: Callable[..., BaseChatModel]
    """Takes the stand-in's address and the model's own options."""


KEY = SecretStr("none")


def import_packages() -> None:
    """Import the packages, which takes seconds: before a test, in the processes that run such a test alone."""
    for name in ("langchain_anthropic", "langchain_mistralai", "langchain_openai"):
        importlib.import_module(name)


def _chat(url: str, **options: Any) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    given: dict[str, Any] = {"stream_usage": True, "max_retries": 0, **options}
    return ChatOpenAI(model="gpt-stand-in", base_url=f"{url}/v1", api_key=KEY, **given)


def _responses(version: str, url: str, **options: Any) -> BaseChatModel:
    return _chat(url, use_responses_api=True, output_version=version, **options)


def _anthropic(version: str, url: str, **options: Any) -> BaseChatModel:
    from langchain_anthropic import ChatAnthropic

    given: dict[str, Any] = {"max_retries": 0, "output_version": version, **options}
    return ChatAnthropic(model_name="claude-stand-in", base_url=url, api_key=KEY, **given)


def _mistral(version: str, url: str, **options: Any) -> BaseChatModel:
    from langchain_mistralai import ChatMistralAI

    given: dict[str, Any] = {"max_retries": 0, "output_version": version, **options}
    return ChatMistralAI(model_name="mistral-stand-in", base_url=url, api_key=KEY, **given)


CHAT = Package("chat", ChatCompletions(), _chat)
RESPONSES = {
    version: Package(f"responses {version}", Responses(), functools.partial(_responses, version))
    for version in ("v0", "responses/v1", "v1")
}
ANTHROPIC = {
    version: Package(f"anthropic {version}", Messages(), functools.partial(_anthropic, version))
    for version in ("v0", "v1")
}
MISTRAL = {
    version: Package(f"mistral {version}", MistralChat(), functools.partial(_mistral, version))
    for version in ("v0", "v1")
}
PACKAGES = (CHAT, *RESPONSES.values(), *ANTHROPIC.values(), *MISTRAL.values())
THINKING = (*RESPONSES.values(), *ANTHROPIC.values(), *MISTRAL.values())
"""Packages that pass reasoning on."""

Asks = Callable[[Any], list[AIMessage] | Awaitable[list[AIMessage]]]


def _finished(chunks: list[Any]) -> list[AIMessage]:
    return [message_chunk_to_message(functools.reduce(operator.add, chunks))]  # pyright: ignore[reportReturnType]


def _invoke(model: Any) -> list[AIMessage]:
    return [model.invoke("go")]


def _stream(model: Any) -> list[AIMessage]:
    return _finished(list(model.stream("go")))


def _batch(model: Any) -> list[AIMessage]:
    return model.batch(["go", "go"])


async def _ainvoke(model: Any) -> list[AIMessage]:
    return [await model.ainvoke("go")]


async def _astream(model: Any) -> list[AIMessage]:
    return _finished([chunk async for chunk in model.astream("go")])


async def _events(model: Any) -> list[AIMessage]:
    stream = await model.astream_events("go", version="v3")
    return [await stream.output]


async def _abatch(model: Any) -> list[AIMessage]:
    return await model.abatch(["go", "go"])


WAYS: dict[str, Asks] = {
    "invoke": _invoke,
    "ainvoke": _ainvoke,
    "stream": _stream,
    "astream": _astream,
    "batch": _batch,
    "abatch": _abatch,
    "events": _events,
}
