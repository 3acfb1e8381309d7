"""Choice of the demo's model."""

from __future__ import annotations

import importlib

from langchain_core.language_models import BaseChatModel

from lg_streaming.demo.offline import offline_model


class ModelNotAvailableError(Exception):
    """The model of ``--model`` is not available; the message names a remedy."""


def make_model(name: str | None, *, speed: float = 1.0) -> BaseChatModel:
    """Return the model `name`, as ``provider:name``, or the offline model if `name` is None.

    Args:
        name: The model.
        speed: Pace of the offline model; 2 is twice as fast. Other models ignore it.

    Raises:
        ModelNotAvailableError: If a package is missing, the provider is unknown, or it refuses its settings.
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
