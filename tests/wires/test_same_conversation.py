"""The same conversation, read through all wires, gives the same texts, tool calls and end.

The updates are those of recorded runs, or made up by hypothesis. They come in pages. The connection is lost anywhere,
in the middle of a frame too. The reader connects again as the stock client of its wire does. All are compared with
`TextAssembly` and the updates themselves.

Wires differ by their nature in this (the page of the docs on the choice of a wire has the same list):

- A text of a try that failed stays in the AI SDK's message: its portable chunks cannot take text back. Our event stream
  and Durable Streams take it back; the other wires show it until their next state.
- AG-UI and LangGraph show the message of a failed tool to its model, where there is one, in place of the error.
- A call that a human rejects has a result on the wires that read the graph's state.
- The AI SDK shows a question of a graph as a call, `human_prompt`.
- The AI SDK has no word for a run whose process is gone but `abort`, as for a cancelled one.
- LangGraph's modes end in the same way after a run that is complete and one that is cancelled: a client asks
  for the run's status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lg_streaming.log.base import StoredUpdate
from tests.wires.conversation import Call, Conversation
from tests.wires.recordings import RECORDINGS, Recording, record_all
from tests.wires.sequences import sequences
from tests.wires.watching import VIEWERS, Plan, watch

EXACT = {"native", "durable-streams"}
"""Wires that carry our updates unchanged."""
NO_IDS = {"ai-sdk"}
"""Wires whose texts have no id of their message."""
RELOADED = {"ag-ui"}
"""Wires whose page is loaded anew at each connection: one that was lost in a try that failed has a part of its text."""
NO_END = {"langgraph"}
"""Wires on which a cancelled run ends like a complete one."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recording]:
    return asyncio.run(record_all())


def identified(texts: Mapping[str, str], sent: Mapping[str, str]) -> dict[str, str]:
    """Give texts without ids those of the messages that were sent; a message may be in several parts."""
    parts = list(texts.values())

    def assign(number: int, so_far: dict[str, str]) -> dict[str, str] | None:
        if number == len(parts):
            return so_far
        for id_, whole in sent.items():
            begun = so_far.get(id_, "")
            if whole.startswith(parts[number], len(begun)):
                found = assign(number + 1, {**so_far, id_: begun + parts[number]})
                if found is not None:
                    return found
        return None

    found = assign(0, {})
    assert found is not None, f"these parts are not the texts that were sent: {parts} of {sent}"
    return found


def check(name: str, seen: Conversation, records: Sequence[StoredUpdate]) -> None:
    """Compare what a client has with the updates."""
    valid, sent = Conversation.of(records), Conversation.of(records, takes_back=False)
    texts = identified(seen.texts, sent.texts) if name in NO_IDS else seen.texts
    assert valid.texts.items() <= texts.items()
    if name in RELOADED:
        assert all(sent.texts[id_].startswith(text) for id_, text in texts.items())
    else:
        assert texts.items() <= sent.texts.items()
    if name in EXACT:
        assert seen == valid
    if name in NO_IDS:
        assert texts == sent.texts
    calls = {id_: call for id_, call in seen.calls.items() if call.name != "human_prompt"}
    assert {id_: (call.name, call.input) for id_, call in calls.items()} == {
        id_: (call.name, call.input) for id_, call in valid.calls.items()
    }
    for id_, call in valid.calls.items():
        check_result(calls[id_], call)
    if name not in NO_END:
        assert seen.end == ("cancelled" if name == "ai-sdk" and records[-1].type == "workflow_abandoned" else valid.end)


def check_result(seen: Call, call: Call) -> None:
    if call.output is not None:
        assert (seen.output, seen.error) == (call.output, None)
    elif call.error is not None:
        shown = seen.error if seen.error is not None else seen.output
        assert shown is not None
        assert call.error in shown


def plans(records: Sequence[StoredUpdate]) -> list[Plan]:
    """One page a run; one update a page; and a connection that is lost after each update, with a part of its bytes."""
    places = range(1, len(records))
    return [
        Plan([]),
        Plan([(each, 1, None) for each in places]),
        Plan([(each, 3, each * 137 % 1001) for each in places]),
    ]


@pytest.mark.parametrize("name", VIEWERS)
@pytest.mark.parametrize("recording", RECORDINGS)
def test_a_recorded_run_reads_the_same(name: str, recording: str, recorded: dict[str, Recording]) -> None:
    records = recorded[recording].records
    for plan in plans(records):
        check(name, asyncio.run(watch(name, records, plan)), records)


@st.composite
def plans_of_any_kind(draw: st.DrawFn) -> Plan:
    step = st.tuples(st.integers(1, 150), st.integers(0, 8), st.none() | st.integers(0, 1000))
    return Plan(draw(st.lists(step, max_size=8)))


WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failing run of hundreds of updates takes minutes to shrink, longer than a test may last."""


@pytest.mark.parametrize("name", VIEWERS)
@settings(max_examples=15, phases=WITHOUT_SHRINKING)
@given(recording=sequences(), plan=plans_of_any_kind())
def test_any_run_reads_the_same(name: str, recording: Recording, plan: Plan) -> None:
    records = recording.records
    check(name, asyncio.run(watch(name, records, plan)), records)


@pytest.mark.parametrize("name", VIEWERS)
def test_a_late_reader_of_a_log_that_has_lost_the_beginning(name: str, recorded: dict[str, Recording]) -> None:
    records = recorded["parallel tools"].records
    late = len(records) - 3
    begin = max(index for index, each in enumerate(records) if each.type == "llm_start")
    kept = len(records) - begin
    seen = asyncio.run(watch(name, records, Plan([(late, 1, None)], late=late, kept=kept)))
    sent, complete = Conversation.of(records), Conversation.of(records[begin:])
    texts = identified(seen.texts, sent.texts) if name in NO_IDS else seen.texts
    assert complete.texts.items() <= texts.items()
    assert all(text in sent.texts[id_] for id_, text in texts.items())
    if name not in NO_END:
        assert seen.end == "complete"


def test_a_reader_notices_what_is_missing() -> None:
    """The comparison itself can fail: a text that is cut short, doubled, or of another message, is found."""
    sent = {"m": "It rains.", "n": "It snows."}
    assert identified({"1": "It rains.", "2": "It snows."}, sent) == sent
    assert identified({"1": "It ", "2": "It snows.", "3": "rains."}, sent) == sent
    for parts in ({"1": "It rains.It"}, {"1": "It rains.", "2": "It rains."}, {"1": "rains."}):
        with pytest.raises(AssertionError):
            identified(parts, sent)
