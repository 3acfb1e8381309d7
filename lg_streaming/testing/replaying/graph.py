"""Graph whose runs replay a recording, for front ends that start runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import orjson
from langchain_core.messages import BaseMessage, HumanMessage, messages_from_dict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph, add_messages
from typing_extensions import TypedDict

from lg_streaming.decorators import stream_all
from lg_streaming.publisher import RunOutcome
from lg_streaming.testing.replaying.ids import RenewedIds
from lg_streaming.testing.replaying.pace import Pace
from lg_streaming.testing.replaying.player import RunPlayer
from lg_streaming.testing.replaying.reading import items, members

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.registry import AnyGraph
    from lg_streaming.testing.replaying.recording import RecordedRun, Recording

__all__ = ["CUT_OFF", "RecordedError", "replay_graph"]

CUT_OFF: Final = RunOutcome("workflow_abandoned", {"reason": "recording_ended"})
"""End of a run whose recording has none."""
_MESSAGES: Final = "messages"
_MESSAGE_TYPES: Final = frozenset({"ai", "human", "system", "tool"})
_QUIET: Final = frozenset({"state", "status"})
"""Types before the first node, which the new run publishes itself."""
_PLACES: Final = frozenset({"checkpoint_id", "parent_checkpoint_id"})


class RecordedError(Exception):
    """Error of a recorded run. Its class has the name of the recorded one, and its `code` is the recorded one."""

    code: str | int | None = None

    @classmethod
    def of(cls, described: object) -> RecordedError:
        """Return the error of a ``workflow_error``, with its causes."""
        fields = members(described)
        name = str(fields.get("type") or "").replace("\0", "") or cls.__name__
        kind = type(name, (cls,), {"code": fields.get("code")})
        error: RecordedError = kind(fields.get("message", ""))
        last: BaseException = error
        for cause in items(fields.get("causes")):
            last.__cause__ = last = cls.of(cause)
        return error


def replay_graph(
    hub: StreamHub,
    recording: Recording,
    runs: Sequence[RecordedRun],
    *,
    name: str,
    speed: float,
    pause_at_prompts: bool,
) -> AnyGraph:
    """Return a graph each of whose runs publishes a recorded run.

    The state has the fields of the recorded states, and ``messages``. The n-th question of a thread gets the n-th
    recorded run as its answer; after the last one the first follows again, with new ids. Messages up to the last
    question are those of the thread, and the recorded answer follows them.

    Args:
        hub: The hub to which the runs belong.
        recording: The recording.
        runs: The runs of one recorded execution.
        name: The name of the graph.
        speed: Factor on the recorded pace.
        pause_at_prompts: See `RunPlayer`.
    """
    fields = {each for run in runs for each in run.fields if not each.startswith("__")} - {_MESSAGES}
    channels: dict[str, Any] = {
        _MESSAGES: Annotated[list[BaseMessage], add_messages],
        **dict.fromkeys(sorted(fields), Any),
    }
    state = cast("Any", TypedDict)("Recorded", channels, total=False)

    async def replay(values: Mapping[str, Any], config: RunnableConfig) -> dict[str, Any]:
        messages: list[BaseMessage] = list(values.get(_MESSAGES, ()))
        turn = max(1, sum(isinstance(each, HumanMessage) for each in messages)) - 1
        ids = RenewedIds(turn // len(runs) + 1)
        run = runs[turn % len(runs)]
        execution_id: str = config.get("configurable", {})["execution_id"]
        run_id = hub.runs.run_of(execution_id, "raise") or ""
        own = orjson.loads(hub.publisher.encode(messages))
        player = RunPlayer(
            hub,
            execution_id,
            run_id,
            pace=Pace(speed),
            ids=ids,
            pause_at_prompts=pause_at_prompts,
            change=_Answer(own),
        )
        final = await player.play(recording.updates(run))
        if final is not None and final.type == "workflow_complete":
            return _result(ids.data(members(final.data).get("result")), fields)
        if final is not None and final.type == "workflow_error":
            raise RecordedError.of(members(final.data).get("error"))
        outcome = CUT_OFF if final is None else RunOutcome(final.type, members(final.data))
        hub.runs.end_run(execution_id, outcome, run_id)
        await asyncio.Event().wait()  # the end cancels the graph
        return {}

    node = "replay"
    while node in fields:
        node += "_"
    builder: Any = StateGraph(state)
    builder.add_node(node, replay).add_edge(START, node)
    return stream_all(event=True, nodes=[])(builder.compile(checkpointer=InMemorySaver(), name=name))


class _Answer:
    """Change of recorded updates to those of an answer in another thread.

    Args:
        messages: The messages of the thread, as JSON.
    """

    def __init__(self, messages: Sequence[Any]) -> None:
        self._messages = messages
        self._has_begun = False

    def __call__(self, update: StreamUpdate, data: object) -> object:
        """Return the data of an update; None to drop it."""
        if update.type not in _QUIET:
            self._has_begun = True
            return data
        if not self._has_begun:
            return None
        if update.type == "status" or update.namespace is not None:
            return data
        shown = {name: value for name, value in members(data).items() if name not in _PLACES}
        values = members(shown.get("values"))
        if _MESSAGES in values:
            shown["values"] = {**values, _MESSAGES: [*self._messages, *_answer(values[_MESSAGES])]}
        return shown


def _answer(messages: object) -> list[Mapping[str, Any]]:
    """Return the messages after the last question."""
    found = [members(each) for each in items(messages)]
    questions = [place for place, each in enumerate(found) if each.get("type") == "human"]
    return found[questions[-1] + 1 :] if questions else found


def _result(result: object, fields: Iterable[str]) -> dict[str, Any]:
    """Return what the node adds to the state for the result of a recorded run."""
    values = members(result)
    answer = [each for each in _answer(values.get(_MESSAGES)) if each.get("type") in _MESSAGE_TYPES]
    messages = messages_from_dict([{"type": each["type"], "data": dict(each)} for each in answer])
    return {name: values[name] for name in fields if name in values} | {_MESSAGES: messages}
