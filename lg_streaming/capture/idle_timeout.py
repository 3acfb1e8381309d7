"""Keep LangGraph's idle timeout of a node unchanged by capture.

Every callback restarts LangGraph's idle clock, and so does every token. A model that streams only because of capture
would keep a silent node alive, which the timeout ends without capture. So the tokens of such a call do not restart the
clock. Tokens of a model that streams without capture do.

The clock's class is hooked, not a node's callbacks: the node may be undecorated, in a graph that a captured node calls.
"""

from __future__ import annotations

import functools
import inspect
import logging
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langgraph.pregel import _retry

from lg_streaming.capture.callbacks import TAP
from lg_streaming.publisher import publishers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from uuid import UUID

__all__ = ["install_idle_hooks"]

logger: logging.Logger = logging.getLogger(__name__)

_CLOCK: Final = "_IdleProgressCallbackHandler"
_OWN_CALLS: Final = "_lg_streaming_calls"
"""Attribute of a clock with the ids of calls that stream only because of capture."""
_INVOKED: Final = {BaseChatModel.generate.__code__: False, BaseChatModel.agenerate.__code__: True}
"""Code that runs when a model is invoked, and True for async code."""
_STREAMED: Final = {BaseChatModel.stream.__code__, BaseChatModel.astream.__code__}
_MAX_FRAMES: Final = 64


def _on_start(original: Any) -> Any:
    @functools.wraps(original)
    def on_chat_model_start(self: Any, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        if publishers.count and _streams_only_for_capture():
            vars(self).setdefault(_OWN_CALLS, set()).add(run_id)
        original(self, *args, run_id=run_id, **kwargs)

    return on_chat_model_start


def _on_token(original: Any) -> Any:
    @functools.wraps(original)
    def on_llm_new_token(self: Any, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        if run_id not in vars(self).get(_OWN_CALLS, ()):
            original(self, *args, run_id=run_id, **kwargs)

    return on_llm_new_token


def _on_end(original: Any) -> Any:
    @functools.wraps(original)
    def on_end(self: Any, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        ours = cast("set[UUID] | None", vars(self).get(_OWN_CALLS))
        if ours is not None:
            ours.discard(run_id)
        original(self, *args, run_id=run_id, **kwargs)

    return on_end


_HOOKS: Final[dict[str, Callable[[Any], Any]]] = {
    "on_chat_model_start": _on_start,
    "on_llm_new_token": _on_token,
    "on_llm_end": _on_end,
    "on_llm_error": _on_end,
}
_installed: list[str] = []


def install_idle_hooks() -> None:
    """Install the hooks, once."""
    if _installed:
        return
    clock: Any = getattr(_retry, _CLOCK, None)
    if clock is None:
        logger.warning("LangGraph has no %s here: tokens keep a captured node with an idle timeout alive", _CLOCK)
    for method, hook in _HOOKS.items():
        if clock is not None:
            setattr(clock, method, hook(getattr(clock, method)))
        _installed.append(method)


def _streams_only_for_capture() -> bool:
    """Return whether the model call that starts now streams, and would not without capture.

    LangChain's callbacks do not carry that, so the frames of the call are inspected. They show whether the model was
    streamed or invoked, its handlers, and whether it streams without them. If they do not, the result is False.
    """
    frame = inspect.currentframe()
    for _ in range(_MAX_FRAMES):
        if frame is None or frame.f_code in _STREAMED:
            return False
        if frame.f_code in _INVOKED:
            return _invoked_only_for_capture(frame)
        frame = frame.f_back
    return False


def _invoked_only_for_capture(frame: FrameType) -> bool:
    found = frame.f_locals
    manager, model = found.get("callback_manager"), found.get("self")
    if not isinstance(manager, BaseCallbackManager) or TAP not in manager.handlers:
        return False
    if any(hasattr(each, "tap_output_aiter") for each in manager.handlers if each is not TAP):
        return False
    asks: Any = getattr(model, "_should_stream", None)
    options = cast("dict[str, Any]", found.get("kwargs") or {})
    return asks is not None and not asks(async_api=_INVOKED[frame.f_code], **options)
