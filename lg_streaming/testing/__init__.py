"""Helpers for tests of streaming graphs. None needs a network.

The package `log_contract` has the contract suite for logs. It needs pytest and hypothesis.
"""

from lg_streaming.testing.collecting import Collected, collect, collect_sync
from lg_streaming.testing.models import Answer, AnswerScript, ScriptedChatModel, ScriptedError
from lg_streaming.testing.tokens import split_tokens

__all__ = [
    "Answer",
    "AnswerScript",
    "Collected",
    "ScriptedChatModel",
    "ScriptedError",
    "collect",
    "collect_sync",
    "split_tokens",
]
