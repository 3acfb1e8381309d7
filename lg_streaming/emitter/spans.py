"""The words for what begins and ends: messages, nodes and calls of tools."""

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
"""The fields of a part's id and of its name."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_ATTEMPT: Final = count("tries", none="where it is not known")


class SpanEmitter(BaseEmitter):
    """Opens and closes parts, and knows which are open; see `Emitter`, which adds the other words."""

    __slots__ = ("_message",)

    _message: OpenSpan | None
    """The message its text belongs to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._message = None

    # --- messages -----------------------------------------------------------------------------------------

    def start(self, model: str | None = None, *, message_id: str | None = None, **details: Any) -> str:
        """A message begins (`llm_start`): the text that follows from this emitter belongs to it, until `end`.

        One that is open ends first. Messages that grow side by side need an emitter each: `emitter.scoped()`.

        Args:
            model: Who writes it.
            message_id: Its id; one is made when none is given.
            details: More to say about it.

        Returns:
            The message's id.
        """
        self.end()
        message_id = message_id or new_id()
        part = OpenSpan("llm", message_id, model, self._output.find_run().derive(message_id=message_id))
        self._open_span(part, "llm_start", details, model=model)
        self._message = part
        self._index = itertools.count()
        return message_id

    def end(self, *, finish_reason: str | None = None, usage: Mapping[str, Any] | None = None, **details: Any) -> None:
        """The message is complete (`llm_complete`, with `duration_s`). A no-op when none is open.

        Args:
            finish_reason: Why the model stopped, such as `stop`, `length`, `tool_use` or `content_filter`.
            usage: What it used, as the model's package tells it; `usage` says it in the words of all models.
            details: More to say about it.
        """
        part, self._message = self._message, None
        if part is not None and self._spans.close("llm", part.id) is not None:
            self._end_span(part, "llm_complete", details, finish_reason=finish_reason, usage=usage)

    # --- nodes and tools ----------------------------------------------------------------------------------

    def node_start(
        self, node_id: str | None = None, *, name: str | None = None, attempt: int | None = None, **details: Any
    ) -> Self:
        """A node begins. Returns the emitter of the node: what it writes is about the node.

        ```python
        node = emitter.node_start("fetch")
        node.token("…")
        node.node_complete(result)
        ```

        Args:
            node_id: The node; that of this emitter when not given.
            name: How people call it; its id when not given.
            attempt: 1 for the first try. At a higher one readers start the node's text afresh.
            details: More to say about it.

        Raises:
            BadRequestError: Neither the call nor the emitter names a node.
        """
        node_id = node_id or self._output.scope.node_id
        if node_id is None:
            self._reject("node_start", "name the node: node_start('fetch')")
            return self.scoped()
        if self._is_rejected("node_start", attempt=(attempt, _ATTEMPT)):
            attempt = None
        scope = self._output.find_run().derive(node_id=node_id, **({"attempt": attempt} if attempt is not None else {}))
        part = OpenSpan("node", node_id, name or node_id, scope)
        self._open_span(part, "node_start", details, node_id=node_id, node_name=part.name, attempt=attempt)
        return self._with_scope(scope)

    def node_complete(self, result: object = None, *, node_id: str | None = None, **details: Any) -> None:
        """A node is done (`node_complete`, with `duration_s` where `node_start` told its begin).

        Args:
            result: What it gave.
            node_id: The node; that of this emitter, else the one that began last.
            details: More to say about it.

        Raises:
            BadRequestError: Nothing tells which node.
        """
        self._node_end("node_complete", node_id, details, result=result)

    def node_error(self, error: BaseException | str, *, node_id: str | None = None, **details: Any) -> None:
        """A node has failed (`node_error`): with the error's message and type, its stack only in debug mode.

        The other arguments are those of `node_complete`.
        """
        self._node_end("node_error", node_id, details, error=self._described(error))

    def _node_end(self, type: str, node_id: str | None, details: Mapping[str, Any], **data: Any) -> None:
        part = self._close_span("node", node_id or self._output.scope.node_id)
        if part is None:
            self._reject(type, f"name the node: {type}(…, node_id='fetch')")
            return
        self._end_span(part, type, details, **data)

    def tool_start(self, tool: str, input: object = None, *, tool_call_id: str | None = None, **details: Any) -> Self:
        """A tool is called. Returns the emitter of the call, whose `tool_complete` and `tool_error` are about it.

        Args:
            tool: The tool's name.
            input: What it is called with.
            tool_call_id: The call's id; one is made when none is given.
            details: More to say about it.
        """
        tool_call_id = tool_call_id or new_id()
        scope = self._output.find_run().derive(tool_call_id=tool_call_id)
        part = OpenSpan("tool", tool_call_id, tool, scope)
        self._open_span(part, "tool_start", details, tool=tool, tool_call_id=tool_call_id, input=input)
        return self._with_scope(scope)

    def tool_complete(
        self, output: object = None, *, tool: str | None = None, tool_call_id: str | None = None, **details: Any
    ) -> None:
        """A tool has answered (`tool_complete`, with `duration_s` where `tool_start` told its begin).

        Args:
            output: What it gave.
            tool: The tool's name; without an id, its newest open call is meant.
            tool_call_id: The call; that of this emitter, else the newest open one.
            details: More to say about it.

        Raises:
            BadRequestError: Nothing tells which tool.
        """
        self._tool_end("tool_complete", (tool, tool_call_id), details, output=output)

    def tool_error(
        self, error: BaseException | str, *, tool: str | None = None, tool_call_id: str | None = None, **details: Any
    ) -> None:
        """A tool has failed (`tool_error`): with the error's message and type, its stack only in debug mode.

        The other arguments are those of `tool_complete`.
        """
        self._tool_end("tool_error", (tool, tool_call_id), details, error=self._described(error))

    def _tool_end(
        self, type: str, call: tuple[str | None, str | None], details: Mapping[str, Any], **data: Any
    ) -> None:
        tool, tool_call_id = call
        part = self._close_span("tool", tool_call_id or self._output.scope.tool_call_id, tool)
        if part is None:
            self._reject(type, f"name the tool: {type}(…, tool='search')")
            return
        self._end_span(part, type, details, **data)

    # --- below --------------------------------------------------------------------------------------------

    def _open_span(self, part: OpenSpan, type: str, details: Mapping[str, Any], **fields: Any) -> None:
        self._emit_fields_of(part.scope, type, details, fields)
        self._spans.open(part)

    def _close_span(self, kind: SpanKind, id: str | None, name: str | None = None) -> OpenSpan | None:
        """The part that ends: the open one of this id, else the newest open one, else one nobody told the begin of."""
        if id is None:
            newest = self._spans.latest(kind, name)
            if newest is not None:
                return self._spans.close(kind, newest.id) or newest
            if name is None:
                return None
            return OpenSpan(kind, "", name, self._output.scope, began_at=0)
        known = self._spans.close(kind, id)
        if known is not None:
            return known
        own = {"node_id": id} if kind == "node" else {"tool_call_id": id}
        return OpenSpan(
            kind, id, name or (id if kind == "node" else None), self._output.find_run().derive(**own), began_at=0
        )

    def _end_span(self, part: OpenSpan, type: str, details: Mapping[str, Any], **fields: Any) -> None:
        id_field, name_field = _NAMED_BY[part.kind]
        about = {name_field: part.name, "duration_s": part.duration_s if part.began_at else None}
        if id_field is not None and part.id:
            about[id_field] = part.id
        try:
            self._emit_fields_of(part.scope, type, details, about | fields)
        except UpdateTooLargeError:  # it is open still, and may be closed with less
            self._spans.open(part)
            raise

    def _emit_fields(self, word: str, details: Mapping[str, Any] = _NOTHING, /, **fields: Any) -> None:
        self._emit_fields_of(self._output.scope, word, details, fields)

    def _emit_fields_of(self, scope: Scope, type: str, details: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """The fields that are known; details beside them never replace one."""
        known = {name: value for name, value in fields.items() if value is not None}
        self._emit(type, {**details, **known}, scope)

    def _described(self, error: BaseException | str) -> dict[str, Any]:
        return describe_error(error, debug=self.debug)

    def _is_rejected(self, type: str, /, **values: tuple[object, Number]) -> bool:
        """Return whether one of ``values`` cannot be used; then it is raised or logged, like all that is refused."""
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
