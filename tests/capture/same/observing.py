"""Runs one cell of the table, and shows everything that its caller gets."""

import functools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from lg_streaming import StreamingModule, stream_all
from lg_streaming.settings import StreamingSettings, settings_from
from tests.capture.same.calls import WAYS
from tests.capture.same.models import MODELS
from tests.capture.same.shapes import SHAPES, Context, Kit
from tests.capture.same.views import View

THREAD = "thread-1"


def _as_it_is(target: Any) -> Any:
    return target


@dataclass(frozen=True)
class Decoration:
    """Way in which a run is captured, if it is."""

    nodes: bool = False
    graph: bool = False
    config: Mapping[str, Any] | None = None
    """Arguments of ``streaming.config(...)``; None for a config of the caller alone."""
    activated: bool = False
    block: bool = False
    settings: Mapping[str, Any] | None = None
    """None if there is no module."""

    @functools.cached_property
    def made_settings(self) -> StreamingSettings:
        return settings_from(self.settings)


PLAIN = "plain"
DECORATIONS: dict[str, Decoration] = {
    PLAIN: Decoration(),
    "nodes": Decoration(nodes=True, config={}, settings={}),
    "graph": Decoration(graph=True, config={}, settings={}),
    "nodes and graph": Decoration(nodes=True, graph=True, config={}, settings={}),
    "capture=all": Decoration(config={"capture": "all"}, settings={}),
    "nodes, capture=all": Decoration(nodes=True, config={"capture": "all"}, settings={}),
    "all, activated": Decoration(activated=True, settings={"capture": "all"}),
    "nodes, activated": Decoration(nodes=True, activated=True, settings={}),
    "nodes in a block": Decoration(nodes=True, block=True, settings={}),
    "graph in a block": Decoration(graph=True, block=True, settings={}),
    "only watched": Decoration(config={}, settings={}),
    "decorated, no module": Decoration(nodes=True, graph=True),
}


class Callbacks(BaseCallbackHandler):
    """A handler of the user's own: notes what LangChain reports to it."""

    run_inline = True

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._runs: dict[UUID | None, str | None] = {None: None}

    def _note(self, event: str, run_id: UUID, parent: UUID | None = None, **seen: Any) -> None:
        self.events.append({"event": event, "run": self._runs.get(run_id), "parent": self._runs.get(parent), **seen})

    def _start(self, event: str, run_id: UUID, parent: UUID | None, **kwargs: Any) -> None:
        name = str(kwargs.get("name"))
        self._runs[run_id] = name
        metadata = dict(kwargs.get("metadata") or {})
        metadata.pop("tags", None)  # LangGraph's handler of the mode "messages" may or may not have added them yet
        self._note(event, run_id, parent, tags=kwargs.get("tags"), metadata=metadata)

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._start("chain", run_id, parent_run_id, **kwargs)

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._start("model", run_id, parent_run_id, **kwargs)
        self._note("options", run_id, options=kwargs.get("options"), params=kwargs.get("invocation_params"))

    def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._start("tool", run_id, parent_run_id, **kwargs)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._note("chain end", run_id, outputs=outputs)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        answers = [[(each.text, getattr(each, "message", None)) for each in some] for some in response.generations]
        self._note("model end", run_id, answers=answers)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._note("tool end", run_id, output=output)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._note("chain error", run_id, error=type(error).__name__)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._note("model error", run_id, error=type(error).__name__)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._note("tool error", run_id, error=type(error).__name__)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._note("custom", run_id, name=name, data=data)


async def observe(
    shape: str, model: str, way: str, decoration: str, *, handlers: Sequence[BaseCallbackHandler] = ()
) -> dict[str, Any]:
    """Everything that the caller of one cell gets, and what the program inside sees."""
    chosen, made = DECORATIONS[decoration], SHAPES[shape]
    kit = Kit(MODELS[model], sync=WAYS[way].sync, node=stream_all if chosen.nodes else _as_it_is)
    seen: dict[str, Any] = {}
    graph = (stream_all if chosen.graph else _as_it_is)(made.build(kit))
    outside = shape, kit.sync, chosen.nodes, chosen.graph
    if outside not in _OUTSIDES:
        _OUTSIDES[outside] = View().of(_outside(graph))
    handler = Callbacks()
    config: Any = {
        "callbacks": [handler, *handlers],
        "tags": ["mine"],
        "metadata": {"team": "red"},
        "configurable": {"thread_id": THREAD, "execution_id": "exec-1", "user": "alice"},
    }
    async with captured(chosen, config) as config:
        for number, inputs in enumerate(made.calls):
            options = {"context": Context("bob")} if made.context else {}
            try:
                seen[f"call {number}"] = await WAYS[way].call(graph, inputs, config, **options)
            except Exception as error:  # noqa: BLE001 (any error must be the same)
                seen[f"call {number}"] = error
        own = {"configurable": {"thread_id": THREAD}}
        history = [each async for each in graph.aget_state_history(own)]
    seen |= {"log": kit.log, "callbacks": handler.events}
    view = View(numbered=not made.parallel).of(seen) | {"history": View(numbered=False).of(history)}
    return _OUTSIDES[outside] | (_sorted(view) if made.parallel else view)


_OUTSIDES: dict[tuple[str, bool, bool, bool], dict[str, Any]] = {}
"""Views of graphs by shape, kind of functions and decorators: neither the model nor the call changes them."""


def _outside(graph: Any) -> dict[str, Any]:
    """Answers of a graph without a call."""
    return {
        "graph": graph.get_graph().draw_mermaid(),
        "name": graph.get_name(),
        "schemas": [graph.get_input_jsonschema(), graph.get_output_jsonschema()],
        "subgraphs": [name for name, _ in graph.get_subgraphs(recurse=True)],
        "nodes": {
            name: (node.tags, node.metadata, node.triggers, node.retry_policy) for name, node in graph.nodes.items()
        },
    }


@asynccontextmanager
async def captured(chosen: Decoration, config: Any) -> AsyncGenerator[Any]:
    async with AsyncExitStack() as stack:
        if chosen.settings is None:
            yield config
            return
        streaming = await stack.enter_async_context(StreamingModule(chosen.made_settings))
        if chosen.activated:
            stack.enter_context(streaming.activate())
        if chosen.block:
            await stack.enter_async_context(streaming.execution("exec-1"))
        if chosen.config is not None:
            config = streaming.config(config, **chosen.config)
        yield config


def _sorted(view: Any) -> Any:
    """`view` without the order of what happens side by side."""
    if isinstance(view, dict):
        return {key: _sorted(each) for key, each in cast("dict[str, Any]", view).items()}
    if isinstance(view, list):
        return sorted((_sorted(each) for each in cast("list[Any]", view)), key=repr)
    return view


__all__ = ["DECORATIONS", "PLAIN", "Callbacks", "Decoration", "captured", "observe"]
