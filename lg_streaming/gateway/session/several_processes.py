"""Detection of several processes that serve one application without a shared log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lg_streaming.fork import restart_after_fork
from lg_streaming.gateway.hooks.siblings import find_siblings, served_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.gateway.protocol.outbound import ServerWarning
    from lg_streaming.log.base import EventLog

__all__ = ["SeveralProcesses"]

logger: logging.Logger = logging.getLogger("lg_streaming.gateway")

_ADVICE: Final = (
    "Set log='redis://…' (LG_STREAMING_LOG; pip install 'lg-streaming[redis]'), which all processes share, or run one "
    "worker"
)
_SEPARATE: Final = (
    "several processes serve this application (%s), and each keeps its executions in its own memory: a client that "
    "reaches another process than that of its run gets no updates. %s"
)
_FORKED: Final = (
    "this process was forked from a server, and publishes execution %r in its own memory: clients of the server get no "
    "updates of it. %s"
)


class SeveralProcesses:
    """Signs that other processes have executions which this one cannot serve.

    It logs them once at WARNING, and lists them for clients in `warnings`.

    Args:
        log: The log of the executions. A log that several processes share has no warning.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._serving = False
        self._logged = False
        self._forked = False
        self._stop_listening: Callable[[], None] | None = None
        self.warnings: tuple[ServerWarning, ...] = ()
        """Names of the warnings, as clients and health checks get them."""
        restart_after_fork(self)

    @property
    def refusal(self) -> str | None:
        """Reason for which `lg-streaming serve --workers` may not serve; None if it may."""
        workers = served_by.get()
        if workers is None or workers < 2 or self._log.fleet is not None:  # noqa: PLR2004 (several)
            return None
        return f"--workers {workers} needs a log that the processes share. {_ADVICE}"

    def start(self) -> None:
        """Search for signs. Called at each start, on the server's event loop."""
        self._serving = True
        sign = find_siblings() or ("forked from a server" if self._forked else None)
        self.warnings = () if sign is None or self._log.fleet is not None else ("several_processes",)
        if self.warnings and not self._logged:
            self._logged = True
            logger.warning(_SEPARATE, sign, _ADVICE)

    async def stop(self) -> None:
        """Forget the server. Called at each stop."""
        self._serving = False

    def after_fork(self) -> None:
        """Watch a child of a running server: what it publishes reaches no client of the server."""
        self._forked = self._forked or self._serving
        if self._serving and self._log.fleet is None:
            self._stop_listening = self._log.listen(self._warn_child)
        self._serving, self.warnings = False, ()

    def _warn_child(self, execution_id: str) -> None:
        stop, self._stop_listening = self._stop_listening, None
        if stop is not None:
            stop()
            self._logged = True
            logger.warning(_FORKED, execution_id, _ADVICE)
