"""Recordings as files, and updates in a form that does not depend on the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lg_streaming import StreamingModule, StreamUpdate
from lg_streaming.log.base import StoredUpdate

OWN = ("timestamp", "sequence_number", "epoch", "run_id")
"""Metadata that a replay makes itself."""


def lines_of(records: Iterable[StoredUpdate], execution_id: str) -> list[str]:
    """The lines of a recording, under another id."""
    found: list[str] = []
    for record in records:
        update = json.loads(record.json)
        update["metadata"]["execution_id"] = execution_id
        found.append(json.dumps(update, ensure_ascii=False))
    return found


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def made_up(*updates: tuple[float, str, Any], execution_id: str = "made-up", run_id: str = "r-1") -> list[str]:
    """Lines of updates: seconds, type, data."""
    lines: list[str] = []
    for number, (second, kind, data) in enumerate(updates, 1):
        metadata = {
            "timestamp": f"2026-01-02T03:{int(second) // 60:02d}:{second % 60:06.3f}Z",
            "execution_id": execution_id,
            "run_id": run_id,
            "sequence_number": number,
            "epoch": f"e-{run_id}",
        }
        lines.append(json.dumps({"type": kind, "data": data, "metadata": metadata}))
    return lines


def shape(update: StreamUpdate) -> tuple[str, Any, Mapping[str, Any]]:
    """The parts of an update that a replay keeps: type, data, scope, priority."""
    metadata = {name: value for name, value in update.metadata.to_dict().items() if name not in OWN}
    data = update.data
    if update.type == "workflow_start":
        data = {name: value for name, value in data.items() if name != "run_id"}
    return update.type, data, {name: value for name, value in metadata.items() if name != "execution_id"}


async def read(streaming: StreamingModule, execution_id: str) -> list[StreamUpdate]:
    """All updates of an execution, as a reader gets them."""
    state = await streaming.hub.describe(execution_id)
    assert state is not None, execution_id
    found: list[StreamUpdate] = []
    async for update in streaming.hub.subscribe(execution_id, follow=True, timeout=20):
        found.append(update)
        if update.seq >= state.head:
            break
    return found
