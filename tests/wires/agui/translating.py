"""The encoder without a server: the streams that requests and readers of recorded updates would get."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from lg_streaming.gateway.dialects.agui.encoder import AgUiEncoder
from lg_streaming.gateway.dialects.agui.interrupts import interrupts_of
from lg_streaming.gateway.dialects.agui.messages import messages_in
from lg_streaming.gateway.dialects.agui.reading import Reading
from lg_streaming.log.base import StoredUpdate
from tests.wires.agui.rules import checked, events_in
from tests.wires.recordings import EXECUTION

FINAL = ("workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned")


@dataclass
class Source:
    """The part of a subscription that an encoder uses."""

    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Streamed:
    """One run, as a client gets it."""

    body: bytes
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    end: int = 0
    """Number of updates that were read."""


def stream(
    records: Sequence[StoredUpdate], reading: Reading, cuts: Sequence[int] = (), *, gap: int | None = None
) -> Streamed:
    """Encode updates from the first of a run to its end, in pages that are cut at the given places.

    Updates before the number `gap` are missing; it is the beginning of a page.
    """
    source = Source()
    encoder = AgUiEncoder(reading, cast("Any", source))
    parts = [encoder.before_stream(1000, {})]
    bounds = [0, *sorted({each for each in cuts if 0 < each < len(records)}), len(records)]
    end = 0
    for start, stop in itertools.pairwise(bounds):
        if start == gap and not source.closed:
            parts.append(encoder.encode_event("gap", {}))
        if not source.closed:
            parts.append(encoder.encode(EXECUTION, records[start:stop]).wire)
            end = stop
        if not source.closed and (stop == len(records) or not reading.replays):
            parts.append(encoder.caught_up())
    parts.append(encoder.on_end(None, run_is_over=False))
    body = b"".join(parts)
    return Streamed(body, checked(events_in(body), is_modern=reading.is_modern), end)


def requests(records: Sequence[StoredUpdate], reading: Reading, cuts: Sequence[int] = ()) -> Iterator[Streamed]:
    """Encode the stream of each request: a start, and after each interrupt an answer."""
    known: set[str] = set(reading.known)
    asked: dict[str, str] = {}
    for run_id, part in parts_of(records):
        yield stream(part, replace(reading, log_run_id=run_id, known=frozenset(known), known_calls=dict(asked)), cuts)
        for record in part:
            if record.type == "state" and not record.scope.namespace:
                messages = messages_in(record.update.data.get("values"))
                known |= {each["id"] for each in messages}
                asked |= {call["id"]: each["id"] for each in messages for call in each.get("tool_calls", ())}


def parts_of(records: Sequence[StoredUpdate]) -> Iterator[tuple[str | None, Sequence[StoredUpdate]]]:
    """Cut updates after each end of a request, as the position of the next one's subscription is there."""
    start = 0
    for place, record in enumerate(records):
        stops = record.type == "workflow_interrupted" and bool(interrupts_of(record.update.data))
        if stops or record.type in FINAL:
            yield record.scope.run_id, records[start : place + 1]
            start = place + 1
