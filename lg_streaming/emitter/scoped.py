"""A publisher bound to one execution, one scope and one run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import StreamingError
from lg_streaming.publisher import NO_SCOPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.events import Delivery, Priority, Scope
    from lg_streaming.publisher import LargeUpdates, LiveDefaults, OnMissingRun, Publisher, UpdateRequest
    from lg_streaming.token_streams import OpenTokenStreams

__all__ = ["ScopedPublisher"]

logger: logging.Logger = logging.getLogger(__name__)

_NO_RUN: Final = ""
"""The id of a run that has ended, or never began: updates of it are dropped and counted."""


class ScopedPublisher:
    """Publisher of the updates of one execution: the last step of emitters, and of the pipelines of nodes.

    Args:
        publisher: The destination; None drops everything.
        execution_id: The execution.
        scope: The scope of most updates. Its run is filled in with the first update, where ``missing`` is given.
        strict: Raise errors to the caller; otherwise they are logged and counted.
        missing: The treatment of an update when no run is open and the scope names none. None: the publisher's own.
            Otherwise the run is looked up once, and kept.
    """

    __slots__ = ("execution_id", "missing", "publisher", "scope", "strict")

    def __init__(
        self,
        publisher: Publisher | None,
        execution_id: str,
        scope: Scope = NO_SCOPE,
        *,
        strict: bool = False,
        missing: OnMissingRun | None = None,
    ) -> None:
        self.publisher: Publisher | None = publisher
        self.execution_id: str = execution_id
        self.scope: Scope = scope
        self.strict: bool = strict
        self.missing: OnMissingRun | None = missing

    @property
    def defaults(self) -> LiveDefaults | None:
        """The decorators' defaults of the execution; None without a publisher."""
        return self.publisher.defaults(self.execution_id) if self.publisher is not None else None

    @property
    def token_streams(self) -> OpenTokenStreams | None:
        """The registry of open token streams; None without a publisher."""
        return self.publisher.token_streams if self.publisher is not None else None

    def publish(
        self,
        type: str,
        data: object,
        scope: Scope,
        *,
        priority: Priority | None = None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
        large: LargeUpdates | None = None,
    ) -> bool:
        """Publish an update of any scope, and return whether it was accepted. Raises like `Emitter.event`."""
        publisher = self.publisher
        if publisher is None:
            return False
        try:
            if self.missing is not None and scope.run_id is None:
                scope = self._in_run(publisher, self.missing, scope)
            publisher.publish(
                self.execution_id,
                type,
                data,
                scope=scope,
                priority=priority,
                delivery=delivery,
                key=key,
                large=large if self.strict else "shorten",
            )
        except Exception as error:
            if self.strict:
                raise
            self.note_refused(error, type)
            return False
        return True

    def publish_all(self, updates: Sequence[UpdateRequest]) -> bool:
        """Publish updates that follow one another in the log, and return whether all were accepted."""
        publisher = self.publisher
        if publisher is None:
            return False
        try:
            missing = self.missing
            if missing is not None:
                updates = [
                    each
                    if each.scope.run_id is not None
                    else each._replace(scope=self._in_run(publisher, missing, each.scope))
                    for each in updates
                ]
            publisher.publish_all(self.execution_id, updates, large=None if self.strict else "shorten")
        except Exception as error:
            if self.strict:
                raise
            self.note_refused(error, *(update.type for update in updates))
            return False
        return True

    def find_run(self) -> Scope:
        """Return the scope, in its run: for scopes that are derived from it and used many times."""
        publisher, missing = self.publisher, self.missing
        if publisher is not None and missing is not None and self.scope.run_id is None:
            try:
                self._in_run(publisher, missing, self.scope)
            except Exception as error:
                if self.strict:
                    raise
                self.note_refused(error, "workflow_start")
        return self.scope

    def _in_run(self, publisher: Publisher, missing: OnMissingRun, scope: Scope) -> Scope:
        """Return ``scope`` in the run of this publisher, which is looked up the first time."""
        if self.scope.run_id is None:
            run_id = publisher.runs.run_of(self.execution_id, missing)
            if run_id is None:
                return scope.derive(run_id=_NO_RUN)
            self.scope = self.scope.derive(run_id=run_id)
        return scope.derive(run_id=self.scope.run_id)

    def note_refused(self, error: Exception, *types: str) -> None:
        """Count and log updates that could not be published, where nothing may be raised."""
        names = ", ".join(map(str, types))
        if isinstance(error, StreamingError):
            if self.publisher is not None:
                self.publisher.note_refused(self.execution_id, names, error)
        else:
            logger.error(
                "an update of type %r of execution %r could not be published",
                names,
                self.execution_id,
                exc_info=error,
            )

    def encode(self, data: object) -> bytes:
        """Return ``data`` as JSON, as it is now, for an update that is published later. Never raises."""
        return self.publisher.encode(data) if self.publisher is not None else b"null"

    def note_failure(self) -> None:
        """Count an exception of a user's function, in the hub's statistics."""
        if self.publisher is not None:
            self.publisher.note_failure()
