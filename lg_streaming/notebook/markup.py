"""A run as HTML for the output of a notebook's cell.

Styles are attributes, because notebooks remove style sheets from outputs that they do not trust. Colours are the
notebook's own, with tints that are legible on light and dark. Every text is escaped. The size has a bound.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.escaping import escape_controls
from lg_streaming.folding.formatting import elapsed, format_seconds, label, outcome, question, run_state
from lg_streaming.folding.prompt_view import as_list, as_mapping
from lg_streaming.folding.run_view import NodeView, RunView, TextPart, ToolPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lg_streaming.folding.prompt_view import PromptView

__all__ = ["render_html"]

_MOST_NODES: Final = 60
"""Most nodes that are shown: the newest ones."""
_MOST_PARTS: Final = 20
"""Most texts and tool calls of one node: the newest ones."""
_MOST_TEXT: Final = 2_000
"""Most characters of one text: its end."""
_MOST_ANSWER: Final = 8_000
_MOST_VALUE: Final = 300
"""Most characters of arguments and results of tools: their beginning."""
_MOST_DEPTH: Final = 6

_COLORS: Final[Mapping[str, str]] = {
    "running": "#1c7ed6",
    "complete": "#2b8a3e",
    "cached": "#2b8a3e",
    "failed": "#e03131",
    "interrupted": "#d9480f",
    "paused": "#d9480f",
}
_GREY: Final = "#868e96"
_MARKS: Final[Mapping[str, str]] = {
    "running": "●",
    "complete": "✓",
    "cached": "✓",
    "failed": "✗",
    "interrupted": "?",
    "cancelled": "⊘",
    "abandoned": "⊘",
}
_BOX: Final = "border:1px solid rgba(128,128,128,.35);border-radius:8px;"
_FONT: Final = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:13px;line-height:1.45;"
_MONO: Final = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px;overflow-wrap:anywhere;"
_PROSE: Final = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;"
_MUTED: Final = "opacity:.7;"


def render_html(execution_id: str, view: RunView | None, *, now: float) -> str:
    """Return a run as HTML: its state, its answer or error, open questions, and nodes with their texts and tools.

    Args:
        execution_id: The execution.
        view: The run; None without updates.
        now: The present time, in seconds since 1970, for the duration of a run that has not ended.
    """
    if view is None:
        body = [_tag("div", "No updates so far.", _MUTED)]
    else:
        answer = _answer(view)
        body = [
            _progress(view),
            *(_note(text) for text in view.gaps[-3:]),
            _error(view.error),
            *(_prompt(execution_id, each) for each in view.prompts[-10:]),
            _tag("div", _text(answer, _MOST_ANSWER, end=False), f"{_PROSE}margin:8px 0;") if answer else "",
            *_nodes(view),
        ]
    head = _head(execution_id, view, now)
    style = f"{_BOX}{_FONT}padding:10px 14px;max-width:960px;color:inherit;background:rgba(128,128,128,.04);"
    return _tag("div", "".join([head, *body]), style)


def _head(execution_id: str, view: RunView | None, now: float) -> str:
    state = "waiting" if view is None else view.state
    facts = [] if view is None else [format_seconds(elapsed(view, now=now)), f"{view.updates:,} updates"]
    if view is not None and view.tokens:
        facts.append(f"{view.tokens:,} tokens")
    shown = state if view is None else run_state(view)
    return _tag(
        "div",
        _badge(shown, state)
        + _tag("span", _text(execution_id, _MOST_VALUE), "font-weight:600;overflow-wrap:anywhere;")
        + _tag("span", _text(" · ".join(facts)), _MUTED),
        "display:flex;flex-wrap:wrap;gap:4px 12px;align-items:baseline;",
    )


def _badge(text: str, state: str) -> str:
    color = _COLORS.get(state, _GREY)
    return _tag("span", _text(text), f"color:#fff;background:{color};border-radius:9px;padding:0 9px;font-size:12px;")


def _progress(view: RunView) -> str:
    if view.progress is None or view.ended_at is not None:
        return ""
    percent = max(0.0, min(100.0, float(view.progress.percent)))
    bar = _tag("div", "", f"width:{percent:.0f}%;height:100%;background:{_COLORS['running']};border-radius:2px;")
    return _tag("div", bar, "height:4px;margin:8px 0;background:rgba(128,128,128,.25);border-radius:2px;")


def _error(error: str | None) -> str:
    style = f"{_PROSE}border-left:3px solid {_COLORS['failed']};padding-left:8px;"
    return _tag("div", _text(error, _MOST_TEXT, end=False), style) if error else ""


def _note(text: str) -> str:
    return _tag("div", _text(text, _MOST_VALUE), _MUTED)


def _prompt(execution_id: str, prompt: PromptView) -> str:
    if prompt.state != "open":
        return _tag("div", _text(f"{question(prompt)} → {outcome(prompt)}", _MOST_TEXT), f"{_PROSE}{_MUTED}")
    example = prompt.choices[0] if prompt.choices else True if prompt.is_verdict else "…"
    call = f"await streaming.hub.respond({execution_id!r}, {prompt.prompt_id!r}, {example!r})"
    inside = _tag("div", _text(question(prompt), _MOST_TEXT, end=False), f"{_PROSE}font-weight:600;")
    inside += _tag("div", _text(call, _MOST_TEXT), _MONO + _MUTED)
    return _tag("div", inside, f"border-left:3px solid {_COLORS['interrupted']};padding-left:8px;margin:8px 0;")


def _answer(view: RunView) -> str:
    """Return the answer of a run that is complete: the last message, or the only text of its result."""
    result = as_mapping(view.result)
    messages = as_list(result.get("messages"))
    if messages:
        return _content(messages[-1])
    texts = [each for each in result.values() if isinstance(each, str)]
    return view.result if isinstance(view.result, str) else texts[0] if len(texts) == 1 else ""


def _content(message: Any) -> str:
    content = as_mapping(message).get("content")
    if isinstance(content, str):
        return content
    return "".join(str(as_mapping(each).get("text", "")) for each in as_list(content))


# --- nodes ------------------------------------------------------------------------------------------------------


def _nodes(view: RunView) -> list[str]:
    nodes = list(view.nodes)
    shown = {id(each) for each in nodes[-_MOST_NODES:]}
    hidden = len(nodes) - len(shown)
    first = [_note(f"{hidden:,} earlier nodes are not shown")] if hidden > 0 else []
    return [*first, *_rows(view.rows, shown, depth=0)]


def _rows(rows: Iterable[Iterable[NodeView]], shown: set[int], *, depth: int) -> list[str]:
    return [
        html for row in rows for node in row for html in [_node(node, shown, depth)] if html and depth < _MOST_DEPTH
    ]


def _node(node: NodeView, shown: set[int], depth: int) -> str:
    """Return a node; open while it runs, and where it failed. A node that is left out gives its inner nodes."""
    calls = [row for part in node.parts if isinstance(part, ToolPart) for row in part.rows]
    inner = "".join(_rows([*calls, *node.rows], shown, depth=depth + 1))
    if id(node) not in shown:
        return inner
    color = _COLORS.get(node.state, _GREY)
    took = "" if node.state == "running" else format_seconds(node.duration)
    progress = f"{node.progress.percent:.0f} %" if node.progress is not None and node.state == "running" else ""
    title = (
        _tag("span", _MARKS.get(node.state, "●"), f"color:{color};font-weight:700;margin-right:6px;")
        + _tag("span", _text(label(node), _MOST_VALUE), "font-weight:600;overflow-wrap:anywhere;")
        + _tag("span", _text(" ".join(filter(None, [node.state, took, progress]))), f"{_MUTED}margin-left:8px;")
    )
    parts = "".join(_part(each) for each in node.parts[-_MOST_PARTS:])
    content = _error(node.error) + parts + inner
    if not content:
        return _tag("div", title, "margin:4px 0 4px 13px;")
    is_open = " open" if node.state in {"running", "failed", "interrupted"} or inner else ""
    summary = _tag("summary", title, "cursor:pointer;")
    return (
        f'<details style="margin:4px 0;"{is_open}>{summary}{_tag("div", content, "margin:2px 0 6px 18px;")}</details>'
    )


def _part(part: TextPart | ToolPart) -> str:
    if isinstance(part, TextPart):
        if part.kind == "token":
            return _tag("div", _text(part.text, _MOST_TEXT), _PROSE)
        inside = _tag("summary", "Reasoning", f"cursor:pointer;{_MUTED}") + _tag(
            "div", _text(part.text, _MOST_TEXT), f"{_PROSE}{_MUTED}font-style:italic;"
        )
        return f"<details>{inside}</details>"
    color = _COLORS.get(part.state, _GREY)
    mark = _tag("span", _MARKS.get(part.state, "●"), f"color:{color};margin-right:6px;")
    call = _tag("span", _text(f"{part.name}({_value(part.arguments)})"), _MONO)
    output = part.error or (None if part.output is None else _value(part.output))
    shown = _tag("div", _text(f"→ {output}"), f"{_MONO}{_MUTED}margin-left:18px;") if output is not None else ""
    return _tag("div", mark + call + shown, "margin:3px 0;")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_VALUE else text[: _MOST_VALUE - 1] + "…"


def _text(text: Any, most: int = _MOST_TEXT, *, end: bool = True) -> str:
    """Return a text for HTML, of bounded length: its end, or its beginning."""
    shown = str(text)
    if len(shown) > most:
        shown = "…" + shown[1 - most :] if end else shown[: most - 1] + "…"
    return escape(escape_controls(shown), quote=True)


def _tag(name: str, inside: str, style: str) -> str:
    return f'<{name} style="{style}">{inside}</{name}>'
