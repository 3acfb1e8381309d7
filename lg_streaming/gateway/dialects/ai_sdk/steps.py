"""Steps, texts and tool calls of the message that one stream writes.

A client breaks at a delta without a start, and at an output without a call. Old ones break at a text that is open over
the end of a step. This state decides which chunks have to come before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from lg_streaming.gateway.dialects.ai_sdk.chunks import chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Call", "Part", "Steps"]

Kind = Literal["text", "reasoning"]

_START_STEP: Final = chunk("start-step")
_FINISH_STEP: Final = chunk("finish-step")
_END: Final = b'"}\n\n'


class Part:
    """An open text or reasoning part. Its delta waits, so that tokens which are read together make one chunk."""

    __slots__ = ("_begin", "end", "kind", "pending")

    def __init__(self, kind: Kind, part_id: str) -> None:
        self.kind: Kind = kind
        self.pending: list[bytes] = []
        """Contents of JSON texts, without their quotes."""
        self._begin = b'data: {"type":"%b-delta","id":"%b","delta":"' % (kind.encode(), part_id.encode())
        self.end = chunk(f"{kind}-end", id=part_id)

    def take(self) -> bytes:
        """Return the delta that waits, as a chunk."""
        if not self.pending:
            return b""
        text = self.pending[0] if len(self.pending) == 1 else b"".join(self.pending)
        self.pending.clear()
        return b"%b%b%b" % (self._begin, text, _END)


@dataclass(slots=True, kw_only=True)
class Call:
    """A tool call of the message."""

    call_id: str
    name: str
    step: int
    """Number of the step that has the call's part."""
    state: Literal["streaming", "available", "closed"] = "streaming"
    is_dynamic: bool = False
    """True for a call that asks a person, and is none of a model's."""
    is_approved: bool = False
    """True after a person has approved it: a client sends its approval again until it has an output."""
    args: list[str] = field(default_factory=list[str])
    """Pieces of the arguments, until they are complete."""
    input: Any = None


class Steps:
    """State of a message, and writer of its chunks.

    Args:
        begin: Returns the chunks that begin the message, when its first chunk is due.
    """

    def __init__(self, begin: Callable[[], bytes]) -> None:
        self.out: list[bytes] = []
        """Chunks that were written and not taken yet."""
        self.begun: bool = False
        self.number: int = 0
        """Number of the present step."""
        self.is_due: bool = True
        """True if the next content belongs to a new step."""
        self.calls: dict[str, Call] = {}
        self._begin = begin
        self._open: dict[Hashable, Part] = {}
        self._in_step = False
        self._used = False  # whether the step has content
        self._part_count = 0

    # ------------------------------------------------------------ the message
    def write(self, data: bytes) -> None:
        """Write chunks, after those that wait."""
        self.flush()
        if not self.begun:
            self.begin()
        self.out.append(data)

    def begin(self) -> None:
        """Begin the message, if it has not begun."""
        if not self.begun:
            self.begun = True
            self.out.append(self._begin())

    def flush(self) -> None:
        """Write the deltas that wait."""
        for part in self._open.values():
            if part.pending:
                self.out.append(part.take())

    def take(self) -> bytes:
        """Return the written chunks."""
        self.flush()
        data = b"".join(self.out)
        self.out.clear()
        return data

    def go_on(self) -> None:
        """Continue the message in another stream."""
        self.out.clear()
        self._open.clear()
        self.begun = self._in_step = self._used = False
        self.is_due = True

    # ------------------------------------------------------------ steps
    def enter(self) -> None:
        """Begin a step for content, if it needs one. While a text is open the step goes on."""
        if not self._in_step:
            self.write(_START_STEP)
            self._in_step = True
            self._next()
        elif self.is_due and self._used and not self._open:
            self.write(_FINISH_STEP + _START_STEP)
            self._next()
        self._used = True

    def _next(self) -> None:
        self.number += 1
        self.is_due = self._used = False

    def begin_step(self) -> None:
        """Begin a step with nothing else in it."""
        self.close_parts()
        self.is_due = True
        self.enter()

    def leave(self) -> None:
        """End the present step."""
        self.close_parts()
        if self._in_step:
            self.write(_FINISH_STEP)
            self._in_step = False

    def reset_step(self) -> None:
        """Remove the content of the present step, with the chunk that only version 7 knows."""
        if self._in_step:
            self.close_parts()
            self.write(chunk("reset-step"))
            self.calls = {name: each for name, each in self.calls.items() if each.step != self.number}
            self._used = False

    def add_empty_step(self) -> None:
        """Add a step without content, after tools: else a client sends their outputs back at once."""
        self.leave()
        self.write(_START_STEP + _FINISH_STEP)
        self._next()

    # ------------------------------------------------------------ texts
    def part(self, key: Hashable, kind: Kind, node: str | None, message_id: str | None) -> Part:
        """Return the open part of a text; begin it if needed. A part of the other kind ends.

        The part has the node and the id of LangChain's message in its metadata.
        """
        part = self._open.get(key)
        if part is not None and part.kind == kind:
            return part
        if part is not None:
            self.close_part(key)
        self.enter()
        self._part_count += 1
        part_id = str(self._part_count)
        part = Part(kind, part_id)
        facts = {name: value for name, value in {"node": node, "message_id": message_id}.items() if value}
        self.write(chunk(f"{kind}-start", id=part_id, providerMetadata={"langgraph": facts} if facts else None))
        self._open[key] = part
        return part

    def close_part(self, key: Hashable) -> None:
        """End the open part of a text, if there is one."""
        part = self._open.pop(key, None)
        if part is not None:
            self.write(part.take() + part.end)

    def close_parts(self, matches: Callable[[Any], bool] | None = None) -> None:
        """End the open parts whose key fits; all when no condition is given."""
        for key in [key for key in self._open if matches is None or matches(key)]:
            self.close_part(key)

    # ------------------------------------------------------------ calls
    def add_call(self, call_id: str, name: str, *, is_dynamic: bool = False) -> Call:
        """Return the call of an id; add it, in the present step, if it is new."""
        call = self.calls.get(call_id)
        if call is None:
            self.enter()
            call = self.calls[call_id] = Call(call_id=call_id, name=name, step=self.number, is_dynamic=is_dynamic)
        return call

    def stream_args(self, call: Call, args: str) -> None:
        """Write a piece of a call's arguments."""
        if call.state == "streaming":
            if not call.args:
                self.write(chunk("tool-input-start", toolCallId=call.call_id, toolName=call.name))
            call.args.append(args)
            if args:
                self.write(chunk("tool-input-delta", toolCallId=call.call_id, inputTextDelta=args))

    def complete_args(self, call: Call) -> None:
        """Write the input of a call whose arguments have all come, if they were streamed."""
        if call.state == "streaming" and call.args:
            text = "".join(call.args)
            try:
                self.show_input(call, orjson.loads(text or "{}"))
            except orjson.JSONDecodeError:
                self.show_input(call, text)

    def show_input(self, call: Call, value: Any) -> None:
        """Write the input of a call, unless the client has it."""
        if call.state == "available" and call.input == value:
            return
        call.state, call.input, call.args = "available", value, []
        shown: Any = {} if value is None else value
        fields: dict[str, Any] = {"toolCallId": call.call_id, "toolName": call.name, "input": shown}
        self.write(chunk("tool-input-available", **fields, dynamic=call.is_dynamic or None))

    def close_call(self, call: Call, end: bytes) -> None:
        """Write the end of a call, and let the next content begin a step."""
        self.write(end)
        call.state, self.is_due = "closed", True

    def calls_of_step(self) -> list[Call]:
        """Return the calls whose parts are in the last step."""
        return [each for each in self.calls.values() if each.step == self.number]
