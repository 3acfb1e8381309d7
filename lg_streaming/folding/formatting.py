"""Texts of the terminal: durations, labels, arguments of tools, the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from lg_streaming.escaping import escape_line
from lg_streaming.folding.prompt_view import PromptView
from lg_streaming.folding.run_view import NodeView, Progress, RunView

_MINUTE = 60
_SHOWN_WITH_TENTHS = 10
_DONE = 100


def format_seconds(value: float) -> str:
    """Return a duration as ``0.4 s``, ``12 s`` or ``2 min 5 s``."""
    minutes, rest = divmod(round(value), _MINUTE)
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{value:.1f} s" if value < _SHOWN_WITH_TENTHS else f"{rest} s"


def label(node: NodeView) -> str:
    """Return a node's name, with its number if it runs more than once, and its attempt after a retry."""
    return _name(node) + (f" (attempt {node.tries})" if node.tries > 1 else "")


def full_label(node: NodeView) -> str:
    """Return the label with the enclosing nodes, such as ``agent/model #2``."""
    enclosing: list[str] = []
    inner = node
    while inner.outer is not None:
        enclosing += [*([escape_line(inner.call)] if inner.call else []), _name(inner.outer)]
        inner = inner.outer
    return "/".join([*reversed(enclosing), label(node)])


def _name(node: NodeView) -> str:
    return escape_line("/".join((*node.path, node.name))) + ("" if node.is_single else f" #{node.number}")


def shorten(value: Any) -> str:
    """Return a tool's arguments in one line: of named arguments only the values."""
    if isinstance(value, Mapping):
        return ", ".join(shorten(item) for item in cast("Mapping[str, Any]", value).values())
    return escape_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def question(prompt: PromptView) -> str:
    """Return a prompt in one line, with what may be answered."""
    return "  ".join([shorten(prompt.text), *(escape_line(option) for option in prompt.options)])


def outcome(prompt: PromptView) -> str:
    """Return the answer to a closed prompt in one line, with the person who gave it."""
    if prompt.state == "closed":
        return "not answered"
    answer = shorten("yes" if prompt.answer is True else "no" if prompt.answer is False else prompt.answer)
    if prompt.timed_out:
        return f"{answer} (no answer in time)"
    return f"{answer} (by {escape_line(prompt.responded_by)})" if prompt.responded_by else answer


def run_state(run: RunView) -> str:
    """Return the state of a run, with its place in the queue."""
    if run.state == "interrupted" and run.next_prompt is not None:
        return "waits for you"
    return f"queued, place {run.place}" if run.state == "queued" and run.place is not None else run.state


def progress_text(progress: Progress, *, now: float) -> str:
    """Return the progress as ``63 %``, with the estimated remaining time."""
    percent = f"{progress.percent:.0f} %"
    if progress.eta is None or progress.percent >= _DONE:
        return percent
    return f"{percent}, about {format_seconds(max(0.0, progress.eta - (now - progress.at)))} left"


def elapsed(run: RunView, *, now: float) -> float:
    """Return the seconds from the start of the run to `now`, or to its end."""
    if run.started_at is None:
        return 0.0
    return max(0.0, (run.ended_at or now) - run.started_at)


def summary(run: RunView) -> str:
    """Return the summary of an ended run, in one line."""
    parts = [f"{run.updates:,} updates", f"{run.tokens:,} tokens"]
    if run.first_token_at is not None and run.started_at is not None:
        parts.append(f"first token after {format_seconds(run.first_token_at - run.started_at)}")
    parts.append(f"{format_seconds(elapsed(run, now=run.newest_at))} in all")
    return f"Run {run.state}: {', '.join(parts)}."
