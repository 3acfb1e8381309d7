"""A chain as a node: LangGraph makes the chain's steps those of the node, so the chain has no run of its own.

A decorated chain does the same, so that callbacks, events and tracers see the same runs with and without a decorator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables import Runnable, RunnableSequence
from langchain_core.runnables.config import patch_config
from langgraph._internal._runnable import RunnableSeq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig

__all__ = ["ChainSteps", "flatten_chain"]

_FIRST: Final = "seq:step:1"
"""LangChain's tag of what is called as the first step of a sequence, and as a node: it is one step of it."""


def flatten_chain(node: Runnable[Any, Any], config: RunnableConfig | None) -> Runnable[Any, Any] | ChainSteps:
    """Return ``node``; where it is a chain that begins a longer one, or is a node, its steps."""
    if isinstance(node, (RunnableSequence, RunnableSeq)):
        manager = config.get("callbacks") if config is not None else None
        if isinstance(manager, BaseCallbackManager) and _FIRST in manager.tags:
            return ChainSteps(cast("Any", node).steps)
    return node


class ChainSteps:
    """The steps of a chain, called one after another in the run around them.

    Args:
        steps: The steps.
    """

    def __init__(self, steps: Sequence[Runnable[Any, Any]]) -> None:
        self._steps = steps

    def invoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Return what the last step returns; the first gets ``kwargs``."""
        first, *others = self._steps
        result = first.invoke(input, _step_config(1, config), **kwargs)
        for number, step in enumerate(others, 2):
            result = step.invoke(result, _step_config(number, config))
        return result

    async def ainvoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Return what the last step returns; the first gets ``kwargs``."""
        first, *others = self._steps
        result = await first.ainvoke(input, _step_config(1, config), **kwargs)
        for number, step in enumerate(others, 2):
            result = await step.ainvoke(result, _step_config(number, config))
        return result

    def stream(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Return the chunks of the last step."""
        first, *others = self._steps
        chunks = first.stream(input, _step_config(1, config), **kwargs)
        for number, step in enumerate(others, 2):
            chunks = step.transform(chunks, _step_config(number, config))
        return chunks

    def astream(self, input: Any, config: RunnableConfig, **kwargs: Any) -> AsyncIterator[Any]:
        """Return the chunks of the last step."""
        first, *others = self._steps
        chunks = first.astream(input, _step_config(1, config), **kwargs)
        for number, step in enumerate(others, 2):
            chunks = step.atransform(chunks, _step_config(number, config))
        return chunks


def _step_config(number: int, config: RunnableConfig) -> RunnableConfig:
    """Return the config of a step: that of the first, with the step's own tag."""
    manager = config.get("callbacks")
    if number == 1 or not isinstance(manager, BaseCallbackManager):
        return config
    manager = manager.copy()
    manager.remove_tags([_FIRST])
    manager.add_tags([f"seq:step:{number}"], inherit=False)
    return patch_config(config, callbacks=manager)
