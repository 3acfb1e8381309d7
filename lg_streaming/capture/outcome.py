"""Classify the error with which a node, a tool or a model ended: a failure, or LangGraph's control flow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Literal, cast

from langgraph.errors import GraphBubbleUp, GraphInterrupt, NodeTimeoutError, ParentCommand

from lg_streaming.errors import GraphCancelledError, describe_error

__all__ = ["CANCELLED", "Ending", "classify_ending", "describe_failure", "get_interrupts", "to_interrupts"]

_CANCELS: Final = (
    asyncio.CancelledError,
    GraphCancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    GraphBubbleUp,
)

Ending = Literal["complete", "interrupted", "cancelled", "failed"]
"""Ending by an error. ``complete``: a `Command` went to the parent graph. ``interrupted``: it waits for a human.
``cancelled``: its task was cancelled, its generator was closed, or its reader stopped. ``failed``: any other error."""

CANCELLED: Final = {"message": "cancelled", "code": "cancelled"}
"""The error of a node or a tool call that was cancelled."""


def classify_ending(error: BaseException) -> Ending:
    """Return how a node, a tool or a model ended that raised `error`; for a group, the gravest ending of its errors."""
    if isinstance(error, BaseExceptionGroup):
        endings = {classify_ending(each) for each in cast("BaseExceptionGroup[BaseException]", error).exceptions}
        for ending in ("failed", "interrupted", "cancelled"):
            if ending in endings:
                return ending
        return "complete"
    if isinstance(error, ParentCommand):
        return "complete"
    if isinstance(error, GraphInterrupt):
        return "interrupted"
    if isinstance(error, _CANCELS):
        return "cancelled"
    return "failed"


def describe_failure(error: BaseException, *, debug: bool) -> dict[str, Any]:
    """Return a failure as an update's data; a timeout by LangGraph has the code ``timed_out``."""
    found = describe_error(error, debug=debug)
    if isinstance(error, NodeTimeoutError):
        return {**found, "message": f"timed out: {found['message']}", "code": "timed_out"}
    return found


def get_interrupts(error: BaseException, namespace: str | None = None) -> list[dict[str, Any]]:
    """Return the interrupts in an error, as `{id, value, namespace?}`."""
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return [found for each in parts for found in get_interrupts(each, namespace)]
    if not isinstance(error, GraphInterrupt):
        return []
    return to_interrupts(error.args[0] if error.args else (), namespace)


def to_interrupts(interrupts: object, namespace: str | None = None) -> list[dict[str, Any]]:
    """Return LangGraph's interrupts as `{id, value, namespace?}`."""
    if not isinstance(interrupts, Iterable):
        return []
    place = {"namespace": namespace} if namespace else {}
    found = cast("Iterable[object]", interrupts)
    return [{"id": getattr(each, "id", None), "value": getattr(each, "value", None), **place} for each in found]
