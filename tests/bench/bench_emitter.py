"""Cost of an update that an emitter writes into the memory log.

References are a loop that only makes the payload, and `json.dumps` of the same update and a list, the minimum of any
log of JSON. They take turns, and the processor's time counts.
"""

import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lg_streaming import StreamHub, StreamingSettings
from lg_streaming.settings import RetentionSettings

UPDATES = 20_000
ROUNDS = 9
TARGET_US = 6.0


def payload_only() -> None:
    for index in range(UPDATES):
        _ = {"content": "word ", "index": index, "role": "ai"}


def plain_json() -> None:
    kept: list[str] = []
    for index in range(UPDATES):
        metadata = {
            "timestamp": datetime.now(UTC).isoformat(),
            "execution_id": "e",
            "node_id": "write",
            "sequence_number": index,
        }
        data = {"content": "word ", "index": index, "role": "ai"}
        kept.append(json.dumps({"type": "token", "data": data, "metadata": metadata}))


def tokens(hub: StreamHub) -> None:
    emitter = hub.emitter("e", node_id="write")
    for _ in range(UPDATES):
        emitter.token("word ")


def events(hub: StreamHub) -> None:
    emitter = hub.emitter("e", node_id="write")
    for index in range(UPDATES):
        emitter.event("note", {"content": "word ", "index": index, "role": "ai"})


def emits(hub: StreamHub) -> None:
    for index in range(UPDATES):
        hub.emit("e", "note", {"content": "word ", "index": index, "role": "ai"}, category="c")


def microseconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) / UPDATES * 1e6


def with_hub(work: Callable[[StreamHub], None]) -> float:
    keep = RetentionSettings(max_updates=UPDATES * 2, max_bytes=2**30)
    return microseconds(lambda: work(StreamHub(StreamingSettings(retention=keep))))


def main() -> None:
    ways: dict[str, Callable[[], float]] = {
        "payload": lambda: microseconds(payload_only),
        "json.dumps and a list": lambda: microseconds(plain_json),
        "emitter.token": lambda: with_hub(tokens),
        "emitter.event": lambda: with_hub(events),
        "hub.emit": lambda: with_hub(emits),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(ROUNDS + 1):  # the first warms up
        for name, measure in ways.items():
            taken = measure()
            if round_number:
                times[name].append(taken)
    us = {name: statistics.median(taken) for name, taken in times.items()}
    line: dict[str, Any] = {
        "name": "emitter",
        "ratio": round(us["emitter.token"] / us["json.dumps and a list"], 2),
        "target": f"<= {TARGET_US} us an update into the memory log",
        "ok": max(us["emitter.token"], us["emitter.event"]) <= TARGET_US,
        **{f"{name.replace(' ', '_')}_us": round(value, 2) for name, value in us.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
