"""Encoder of one UI message stream: its beginning, its ends, and what is between by `MessageWriter`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.ai_sdk.asking import ASKING_TOOL, announce, output
from lg_streaming.gateway.dialects.ai_sdk.chunks import DONE, KEEP_ALIVE, chunk, members
from lg_streaming.gateway.dialects.ai_sdk.data import data_part, error_text
from lg_streaming.gateway.dialects.ai_sdk.steps import Call
from lg_streaming.gateway.dialects.ai_sdk.writer import ENDS, METADATA_KEY, Form, MessageWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["METADATA_KEY", "Form", "UiMessageStream"]

_ENDED_EARLY: Final = "the stream ended before its run: load the page again"


class UiMessageStream(MessageWriter):
    """Encoder of the AI SDK's UI message stream, see `EventStreamEncoder`; its arguments: see `MessageWriter`."""

    keep_alive: bytes = KEEP_ALIVE
    shared: bool = False
    cuts: bool = True
    is_complete: bool = False

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    # ------------------------------------------------------------ before and after
    def prime(self, execution_id: str, records: Sequence[StoredUpdate]) -> None:
        """Read the updates that the client has: the message up to a pause."""
        self.encode(execution_id, records)
        self._steps.out.clear()

    def go_on(
        self, message_id: str | None, answered: Mapping[str, Mapping[str, str]], *, keeps_calls: bool = True
    ) -> None:
        """Continue the message that the client has.

        Args:
            message_id: The message's id at the client; None for the run's.
            answered: The prompts that the client has answered: ids of its tool calls, by approval id.
            keeps_calls: Whether the client's reader finds the calls of earlier streams.
        """
        for question in self.questions.values():
            question.announced = True
            for item in question.items:
                shown = answered.get(question.prompt_id, {}).get(item.approval_id)
                if shown is not None and shown != item.approval_id and shown not in self._steps.calls:
                    # the log has lost the call, the client has it
                    item.call_id, item.own_part = shown, True
                    call = Call(call_id=shown, name=item.name, step=self._steps.number, state="available")
                    self._steps.calls[shown] = call
                elif not item.own_part and item.approval_id not in self._steps.calls:
                    self._steps.add_call(item.approval_id, ASKING_TOOL, is_dynamic=True).state = "available"
        self._waits = len(answered) < len(self.questions)
        self._message_id = message_id or self._message_id
        self._steps.go_on()
        if not keeps_calls:
            self._steps.calls.clear()
            self._left_out = {call_id for shown in answered.values() for call_id in shown.values()}
        self._forget()
        self.is_complete = False

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (no client retries)
        """See `EventStreamEncoder.before_stream`. The message begins at once, if its id is known."""
        self._execution_id = str(status.get("execution_id", ""))
        if self._message_id or (self._run_id and not self._replay_until):
            self._steps.begin()
        return self._steps.take()

    def encode_event(self, event: str, payload: object) -> bytes:
        """See `EventStreamEncoder.encode_event`. A gap is a data part, and every open text begins anew."""
        if event == "gap":
            self._forget()
            self._steps.close_parts()
            self._gap = data_part("gap", {name: each for name, each in members(payload).items() if each is not None})
        return b""

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`. A run that waits for a person ends the stream."""
        self._forget()
        self._end_replay()
        if self._waits and self.questions:
            steps = self._steps
            steps.close_parts()
            for question in self.questions.values():
                if not question.announced:
                    announce(question, steps, waits=True, approvals=self._form.clients != "5")
            steps.leave()
            steps.write(self._finish("tool-calls", "interrupted"))
            self.is_complete = True
        return self._steps.take()

    def on_end(
        self,
        position: Position | None,  # noqa: ARG002 (there are no ids)
        *,
        run_is_over: bool,
        state: ExecutionState | None = None,
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        if self.is_complete:
            return DONE
        self._end_replay()
        if not run_is_over:
            self._steps.write(chunk("error", errorText=_ENDED_EARLY))
            return self._steps.take() + DONE
        name, data = self._outcome or (ENDS.get(state or "completed", "workflow_complete"), None)
        self.is_complete = True
        steps = self._steps
        steps.close_parts()
        if name == "workflow_complete":
            self._complete()
        elif name == "workflow_error":
            steps.write(chunk("error", errorText=error_text(members(data).get("error"), "the run failed")))
        else:
            if steps.calls_of_step():  # else the client sends their answers and outputs back
                steps.add_empty_step()
                steps.write(chunk("message-metadata", messageMetadata={"state": name.removeprefix("workflow_")}))
            steps.write(chunk("abort"))
        return steps.take() + DONE

    def _complete(self) -> None:
        steps = self._steps
        for call in steps.calls.values():
            if call.is_approved and call.state != "closed":  # the graph has left it out
                steps.close_call(call, output(call, None))
        last = steps.calls_of_step()
        is_open = any(each.state != "closed" for each in last)
        if last and not is_open:
            steps.add_empty_step()
        steps.leave()
        steps.write(self._finish("tool-calls" if is_open else "stop", "completed"))

    def _finish(self, reason: str, state: str) -> bytes:
        metadata: dict[str, Any] = {"state": state, **({"usage": self._usage} if self._usage else {})}
        return chunk("finish", finishReason=reason, messageMetadata=metadata)

    def on_error(self, error: StreamingError) -> bytes:
        """See `EventStreamEncoder.on_error`. Nothing for an error after which the reader may resume."""
        return b"" if error.retryable else self._steps.take() + chunk("error", errorText=error.message) + DONE

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (the connection is broken)
        """See `EventStreamEncoder.on_restart`."""
        return b""
