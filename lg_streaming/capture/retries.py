"""Predict whether LangGraph retries a node that failed: its retry policies decide after the node's end is published.

The hooks of `run_with_retry` and `arun_with_retry` record the policies of the node that runs. A policy's `retry_on` may
be a function of the application. The hook of `_should_retry_on` passes the predicted answer on, so that LangGraph does
not call the function again. If a version of LangGraph lacks one of them, errors of nodes have no `will_retry`.
"""

from __future__ import annotations

import functools
import inspect
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from langgraph.errors import GraphBubbleUp
from langgraph.pregel import _retry, _runner

from lg_streaming.context import reset_in_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.types import RetryPolicy

__all__ = ["install_retry_hooks", "will_retry"]

logger: logging.Logger = logging.getLogger(__name__)

_DECIDES: Final = "_should_retry_on"
_RUN: Final = ("run_with_retry", "arun_with_retry")


class _Tries:
    """Tries of the node that LangGraph runs.

    Args:
        namespace: LangGraph's checkpoint namespace of the node.
        policies: Its retry policies; the first that matches an error decides.
    """

    __slots__ = ("_answers", "_error", "failed", "namespace", "policies")

    def __init__(self, namespace: str | None, policies: Sequence[RetryPolicy]) -> None:
        self.namespace = namespace
        self.policies = policies
        self.failed = 0
        """Tries that failed with an error of a policy."""
        self.forget()

    def forget(self) -> None:
        """Drop the last error: its traceback refers to the frames that hold this object."""
        self._error: BaseException | None = None
        self._answers: dict[int, bool] = {}

    def matches(self, policy: RetryPolicy, error: Exception) -> bool:
        """Return whether a policy retries an error. Raises what its `retry_on` raises."""
        if error is not self._error:
            self._error, self._answers = error, {}
        known = self._answers.get(id(policy))
        if known is None:
            known = self._answers[id(policy)] = bool(_should_retry_on(policy, error))
        return known


_tries: ContextVar[_Tries | None] = ContextVar("lg_streaming_tries", default=None)
_should_retry_on: Any = getattr(_retry, _DECIDES, None)
_installed: list[str] = []


def will_retry(error: BaseException, namespace: str | None) -> bool | None:
    """Return whether LangGraph runs a node again that failed with `error`; None if that is not known.

    Args:
        error: The error, as LangGraph gets it.
        namespace: LangGraph's checkpoint namespace of the node.
    """
    if not isinstance(error, Exception) or isinstance(error, GraphBubbleUp):
        return False
    tries = _tries.get()
    if not _installed or tries is None or tries.namespace != namespace:
        return None
    try:
        policy = next((each for each in tries.policies if tries.matches(each, error)), None)
    except Exception:  # noqa: BLE001 (LangGraph calls the function again, and raises its error in place of the node's)
        return False
    return policy is not None and tries.failed + 1 < policy.max_attempts


def _begin(task: Any, policies: Any) -> _Tries:
    return _Tries(task.config.get("configurable", {}).get("checkpoint_ns"), task.retry_policy or policies or ())


def _around_run(original: Any) -> Any:
    @functools.wraps(original)
    def run_with_retry(task: Any, retry_policy: Any, *args: Any, **kwargs: Any) -> Any:
        tries = _begin(task, retry_policy)
        token = _tries.set(tries)
        try:
            return original(task, retry_policy, *args, **kwargs)
        finally:
            tries.forget()
            reset_in_context(_tries, token)

    return run_with_retry


def _around_async_run(original: Any) -> Any:
    @functools.wraps(original)
    async def arun_with_retry(task: Any, retry_policy: Any, *args: Any, **kwargs: Any) -> Any:
        tries = _begin(task, retry_policy)
        token = _tries.set(tries)
        try:
            return await original(task, retry_policy, *args, **kwargs)
        finally:
            tries.forget()
            reset_in_context(_tries, token)

    return arun_with_retry


def _around_decision(original: Any) -> Any:
    @functools.wraps(original)
    def should_retry_on(policy: RetryPolicy, error: Exception) -> Any:
        tries = _tries.get()
        if tries is None:
            return original(policy, error)
        matches = tries.matches(policy, error)
        tries.failed += matches
        return matches

    return should_retry_on


def install_retry_hooks() -> None:
    """Install the hooks, once."""
    found: dict[str, Any] = {name: getattr(_runner, name, None) for name in _RUN}
    decides: Any = getattr(_retry, _DECIDES, None)
    if _installed:
        return
    if decides is None or None in found.values():
        logger.warning(
            "LangGraph has no %s or %s here: errors of nodes have no will_retry", " or ".join(_RUN), _DECIDES
        )
        return
    setattr(_retry, _DECIDES, _around_decision(decides))
    for name, function in found.items():
        is_async = inspect.iscoroutinefunction(function)
        setattr(_runner, name, (_around_async_run if is_async else _around_run)(function))
    _installed.extend((_DECIDES, *found))
