"""Run a decorated chain as LangGraph runs one as a node: its steps are those of the node, without a separate run.

Callbacks, events and tracers get the same runs with and without a decorator.
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
"""LangChain's tag of the first step of a sequence; LangGraph gives it to a node too."""


def flatten_chain(node: Runnable[Any, Any], config: RunnableConfig | None) -> Runnable[Any, Any] | ChainSteps:
    """Return the steps of a chain that is called as a node, or as the beginning of a longer chain; else ``node``."""
    if isinstance(node, (RunnableSequence, RunnableSeq)):
        manager = config.get("callbacks") if config is not None else None
        if isinstance(manager, BaseCallbackManager) and _FIRST in manager.tags:
            return ChainSteps(cast("Any", node).steps)
    return node


class ChainSteps:
    """Steps of a chain, called one after another in the run around them."""

    def __init__(self, steps: Sequence[Runnable[Any, Any]]) -> None:
        self._steps = steps

    def invoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Return the result of the last step; the first gets ``kwargs``."""
        first, *others = self._steps
        result = first.invoke(input, _step_config(1, config), **kwargs)
        for number, step in enumerate(others, 2):
            result = step.invoke(result, _step_config(number, config))
        return result

    async def ainvoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Return the result of the last step; the first gets ``kwargs``."""
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
