"""The methods for spans: messages, nodes and calls of tools begin and end."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from lg_streaming.checks import count
from lg_streaming.emitter.base import BaseEmitter
from lg_streaming.emitter.open_spans import OpenSpan
from lg_streaming.errors import BadRequestError, UpdateTooLargeError, describe_error
from lg_streaming.publisher import new_id

if TYPE_CHECKING:
    from lg_streaming.checks import Number
    from lg_streaming.emitter.open_spans import SpanKind
    from lg_streaming.events import Scope

__all__ = ["SpanEmitter"]

_NAMED_BY: Final[Mapping[SpanKind, tuple[str | None, str]]] = {
    "node": ("node_id", "node_name"),
    "tool": ("tool_call_id", "tool"),
    "llm": (None, "model"),
}
"""The fields of a span's id and of its name."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_ATTEMPT: Final = count("tries", none="where it is not known")


class SpanEmitter(BaseEmitter):
    """An emitter that opens and closes spans; see `Emitter`, which adds the other methods."""

    __slots__ = ("_message",)

    _message: OpenSpan | None
    """The message its text belongs to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._message = None

    # --- messages -----------------------------------------------------------------------------------------

    def start(self, model: str | None = None, *, message_id: str | None = None, **details: Any) -> str:
        """Begin a message (`llm_start`): the text that follows from this emitter belongs to it, until `end`.

        An open message ends first. Messages that grow side by side need an emitter each: `emitter.scoped()`.

        Args:
            model: The model that writes it.
            message_id: Its id; one is made when none is given.
            details: More fields.

        Returns:
            The message's id.
        """
        self.end()
        message_id = message_id or new_id()
        span = OpenSpan("llm", message_id, model, self._output.find_run().derive(message_id=message_id))
        self._open_span(span, "llm_start", details, model=model)
        self._message = span
        self._index = itertools.count()
        return message_id

    def end(self, *, finish_reason: str | None = None, usage: Mapping[str, Any] | None = None, **details: Any) -> None:
        """End the message (`llm_complete`, with `duration_s`). A no-op when none is open.

        Args:
            finish_reason: The reason of the end, such as `stop`, `length`, `tool_use` or `content_filter`.
            usage: The usage, in the form of the model's package; `usage` publishes it in one form for all models.
            details: More fields.
        """
        span, self._message = self._message, None
        if span is not None and self._spans.close("llm", span.id) is not None:
            self._end_span(span, "llm_complete", details, finish_reason=finish_reason, usage=usage)

    # --- nodes and tools ----------------------------------------------------------------------------------

    def node_start(
        self, node_id: str | None = None, *, name: str | None = None, attempt: int | None = None, **details: Any
    ) -> Self:
        """Begin a node, and return its emitter, whose updates are about the node.

        ```python
        node = emitter.node_start("fetch")
        node.token("…")
        node.node_complete(result)
        ```

        Args:
            node_id: The node; that of this emitter when not given.
            name: The name for people; its id when not given.
            attempt: 1 for the first try. At a higher one readers start the node's text afresh.
            details: More fields.

        Raises:
            BadRequestError: If neither the call nor the emitter names a node.
        """
        node_id = node_id or self._output.scope.node_id
        if node_id is None:
            self._reject("node_start", "name the node: node_start('fetch')")
            return self.scoped()
        if self._is_rejected("node_start", attempt=(attempt, _ATTEMPT)):
            attempt = None
        scope = self._output.find_run().derive(node_id=node_id, **({"attempt": attempt} if attempt is not None else {}))
        span = OpenSpan("node", node_id, name or node_id, scope)
        self._open_span(span, "node_start", details, node_id=node_id, node_name=span.name, attempt=attempt)
        return self._with_scope(scope)

    def node_complete(self, result: object = None, *, node_id: str | None = None, **details: Any) -> None:
        """End a node well (`node_complete`, with `duration_s` where `node_start` began it).

        Args:
            result: Its result.
            node_id: The node; that of this emitter, else the one that began last.
            details: More fields.

        Raises:
            BadRequestError: If neither the call nor an open span names a node.
        """
        self._node_end("node_complete", node_id, details, result=result)

    def node_error(self, error: BaseException | str, *, node_id: str | None = None, **details: Any) -> None:
        """End a node that failed (`node_error`): with the error's message and type, its stack only in debug mode.

        The other arguments are those of `node_complete`.
        """
        self._node_end("node_error", node_id, details, error=self._described(error))

    def _node_end(self, type: str, node_id: str | None, details: Mapping[str, Any], **data: Any) -> None:
        span = self._close_span("node", node_id or self._output.scope.node_id)
        if span is None:
            self._reject(type, f"name the node: {type}(…, node_id='fetch')")
            return
        self._end_span(span, type, details, **data)

    def tool_start(self, tool: str, input: object = None, *, tool_call_id: str | None = None, **details: Any) -> Self:
        """Begin a call of a tool, and return its emitter, whose `tool_complete` and `tool_error` are about it.

        Args:
            tool: The tool's name.
            input: The arguments of the call.
            tool_call_id: The call's id; one is made when none is given.
            details: More fields.
        """
        tool_call_id = tool_call_id or new_id()
        scope = self._output.find_run().derive(tool_call_id=tool_call_id)
        span = OpenSpan("tool", tool_call_id, tool, scope)
        self._open_span(span, "tool_start", details, tool=tool, tool_call_id=tool_call_id, input=input)
        return self._with_scope(scope)

    def tool_complete(
        self, output: object = None, *, tool: str | None = None, tool_call_id: str | None = None, **details: Any
    ) -> None:
        """End a call of a tool well (`tool_complete`, with `duration_s` where `tool_start` began it).

        Args:
            output: Its result.
            tool: The tool's name; without an id, its newest open call is meant.
            tool_call_id: The call; that of this emitter, else the newest open one.
            details: More fields.

        Raises:
            BadRequestError: If neither the call nor an open span names a tool.
        """
        self._tool_end("tool_complete", (tool, tool_call_id), details, output=output)

    def tool_error(
        self, error: BaseException | str, *, tool: str | None = None, tool_call_id: str | None = None, **details: Any
    ) -> None:
        """End a call of a tool that failed (`tool_error`): with the error's message and type, its stack in debug mode.

        The other arguments are those of `tool_complete`.
        """
        self._tool_end("tool_error", (tool, tool_call_id), details, error=self._described(error))

    def _tool_end(
        self, type: str, call: tuple[str | None, str | None], details: Mapping[str, Any], **data: Any
    ) -> None:
        tool, tool_call_id = call
        span = self._close_span("tool", tool_call_id or self._output.scope.tool_call_id, tool)
        if span is None:
            self._reject(type, f"name the tool: {type}(…, tool='search')")
            return
        self._end_span(span, type, details, **data)

    # --- below --------------------------------------------------------------------------------------------

    def _open_span(self, span: OpenSpan, type: str, details: Mapping[str, Any], **fields: Any) -> None:
        self._emit_fields_of(span.scope, type, details, fields)
        self._spans.open(span)

    def _close_span(self, kind: SpanKind, id: str | None, name: str | None = None) -> OpenSpan | None:
        """Return the span that ends: the open one of this id, else the newest, else one without a known begin."""
        if id is None:
            newest = self._spans.latest(kind, name)
            if newest is not None:
                return self._spans.close(kind, newest.id) or newest
            if name is None:
                return None
            return OpenSpan(kind, "", name, self._output.scope, began_at=0)
        span = self._spans.close(kind, id)
        if span is not None:
            return span
        subject = {"node_id": id} if kind == "node" else {"tool_call_id": id}
        return OpenSpan(
            kind, id, name or (id if kind == "node" else None), self._output.find_run().derive(**subject), began_at=0
        )

    def _end_span(self, span: OpenSpan, type: str, details: Mapping[str, Any], **fields: Any) -> None:
        id_field, name_field = _NAMED_BY[span.kind]
        span_fields = {name_field: span.name, "duration_s": span.duration_s if span.began_at else None}
        if id_field is not None and span.id:
            span_fields[id_field] = span.id
        try:
            self._emit_fields_of(span.scope, type, details, span_fields | fields)
        except UpdateTooLargeError:  # it is still open, and may be closed with less
            self._spans.open(span)
            raise

    def _emit_fields(self, word: str, details: Mapping[str, Any] = _NOTHING, /, **fields: Any) -> None:
        self._emit_fields_of(self._output.scope, word, details, fields)

    def _emit_fields_of(self, scope: Scope, type: str, details: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Publish the fields that are not None; details never replace one of them."""
        present = {name: value for name, value in fields.items() if value is not None}
        self._emit(type, {**details, **present}, scope)

    def _described(self, error: BaseException | str) -> dict[str, Any]:
        return describe_error(error, debug=self.debug)

    def _is_rejected(self, type: str, /, **values: tuple[object, Number]) -> bool:
        """Return whether one of ``values`` cannot be used; raise or log it."""
        for name, (value, allowed) in values.items():
            if not allowed.accepts(value):
                self._reject(type, f"{name} {allowed.refusal(value)}")
                return True
        return False

    def _reject(self, type: str, message: str) -> None:
        error = BadRequestError(message, execution_id=self._output.execution_id)
        if self._output.publisher is None:
            return
        if self._output.strict:
            raise error
        self._output.note_refused(error, type)
