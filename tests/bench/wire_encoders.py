"""The encoder of one stream of each wire, and the updates of a chat to feed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, cast

from langgraph.checkpoint.memory import InMemorySaver

from lg_streaming import StreamingModule
from lg_streaming.gateway.dialects.agui.encoder import AgUiEncoder
from lg_streaming.gateway.dialects.agui.reading import Reading
from lg_streaming.gateway.dialects.ai_sdk.encoder import Form, UiMessageStream
from lg_streaming.gateway.dialects.durable_streams.encoder import DurableEncoder
from lg_streaming.gateway.dialects.langgraph.channels import Selection
from lg_streaming.gateway.dialects.langgraph.encoder import RunEncoder
from lg_streaming.gateway.dialects.langgraph.event_stream import sse_frame
from lg_streaming.gateway.dialects.langgraph.segments import segment_id
from lg_streaming.gateway.dialects.langgraph.tape import Tape
from lg_streaming.gateway.dialects.langgraph.view import RunView
from lg_streaming.gateway.http.native import Native
from lg_streaming.log.base import StoredUpdate
from lg_streaming.settings import TokenDefaults
from tests.bench.chats import CHANNELS, MODES
from tests.bench.stage import settings
from tests.bench.start_graph import chat_of

EXECUTION: Final = "chat"
PAGE: Final = 10
"""Updates that an encoder gets at once."""


def _source() -> Any:
    return SimpleNamespace(lag=0, position=None, read_to_end=False, close=lambda: None)


def _native(run_id: str) -> Any:
    return Native(EXECUTION, event="type", ids=True, batch=False).frame_encoder


def _ai_sdk(run_id: str) -> Any:
    return UiMessageStream(Form(), run_id=run_id)


def _ag_ui(run_id: str) -> Any:
    return AgUiEncoder(Reading(thread_id=EXECUTION, run_id=run_id, log_run_id=run_id), _source())


def _langgraph(run_id: str) -> Any:
    return RunEncoder(RunView(thread_id=EXECUTION, run_id=run_id, own_run=run_id, modes=frozenset(MODES)))


def _langgraph_events(run_id: str) -> Any:
    wanted: dict[str, Any] = {"channels": CHANNELS, "namespaces": [[]], "depth": 1}
    return Tape(sse_frame, [Selection.parse(wanted)], segment_id)


def _durable_streams(run_id: str) -> Any:
    return DurableEncoder(cast("Any", SimpleNamespace(position=None, source=_source())), None)


ENCODERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "native": _native,
    "ai-sdk": _ai_sdk,
    "ag-ui": _ag_ui,
    "langgraph": _langgraph,
    "langgraph-events": _langgraph_events,
    "durable-streams": _durable_streams,
}
"""Makers of encoders, by the chats of `tests.bench.chats`."""


async def updates_of_a_chat(tokens: int, defaults: TokenDefaults) -> Sequence[StoredUpdate]:
    """The updates of a run whose answer has so many tokens."""
    changed = {"token_defaults": defaults, "runs": {"publish_states": True}}
    async with StreamingModule({**settings().model_dump(), **changed}) as module:
        await module.runs.run(chat_of(tokens, checkpointer=InMemorySaver()), {"messages": "t"}, execution_id=EXECUTION)
        found = await module.hub.log.read(EXECUTION, 0, 10 * tokens)
    assert found is not None
    return found.records


def encode(chat: str, records: Sequence[StoredUpdate]) -> tuple[float, int]:
    """Encode a chat as one stream; return the seconds of the processor, and the bytes."""
    run_id = str(records[0].scope.run_id)
    encoder, size = ENCODERS[chat](run_id), 0
    pages = [records[at : at + PAGE] for at in range(0, len(records), PAGE)]
    began = time.process_time()
    for page in pages:
        size += len(encoder.encode(EXECUTION, page).wire)
    return time.process_time() - began, size
