"""Callback handler that stops what begins in cancelled code, also where no other handler of capture follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from lg_streaming.capture.run_registry import RUNS

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["CancelGate", "install_gate"]


class CancelGate(BaseCallbackHandler):
    """Handler that LangChain attaches to each run while some code is cancelled. It raises `GraphCancelledError`."""

    run_inline = True

    def on_chain_start(self, serialized: object, inputs: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a chain, a graph or a node that cancelled code starts."""
        self._check(**kwargs)

    def on_chat_model_start(self, serialized: object, messages: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a chat model that cancelled code starts."""
        self._check(**kwargs)

    def on_llm_start(self, serialized: object, prompts: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a text model that cancelled code starts."""
        self._check(**kwargs)

    def on_tool_start(self, serialized: object, input_str: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a tool that cancelled code starts."""
        self._check(**kwargs)

    def on_retriever_start(self, serialized: object, query: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop a retriever that cancelled code starts."""
        self._check(**kwargs)

    def _check(self, *, parent_run_id: UUID | None = None, **_: Any) -> None:
        RUNS.check(parent_run_id)


_GATE: Final = CancelGate()


class _GateHook:
    """A context variable for LangChain whose value follows the cancels in force; LangChain only calls `get`."""

    def get(self) -> CancelGate | None:
        """Return the gate while some code is cancelled."""
        return _GATE if RUNS.is_cancelling else None


def install_gate() -> None:
    """Let LangChain ask for the gate at each start of a run."""
    register_configure_hook(cast("Any", _GateHook()), inheritable=False)
