"""How the terminal puts things: seconds, labels, arguments of tools, the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from lg_streaming.cli.run_view import NodeView, Progress, RunView
from lg_streaming.escaping import escape_line

_MINUTE = 60
_WORTH_A_TENTH = 10
_DONE = 100


def seconds(value: float) -> str:
    """``0.4 s``, ``12 s``, ``2 min 5 s``."""
    minutes, rest = divmod(round(value), _MINUTE)
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{value:.1f} s" if value < _WORTH_A_TENTH else f"{rest} s"


def label(node: NodeView) -> str:
    """The node's name, with a number when it runs more than once and an attempt when it was tried again."""
    return _name(node) + (f" (attempt {node.attempt})" if node.attempt > 1 else "")


def whole_label(node: NodeView) -> str:
    """The same with the nodes that it runs inside of, for where it stands by itself: ``agent/model #2``."""
    around: list[str] = []
    inner = node
    while inner.outer is not None:
        around += [*([escape_line(inner.call)] if inner.call else []), _name(inner.outer)]
        inner = inner.outer
    return "/".join([*reversed(around), label(node)])


def _name(node: NodeView) -> str:
    return escape_line("/".join((*node.path, node.name))) + ("" if node.alone else f" #{node.number}")


def gist(value: Any) -> str:
    """A tool's arguments in one line: the values alone when there are names to them."""
    if isinstance(value, Mapping):
        return ", ".join(gist(item) for item in cast("Mapping[str, Any]", value).values())
    return escape_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def how_far(progress: Progress, *, now: float) -> str:
    """``63 %``, and how long it should still take as long as it is not done."""
    told = f"{progress.percent:.0f} %"
    if progress.eta is None or progress.percent >= _DONE:
        return told
    return f"{told}, about {seconds(max(0.0, progress.eta - (now - progress.at)))} left"


def elapsed(run: RunView, *, now: float) -> float:
    """Seconds since the run began; until its end, once it has ended."""
    if run.started_at is None:
        return 0.0
    return max(0.0, (run.ended_at or now) - run.started_at)


def summary(run: RunView) -> str:
    """One line on a run that has ended."""
    parts = [f"{run.updates:,} updates", f"{run.tokens:,} tokens"]
    if run.first_token_at is not None and run.started_at is not None:
        parts.append(f"first token after {seconds(run.first_token_at - run.started_at)}")
    parts.append(f"{seconds(elapsed(run, now=run.newest_at))} in all")
    return f"Run {run.state}: {', '.join(parts)}."
