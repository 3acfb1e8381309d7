"""Helpers for tests of streaming graphs. None needs a network.

The package `log_contract` has the contract suite for logs. It needs pytest and hypothesis. The package `replaying` has
`replay`, which publishes recorded runs again.
"""

from lg_streaming.testing.collecting import Collected, collect, collect_sync
from lg_streaming.testing.models import Answer, AnswerScript, ScriptedChatModel, ScriptedError
from lg_streaming.testing.replaying import RecordedError, RecordedRun, Recording, Replay, replay
from lg_streaming.testing.tokens import split_tokens

__all__ = [
    "Answer",
    "AnswerScript",
    "Collected",
    "RecordedError",
    "RecordedRun",
    "Recording",
    "Replay",
    "ScriptedChatModel",
    "ScriptedError",
    "collect",
    "collect_sync",
    "replay",
    "split_tokens",
]
