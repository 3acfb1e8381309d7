"""Small real graphs, and what to ask of the updates they make."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from lg_streaming import StreamUpdate
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel

TEXT = "Rivers remember the shape of the mountains, and the sea forgets everything.  Twice."


class State(TypedDict):
    topic: str
    text: str
    messages: Annotated[list[Any], add_messages]


Input = dict[str, Any]
Update = dict[str, Any]
Graph = Any
"""A compiled graph; its type parameters are unknown to LangGraph itself."""


def model(text: str = TEXT, **options: Any) -> ScriptedChatModel:
    return ScriptedChatModel(answers=[text], **options)


def graph_of(*nodes: Any, names: tuple[str, ...] = (), **compile_options: Any) -> Graph:
    """The nodes one after another."""
    builder: Any = StateGraph(State)
    before = START
    for index, node in enumerate(nodes):
        name = names[index] if names else node.__name__
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder.compile(**compile_options)


class Run:
    """The updates of one execution, and questions about them."""

    def __init__(self, updates: list[StreamUpdate]) -> None:
        self.updates = updates
        seqs = [update.metadata.sequence_number for update in updates]
        assert seqs == list(range(1, len(updates) + 1)), "a hole or a repetition"

    @property
    def types(self) -> list[str]:
        return [update.type for update in self.updates]

    def of(self, *types: str) -> list[StreamUpdate]:
        return [update for update in self.updates if update.type in types]

    def one(self, type: str) -> StreamUpdate:
        (update,) = self.of(type)
        return update

    def texts(self, *, by: Callable[[StreamUpdate], Any] | None = None, type: str = "token") -> dict[Any, str]:
        """Return the joined text of each node, or of each value of ``by``."""
        joined: dict[Any, str] = defaultdict(str)
        for update in self.of(type):
            joined[by(update) if by else update.metadata.node_id] += update.data["content"]
        return dict(joined)

    @property
    def final(self) -> str:
        finals = [update.type for update in self.updates if update.is_final]
        assert len(finals) == 1, f"not exactly one final update: {finals}"
        assert self.updates[-1].is_final, "something follows the final update"
        return finals[0]


async def read(streaming: StreamingModule, execution_id: str, *, follow: bool = False) -> Run:
    """The whole run, up to its final update; with ``follow``, up to what is there now."""
    if follow:
        page = await streaming.hub.subscribe(execution_id, follow=True).next_page(10_000)
        return Run(page.updates(execution_id))
    return Run([update async for update in streaming.hub.subscribe(execution_id)])


def says(*tokens: str) -> AIMessage:
    return AIMessage("".join(tokens))


async def collect(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]
