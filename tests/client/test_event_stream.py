"""Bytes of an event stream, cut anywhere, give the events of the HTML standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.client.event_stream import EventStreamParser, EventTooLargeError, StreamEvent

LINES = st.sampled_from(
    [
        *("data: a", "data:b", "data", "data:  two", "data: ä€😀", "event: x", "event", "event: y"),
        *("id: e:1", "id: e\0", "id", ": beat", "retry: 12", "retry: 1x", "nonsense", ""),
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def parse(pieces: list[bytes], max_bytes: int = 10_000) -> tuple[list[StreamEvent], EventStreamParser]:
    parser = EventStreamParser(max_bytes)
    return [event for piece in pieces for event in parser.feed(piece)], parser


def by_the_standard(lines: list[str]) -> tuple[list[StreamEvent], int, float | None]:
    """The same rules, written down line by line; without the last event id, which here is an event's own."""
    events: list[StreamEvent] = []
    comments, retry = 0, None
    name, data, identity = "", list[str](), None
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(StreamEvent(name, "\n".join(data).encode(), identity))
            name, data, identity = "", [], None
        elif not field:
            comments += 1
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            identity = value
        elif field == "retry" and value.isdigit():
            retry = int(value) / 1000
    return events, comments, retry


@pytest.mark.row("CFLOW-D8")
@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.booleans(), st.lists(st.integers(1, 12), max_size=60))
def test_any_stream_cut_anywhere(lines: list[tuple[str, str]], marked: bool, cuts: list[int]) -> None:
    # A lone CR before a line that begins with LF would be one end of line: such a pair counts as CRLF.
    text = "".join(line + end for line, end in lines)
    whole = ("\ufeff" if marked else "") + text
    wire, pieces = whole.encode(), list[bytes]()
    for cut in cuts:
        pieces.append(wire[:cut])
        wire = wire[cut:]
    events, parser = parse([*pieces, wire])
    expected_lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    expected, comments, retry = by_the_standard(expected_lines)
    assert events == expected
    assert (parser.comments, parser.retry) == (comments, retry)


def test_what_is_not_complete_is_not_given() -> None:
    events, _ = parse([b"data: a\n\ndata: b\n"])
    assert [event.data for event in events] == [b"a"]


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_an_event_may_not_grow_for_ever(size: int) -> None:
    wire = b"data: " + b"x" * 20_000
    with pytest.raises(EventTooLargeError, match="more than 10000 bytes"):
        parse([wire[start : start + size] for start in range(0, len(wire), size)])


def test_many_lines_of_one_event_may_not_grow_for_ever_either() -> None:
    with pytest.raises(EventTooLargeError):
        parse([b"data: x\n"] * 2_000)


def test_many_events_are_no_large_event() -> None:
    events, _ = parse([b"data: 0123456789\n\n"] * 2_000)
    assert len(events) == 2_000
