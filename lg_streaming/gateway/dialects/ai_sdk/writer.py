"""Writer of a message: the updates of a run, or of the runs that write one message, as chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from lg_streaming.codec import Codec
from lg_streaming.events import StreamEventType
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.ai_sdk.asking import Question, close, output, place, read_question
from lg_streaming.gateway.dialects.ai_sdk.chunks import chunk, items_of, members, text_of
from lg_streaming.gateway.dialects.ai_sdk.data import (
    artifact_chunks,
    custom_part,
    data_of,
    data_part,
    error_text,
    file_chunks,
    message_texts,
    source_chunks,
)
from lg_streaming.gateway.dialects.ai_sdk.steps import Call, Part, Steps
from lg_streaming.gateway.dialects.wire import output_of
from lg_streaming.globs import Globs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.events import Scope
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["ENDS", "METADATA_KEY", "Form", "MessageWriter"]

_JSON: Final = Codec()
_NONE: Final = Globs(())
_TOKEN: Final = b'{"type":"token","data":{"content":"'
_TEXT_AT: Final = len(_TOKEN)
_INDEX: Final = b'","index":'
_KNOWN: Final = frozenset({*map(str, StreamEventType), "state"})
ENDS: Final[Mapping[ExecutionState, str]] = {
    "completed": "workflow_complete",
    "failed": "workflow_error",
    "cancelled": "workflow_cancelled",
    "abandoned": "workflow_abandoned",
}
"""Types of the final updates, by the state that they lead to."""
METADATA_KEY: Final = "ai_sdk"
"""Key in the metadata of a run that continues the message of an earlier run: ``{message_id, after}``."""

_Reader = Callable[[Any, "StoredUpdate", Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Chunks that a stream may have."""

    clients: Literal["any", "5", "7"] = "any"
    """Major versions of the clients, see ``wires.ai_sdk_clients``."""
    data: Globs = _NONE
    """Types of updates that are sent as transient data parts."""


class MessageWriter:
    """Writer of the chunks of one message, and its state; a `FrameEncoder`.

    Args:
        form: Chunks that the stream may have.
        message_id: Id of the message; default: that of its first run.
        run_id: Id of the run, if it is known before its first update.
        replay_until: Sequence number up to which updates are a replay. Its transient parts are left out. Of the parts
            with one id, the first and the last are sent.
    """

    def __init__(
        self, form: Form, *, message_id: str | None = None, run_id: str | None = None, replay_until: int = 0
    ) -> None:
        self.questions: dict[str, Question] = {}
        """Prompts without an answer, by id."""
        self._form = form
        self._message_id = message_id
        self._run_id = run_id
        self._execution_id = ""
        self._replay_until = replay_until
        self._steps = Steps(self._start)
        self._waits = False  # for a person
        self._outcome: tuple[str, Any] | None = None
        self._usage: dict[str, float] = {}
        self._scope: Scope | None = None
        self._part: Part | None = None
        self._attempts: dict[str, int] = {}
        self._seen: set[str] = set()  # messages whose text was sent
        self._indexed: dict[tuple[Any, ...], str] = {}  # calls by message and index
        self._bare: dict[tuple[str, str], str] = {}  # calls without an id, by place and tool
        self._latest: dict[tuple[str, str], bytes | None] = {}  # data parts of a replay
        self._places: dict[str, int] = {}  # number of the last step with content of a namespace
        self._gap = b""
        self._left_out: set[str] = set()  # calls that the client has answered, and could not find

    def _start(self) -> bytes:
        message_id = self._message_id or self._run_id
        known = {"execution_id": self._execution_id, "run_id": self._run_id}
        metadata = {name: value for name, value in known.items() if value}
        return chunk("start", messageId=message_id, messageMetadata=metadata)

    # ------------------------------------------------------------ updates
    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """See `FrameEncoder.encode`."""
        self._execution_id = execution_id
        for record in records:
            if record.type == "token" and record.scope is self._scope and self._part is not None:
                json = record.json
                end = json.find(_INDEX, _TEXT_AT) if json.startswith(_TOKEN) else -1
                if end > _TEXT_AT:
                    text = json[_TEXT_AT:end]
                    if b'"' not in text:  # neither an escaped quote nor the end of a content without an index
                        self._part.pending.append(text)
                        continue
            self._read(record)
        return Frames(self._steps.take())

    def _read(self, record: StoredUpdate) -> None:
        self._forget()
        if self._run_id is None:
            self._run_id = record.scope.run_id
        if self._gap and record.type != "workflow_start":
            self._steps.write(self._gap)
            self._gap = b""
        if self._latest and record.seq > self._replay_until:
            self._end_replay()
        name = record.type
        read = self._READERS.get(name)
        if read is not None:
            if self._is_current(record.scope):
                read(self, record, data_of(record))
        elif name not in _KNOWN and not name.startswith(("task:", "agent:")):
            name, data, part_id, transient = custom_part(name, data_of(record))
            self._write_data(record, name, data, part_id, transient=transient)
        elif self._form.data.matches(name):
            part_id = record.scope.namespace or record.scope.node_id
            self._write_data(record, name, data_of(record), part_id, transient=True)

    def _forget(self) -> None:
        """Look the part of the next token up: the one that is known may end."""
        self._scope = self._part = None

    def _is_current(self, scope: Scope) -> bool:
        """Return whether an update is not of an older attempt of its node; a newer attempt ends the node's texts."""
        where, attempt = scope.namespace or scope.node_id, scope.attempt
        if where is None or attempt is None:
            return True
        known = self._attempts.get(where, 0)
        if attempt > known:
            self._attempts[where] = attempt
            if known:
                self._steps.close_parts(lambda key: key[0] == where)
        return attempt >= known

    # ------------------------------------------------------------ texts
    def _read_token(self, record: StoredUpdate, data: Any) -> None:
        scope, fields = record.scope, members(data)
        content = data if isinstance(data, str) else fields.get("content")
        blocks = fields.get("blocks")
        if blocks is not None:
            for file in file_chunks(blocks):
                self._enter(scope)
                self._steps.write(file)
        if not isinstance(content, str) or not content:
            return
        message_id = scope.message_id or text_of(fields.get("message_id"))
        part = self._text(scope, message_id, "text")
        part.pending.append(_JSON.to_json(content)[1:-1])
        # the tokens that follow in this scope need no look-up
        self._scope, self._part = (scope, part) if scope.message_id is not None else (None, None)

    def _read_thinking(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        content = data if isinstance(data, str) else fields.get("content")
        if isinstance(content, str) and content:
            message_id = record.scope.message_id or text_of(fields.get("message_id"))
            self._text(record.scope, message_id, "reasoning").pending.append(_JSON.to_json(content)[1:-1])

    def _text(self, scope: Scope, message_id: str | None, kind: Literal["text", "reasoning"]) -> Part:
        if message_id is not None:
            self._seen.add(message_id)
        where = _where(scope)
        part = self._steps.part((where, message_id), kind, scope.node_id, message_id)
        self._places[where] = self._steps.number
        return part

    def _enter(self, scope: Scope) -> None:
        self._steps.enter()
        self._places[_where(scope)] = self._steps.number

    def _read_llm_start(self, record: StoredUpdate, _data: Any) -> None:
        self._steps.is_due = True
        if record.scope.message_id is not None:
            self._seen.add(record.scope.message_id)

    def _read_llm_complete(self, record: StoredUpdate, data: Any) -> None:
        self._end_message(record.scope)
        for call_id in [call for key, call in self._indexed.items() if key[:2] == _message_key(record.scope)]:
            self._steps.complete_args(self._steps.calls[call_id])
        for name, value in members(members(data).get("usage")).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._usage[name] = self._usage.get(name, 0) + value

    def _read_llm_error(self, record: StoredUpdate, _data: Any) -> None:
        self._end_message(record.scope)

    def _end_message(self, scope: Scope) -> None:
        self._steps.close_part(_message_key(scope))

    def _read_node_start(self, record: StoredUpdate, _data: Any) -> None:
        self._waits = False
        if self._form.clients == "7" and (record.scope.attempt or 1) > 1:
            self._take_back(_where(record.scope))

    def _take_back(self, where: str) -> None:
        """Remove the step of a node that runs again, if all its content is the node's."""
        places = [each for each, number in self._places.items() if number == self._steps.number]
        if places and all(_is_within(each, where) for each in places):
            self._steps.reset_step()

    def _read_node_end(self, record: StoredUpdate, data: Any) -> None:
        where = _where(record.scope)
        self._steps.close_parts(lambda key: _is_within(key[0], where))
        if record.type != "node_complete":
            return
        for message_id, text in message_texts(members(data).get("result")):
            if message_id not in self._seen:
                self._text(record.scope, message_id, "text").pending.append(_JSON.to_json(text)[1:-1])
                self._steps.close_part((where, message_id))

    # ------------------------------------------------------------ tools
    def _read_tool_args(self, record: StoredUpdate, data: Any) -> None:
        fields, scope = members(data), record.scope
        index = fields.get("index")
        key = (*_message_key(scope), index if isinstance(index, int) else None)
        call_id = text_of(fields.get("tool_call_id")) or self._indexed.get(key)
        name = text_of(fields.get("tool"))
        call = None if call_id is None else self._steps.calls.get(call_id)
        if call is None and (call_id is None or name is None):
            return  # its beginning is in a gap
        if call is None and call_id is not None and name is not None:
            self._end_message(scope)
            call = self._steps.add_call(call_id, name)
            self._places[_where(scope)] = call.step
        if call is not None:
            self._indexed[key] = call.call_id
            args = fields.get("args")
            self._steps.stream_args(call, args if isinstance(args, str) else "")

    def _call(self, record: StoredUpdate, fields: dict[str, Any]) -> Call | None:
        name = text_of(fields.get("tool")) or "tool"
        call_id = text_of(fields.get("tool_call_id")) or record.scope.tool_call_id
        where = (_where(record.scope), name)
        if call_id is None:
            call_id = self._bare.setdefault(where, f"call-{record.seq}")
            if record.type != "tool_start":
                del self._bare[where]
        if call_id in self._left_out:
            self._steps.is_due = True
            return None
        call = self._steps.add_call(call_id, name)
        self._places[where[0]] = call.step
        return call

    def _read_tool_start(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        call = self._call(record, fields)
        if call is not None:
            self._show_input(call, fields)

    def _show_input(self, call: Call, fields: dict[str, Any]) -> None:
        """Write the input of a call; one that the log has shortened only if the client has no other."""
        if "input" in members(fields.get("truncated")):
            self._steps.complete_args(call)
            if call.state != "streaming":
                return
        self._steps.show_input(call, fields.get("input"))

    def _read_tool_end(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        call = self._call(record, fields)
        if call is None:
            return
        if call.state != "available":
            self._show_input(call, fields)
        if record.type == "tool_error":
            text = error_text(fields.get("error"), "the tool failed")
            self._steps.close_call(call, chunk("tool-output-error", toolCallId=call.call_id, errorText=text))
        else:
            self._steps.close_call(call, output(call, output_of(fields.get("output"), call.call_id)))

    # ------------------------------------------------------------ sources, files, data
    def _read_sources(self, record: StoredUpdate, data: Any) -> None:
        for each in source_chunks(data, record.seq):
            self._enter(record.scope)
            self._steps.write(each)

    def _read_artifacts(self, record: StoredUpdate, data: Any) -> None:
        for each in artifact_chunks(data):
            self._enter(record.scope)
            self._steps.write(each)

    def _read_custom(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        name, content, part_id, transient = custom_part(fields.get("name"), fields.get("data"))
        self._write_data(record, name, content, part_id, transient=transient)

    def _read_error(self, record: StoredUpdate, data: Any) -> None:
        self._write_data(record, "error", {"message": error_text(data, "an error")}, None, transient=True)

    def _write_data(self, record: StoredUpdate, name: str, data: Any, part_id: str | None, *, transient: bool) -> None:
        is_replay = record.seq <= self._replay_until
        if transient and is_replay:
            return
        part = data_part(name, data, id=part_id, transient=transient)
        key = (name, part_id or "")
        if part_id is not None and is_replay and key in self._latest:
            self._latest[key] = part
            return
        if part_id is not None and is_replay:
            self._latest[key] = None
        if not transient:
            self._enter(record.scope)
        self._steps.write(part)

    def _end_replay(self) -> None:
        """Write the last of the data parts that were left out."""
        latest, self._latest = self._latest, {}
        for part in latest.values():
            if part is not None:
                self._steps.write(part)

    # ------------------------------------------------------------ people
    def _read_human_prompt(self, record: StoredUpdate, data: Any) -> None:
        """Send a question of the program itself, for whose answer no graph waits, as data."""
        fields = members(data)
        if not fields.keys() & {"value", "namespace", "node_id", "tool_call_id"}:
            self._write_data(record, "human-prompt", data, text_of(fields.get("prompt_id")), transient=False)

    def _read_interrupted(self, _record: StoredUpdate, data: Any) -> None:
        self._steps.close_parts()
        for each in items_of(members(data).get("prompts")):
            question = read_question(members(each))
            if question is not None:
                place(question, self._steps)
                self.questions[question.prompt_id] = question
        self._waits = True

    def _read_human_response(self, _record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        question = self.questions.pop(str(fields.get("prompt_id")), None)
        if question is not None:
            close(question, fields.get("response"), self._steps, approvals=self._form.clients != "5")

    def _read_status(self, _record: StoredUpdate, data: Any) -> None:
        if members(data).get("status") in ("resumed", "running"):
            self._waits = False
            self.questions.clear()  # the program resumed the graph without the answers

    # ------------------------------------------------------------ runs
    def _read_workflow_start(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        if self._outcome is None or self._run_id is None:
            self._run_id = text_of(fields.get("run_id")) or record.scope.run_id
            known = members(members(fields.get("metadata")).get(METADATA_KEY)).get("message_id")
            self._message_id = self._message_id or text_of(known) or text_of(fields.get("resumed_from"))
        self._outcome, self._waits = None, False
        self.questions.clear()
        self._attempts.clear()
        self._steps.is_due = True

    def _read_workflow_end(self, record: StoredUpdate, data: Any) -> None:
        self._steps.close_parts()
        self._outcome, self._waits = (record.type, data), False

    _READERS: ClassVar[Mapping[str, _Reader]] = {
        "token": _read_token,
        "thinking": _read_thinking,
        "tool_args": _read_tool_args,
        "tool_start": _read_tool_start,
        "tool_complete": _read_tool_end,
        "tool_error": _read_tool_end,
        "llm_start": _read_llm_start,
        "llm_complete": _read_llm_complete,
        "llm_error": _read_llm_error,
        "node_start": _read_node_start,
        **dict.fromkeys(("node_complete", "node_error", "node_interrupted"), _read_node_end),
        "source_documents": _read_sources,
        "artifacts": _read_artifacts,
        "custom": _read_custom,
        "error": _read_error,
        "human_prompt": _read_human_prompt,
        "human_response": _read_human_response,
        "status": _read_status,
        "workflow_start": _read_workflow_start,
        "workflow_interrupted": _read_interrupted,
        **dict.fromkeys(ENDS.values(), _read_workflow_end),
    }


def _where(scope: Scope) -> str:
    return scope.namespace or scope.node_id or ""


def _message_key(scope: Scope) -> tuple[str, str | None]:
    return _where(scope), scope.message_id


def _is_within(where: str, around: str) -> bool:
    return where == around or where.startswith((f"{around}|", f"{around}/"))
