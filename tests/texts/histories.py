"""Histories of runs, for properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.texts.rules import Update, numbered

SPACES = ["a:1", "a:1|b:2", "a:1|b:2|c:3", "a:1/d:4", "a:12", "e:5"]


@st.composite
def histories(draw: st.DrawFn) -> list[Update]:
    """Updates as runs make them: attempts of a node rise, and each start is a new attempt."""
    attempts = dict.fromkeys(SPACES, 0)
    made: list[list[Any]] = []
    for number in range(draw(st.integers(1, 30))):
        space = draw(st.sampled_from(SPACES))
        type = draw(  # noqa: A001
            st.sampled_from(
                ["node_start", "token", "token", "token", "thinking", "llm_error", "node_error", "node_interrupted"]
            )
        )
        attempts[space] += type == "node_start"
        attempt = max(1, attempts[space] - draw(st.sampled_from([0, 0, 0, 0, 1])) * (type == "token"))
        metadata: dict[str, Any] = {"namespace": space, "attempt": attempt}
        if type in ("token", "thinking", "llm_error"):
            metadata["message_id"] = f"{space} {draw(st.sampled_from('mn'))}"
        made.append([type, {"content": f"{number} "}, metadata])
        attempts[space] = max(1, attempts[space])
    return numbered(made)
