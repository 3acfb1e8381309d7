"""Updates made by hand, as a server sends them: one second apart, starting at noon."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Update = dict[str, Any]

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def script(*, epoch: str = "k3f9") -> Callable[..., Update]:
    """A function that makes the next update of an execution: ``say("token", {"content": "Hi"}, node_id="write")``."""
    numbers = itertools.count(1)

    def say(kind: str, data: object = None, **metadata: Any) -> Update:
        number = next(numbers)
        at = (NOON + timedelta(seconds=number - 1)).isoformat().replace("+00:00", "Z")
        fixed = {"timestamp": at, "sequence_number": number, "epoch": epoch, "execution_id": "exec-1"}
        return {"type": kind, "data": {} if data is None else data, "metadata": {**fixed, **metadata}}

    return say


def node(name: str, branch: int = 1, attempt: int = 1) -> Mapping[str, Any]:
    """The metadata of a node's updates."""
    return {"node_id": name, "namespace": f"{name}:{branch}", "attempt": attempt}
