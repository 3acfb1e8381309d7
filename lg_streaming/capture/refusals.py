"""Refuses what can be no node, in one sentence, where the decorator is applied."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Final

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable
from langgraph.graph import StateGraph

from lg_streaming.errors import NotANodeError

__all__ = ["validate_node"]

_REFUSED: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (StateGraph, "a StateGraph is no node before it is compiled: decorate what compile() returns, or its nodes"),
    (BaseLanguageModel, "a model is no node: decorate the function, chain or agent that calls it"),
    (type, "a class is no node: decorate its method, or an instance that can be called"),
    ((property, cached_property), "a property is no node: decorate a method"),
)


def validate_node(target: object) -> None:
    """Check that a decorator can wrap ``target``.

    Raises:
        NotANodeError: If it is neither a callable nor a Runnable, or of a kind that cannot work as a node.
    """
    for kind, why in _REFUSED:
        if isinstance(target, kind):
            raise NotANodeError(f"{why} ({target!r:.100})")
    if inspect.iscoroutine(target) or inspect.isasyncgen(target) or inspect.isgenerator(target):
        raise NotANodeError(
            f"a node is a callable or a Runnable, not a {type(target).__name__}: decorate the function itself, "
            f"without calling it ({target!r:.100})"
        )
    if not callable(target) and not isinstance(target, Runnable):
        raise NotANodeError(
            f"a node is a callable or a Runnable, not {type(target).__name__}: {target!r:.100}; "
            "decorate the node's function"
        )
