"""The rules of assembling, replayed over the whole history in the plainest way, to compare with; and all assemblers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lg_streaming.codec import parse_update
from lg_streaming.events import node_path
from lg_streaming.folding.run_view import RunView, TextPart
from lg_streaming.texts import TextAssembly
from tests.support.node import node_executable

HERE = Path(__file__).parent

Update = dict[str, Any]
Listed = list[list[str]]


def numbered(short: Sequence[Sequence[Any]]) -> list[Update]:
    """Updates of `[type, data, metadata]`."""
    return [
        {
            "type": name,
            "data": data,
            "metadata": {
                "timestamp": "2026-11-20T20:00:00.000Z",
                "sequence_number": number,
                "execution_id": "e",
                "epoch": "k",
                "run_id": "r",
                **({"node_id": node_path(metadata["namespace"]).split("/")[-1]} if "namespace" in metadata else {}),
                **metadata,
            },
        }
        for number, (name, data, metadata) in enumerate(short, 1)
    ]


def by_python(updates: Sequence[Update]) -> dict[str, Listed]:
    """`TextAssembly`."""
    assembly = TextAssembly()
    for update in updates:
        assembly.add(parse_update(update))
    messages = [(each.path, each.message_id or "", each.text, each.thinking) for each in assembly.messages]
    assert assembly.text == "".join(text for *_, text, _ in messages)
    return _listed(messages)


def by_terminal(updates: Sequence[Update]) -> dict[str, Listed]:
    """The terminal's view."""
    run = RunView()
    for update in updates:
        run.apply(update)
    parts = [(node, part) for node in run.nodes for part in node.parts if isinstance(part, TextPart)]
    messages: list[tuple[str, str, str, str]] = []
    for node, part in parts:
        text, thought = (part.text, "") if part.kind == "token" else ("", part.text)
        messages.append((node_path(node.key), part.message, text, thought))
    return _listed(messages)


def by_javascript(lists: Sequence[Sequence[Update]]) -> list[dict[str, dict[str, Listed]]]:
    """The browser's module and the page, for many lists at once."""
    done = subprocess.run(
        [node_executable(), "--no-warnings", str(HERE / "assemble.mjs")],
        input=json.dumps(lists),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def by_rules(updates: Sequence[Update]) -> dict[str, Listed]:
    """Assemble texts as the page on the wire words it: each piece is valid unless a later update voids it."""
    pieces = [index for index, update in enumerate(updates) if update["type"] in ("token", "thinking")]
    texts: dict[tuple[str, str], list[str]] = {}
    for index in pieces:
        update = updates[index]
        if _is_late(updates, index) or any(
            _takes_back(updates, later, index) for later in range(index + 1, len(updates))
        ):
            continue
        key = (_place(update), update["metadata"]["message_id"])
        entry = texts.setdefault(key, ["", ""])
        entry[0 if update["type"] == "token" else 1] += update["data"]["content"]
    return _listed([(node_path(place), message, text, thought) for (place, message), (text, thought) in texts.items()])


def _place(update: Update) -> str:
    metadata = update["metadata"]
    return metadata.get("namespace") or metadata.get("node_id") or ""


def _is_late(updates: Sequence[Update], index: int) -> bool:
    """Return whether a later attempt had begun before the piece."""
    own, place = updates[index]["metadata"].get("attempt"), _place(updates[index])
    earlier = [each for each in updates[_begun(updates, place, index) : index] if _place(each) == place]
    return own is not None and any(each["metadata"].get("attempt", 0) > own for each in earlier)


def _begun(updates: Sequence[Update], place: str, before: int) -> int:
    """Since when a node counts: a node around it that begins afresh makes it new."""
    return max((index for index in range(before) if _clears(updates, index, place)), default=0)


def _clears(updates: Sequence[Update], index: int, place: str) -> bool:
    inside = re.match(re.escape(_place(updates[index])) + r"[|/]", place) is not None
    return updates[index]["type"] == "node_start" and inside and not _was_interrupted(updates, index)


def _takes_back(updates: Sequence[Update], later: int, index: int) -> bool:
    update, piece = updates[later], updates[index]
    if _is_late(updates, later):
        return False
    if _place(update) == _place(piece):
        void = update["type"] == "llm_error" and update["metadata"].get("message_id") == piece["metadata"]["message_id"]
        attempts = update["metadata"].get("attempt", 1), piece["metadata"].get("attempt", 1)
        return void or attempts[0] > attempts[1]
    return _clears(updates, later, _place(piece))


def _was_interrupted(updates: Sequence[Update], start: int) -> bool:
    place = _place(updates[start])
    since = _begun(updates, place, start)
    of_node = ("node_start", "node_complete", "node_error", "node_interrupted")
    before = [
        each["type"]
        for index, each in enumerate(updates[:start])
        if index >= since and _place(each) == place and each["type"] in of_node and not _is_late(updates, index)
    ]
    return before[-1:] == ["node_interrupted"]


def _listed(messages: Sequence[tuple[str, str, str, str]]) -> dict[str, Listed]:
    return {
        "messages": [[path, message, text] for path, message, text, _ in messages if text],
        "thinking": [[path, message, thought] for path, message, _, thought in messages if thought],
    }
