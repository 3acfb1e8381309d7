"""Newest updates of an execution that this process reads, which all its readers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from lg_streaming.log.base import LogState, ReadResult
from lg_streaming.log.run_state import STATE_TYPES, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.base import StoredUpdate
    from lg_streaming.log.usage import Usage

__all__ = ["Tail"]

_MAX_UPDATES: Final = 1_000
_MAX_BYTES: Final = 1024 * 1024


class _View(NamedTuple):
    """Contents at one moment, which readers of all threads use while the next ones are made."""

    state: LogState
    records: list[StoredUpdate]
    """Records up to ``state.head``, and possibly later ones."""
    base: int
    """Sequence number before the first record."""


class Tail:
    """Newest updates of an execution, up to 1,000 or 1 MiB, and its state.

    One thread changes a tail; any thread reads it.

    Args:
        state: State at a moment.
        records: Updates up to the head of that state, without holes. May be empty.
    """

    __slots__ = ("_bytes", "_run", "_view")

    def __init__(self, state: LogState, records: Sequence[StoredUpdate]) -> None:
        kept = list(records)
        self._view = _View(state, kept, state.head - len(kept))
        self._bytes = sum(len(record.json) for record in kept)
        final = next((each for each in reversed(kept) if each.is_final), None)
        self._run = RunState(state.state, final, state.progress_record, state.start_record)

    @property
    def state(self) -> LogState:
        """State at the newest update."""
        return self._view.state

    @property
    def last(self) -> StoredUpdate | None:
        """Newest update, if the tail has it."""
        state, records, base = self._view
        return records[state.head - base - 1] if state.head > base else None

    def read(self, after: int, limit: int) -> ReadResult | None:
        """Return up to ``limit`` records after ``after``; None if the tail begins later."""
        state, records, base = self._view
        if after < base and state.oldest <= base:
            return None  # Redis has earlier ones
        begin = max(0, after - base, state.oldest - 1 - base)  # the tail may have evicted ones
        return ReadResult(state, records[begin : min(begin + limit, state.head - base)])

    def extend(
        self,
        records: Sequence[StoredUpdate],
        *,
        oldest: int,
        owner: str | None,
        process: str | None,
        usage: Usage | None,
    ) -> None:
        """Append records that follow the head, after which the last run has ``usage``."""
        state, kept, base = self._view
        if not records:
            return
        run = self._run
        for record in records:
            self._bytes += len(record.json)
            if record.type in STATE_TYPES or run.interrupted:
                run = run.after(record)
        self._run = run
        newest = records[-1]
        kept.extend(records)  # a reader of the present view reads up to its head
        if len(kept) > 2 * _MAX_UPDATES or self._bytes > 2 * _MAX_BYTES:
            kept, base = self._shortened(kept, base)
        self._view = _View(
            LogState(  # `replace` takes twice as long
                epoch=state.epoch,
                oldest=oldest,
                head=newest.seq,
                state=run.state,
                owner=owner,
                started_at=state.started_at,
                updated_at=newest.timestamp,
                final_seq=run.final.seq if run.final is not None else state.final_seq,
                progress_record=run.progress,
                start_record=run.start,
                process=process,
                ended_at=run.ended_at if run.final is not None or run.state != state.state else state.ended_at,
                usage=usage,
            ),
            kept,
            base,
        )

    def _shortened(self, records: list[StoredUpdate], base: int) -> tuple[list[StoredUpdate], int]:
        size = count = 0
        for record in reversed(records):
            size += len(record.json)
            if count == _MAX_UPDATES or (count and size > _MAX_BYTES):
                break
            count += 1
        kept = list(records[-count:])
        self._bytes = sum(len(record.json) for record in kept)
        return kept, base + len(records) - count
