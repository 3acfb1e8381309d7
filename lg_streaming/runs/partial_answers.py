"""Answers to some of the prompts of a pause, which outlive the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.records import RunRecord
    from lg_streaming.runs.recovery import RunRecovery

__all__ = ["PartialAnswers"]


class PartialAnswers:
    """Answers of one pause: each but the last is stored, so that another process has them.

    Args:
        hub: The hub.
        recovery: Stores the answers.
        record: The record of the run; None if no other process can go on with it.
        open: The number of open prompts.
        answered: Answers that another process has got.
    """

    def __init__(
        self, hub: StreamHub, recovery: RunRecovery, record: RunRecord | None, open: int, answered: Mapping[str, Any]
    ) -> None:
        self._recovery = recovery
        self._record = record
        self._open = open
        self._answers = dict(answered)
        self._before = dict(answered)
        self._stop = hub.on_response(record.execution_id, self._note) if record is not None else None

    def _note(self, prompt_id: str, answer: object) -> None:
        self._answers[prompt_id] = answer
        if self._record is not None and len(self._answers) - len(self._before) < self._open:
            self._recovery.note_answers(self._record, self._answers)

    def close(self) -> None:
        """Take no more answers."""
        if self._stop is not None:
            self._stop()

    async def complete(self, answers: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answers to all prompts, and remove those of the record before the graph uses them."""
        if self._record is not None and (self._before or self._open > 1):
            await self._recovery.forget_answers(self._record)
        return {**self._before, **answers}
