"""Notify parts above the hub when runs end, when the hub sweeps, and when the hub closes."""

from __future__ import annotations

from typing import Protocol

__all__ = ["RunListener", "RunListeners"]


class RunListener(Protocol):
    """A part that buffers updates of runs, and must publish them before a run ends.

    The hub calls these methods synchronously, on any thread, and without a lock. A method may publish.
    """

    def flush_execution(self, execution_id: str) -> None:
        """Publish the buffered updates of an execution. A run of it may end next."""
        ...

    def close_execution(self, execution_id: str) -> None:
        """Publish the buffered updates of an execution, and close its streams. Its run ends, or has ended."""
        ...

    def sweep(self) -> None:
        """Close idle streams. Called with each sweep of the hub, at least every 30 seconds of use."""
        ...

    def close(self) -> None:
        """Publish all buffered updates, and close all streams: the hub closes, and may be reopened."""
        ...


class RunListeners:
    """The listeners of one hub, called in the order in which they were added."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: tuple[RunListener, ...] = ()

    def add(self, listener: RunListener) -> None:
        """Call ``listener`` from now on, as long as the hub lives."""
        self._listeners = (*self._listeners, listener)

    def flush_execution(self, execution_id: str) -> None:
        """Call `RunListener.flush_execution` of each listener."""
        for listener in self._listeners:
            listener.flush_execution(execution_id)

    def close_execution(self, execution_id: str) -> None:
        """Call `RunListener.close_execution` of each listener."""
        for listener in self._listeners:
            listener.close_execution(execution_id)

    def sweep(self) -> None:
        """Call `RunListener.sweep` of each listener."""
        for listener in self._listeners:
            listener.sweep()

    def close(self) -> None:
        """Call `RunListener.close` of each listener."""
        for listener in self._listeners:
            listener.close()
