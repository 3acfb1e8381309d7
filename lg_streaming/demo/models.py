"""Which model the demo talks to."""

from __future__ import annotations

import importlib

from langchain_core.language_models import BaseChatModel

from lg_streaming.demo.offline import offline_model


class ModelNotAvailableError(Exception):
    """The model named by ``--model`` cannot be used here; the message says what to do about it."""


def make_model(name: str | None, *, speed: float = 1.0) -> BaseChatModel:
    """The model called `name` (``provider:name``), or the offline one when `name` is None.

    `speed` sets the pace of the offline model only.

    Raises:
        ModelNotAvailableError: a package is missing, the provider is unknown, or it refuses the settings it found.
    """
    if name is None:
        return offline_model(speed=speed)
    try:
        factory = importlib.import_module("langchain.chat_models").init_chat_model
    except ImportError as error:
        raise ModelNotAvailableError(
            f"--model {name} needs the package langchain: pip install 'lg-streaming[demo]'",
        ) from error
    try:
        return factory(name)
    except Exception as error:
        raise ModelNotAvailableError(f"--model {name} cannot be used: {error}") from error
