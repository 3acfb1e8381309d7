"""Run a model of a real package inside a node, with and without decorators, and compare."""

import inspect
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage

from lg_streaming import stream_event, stream_token
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Run, State, Update, graph_of, read
from tests.providers.models import Asks, Package
from tests.providers.server import Provider, serving
from tests.providers.turns import Turn


class Seen:
    """Result of a node's model, and updates of its readers."""

    def __init__(self, messages: Sequence[BaseMessage], run: Run, provider: Provider) -> None:
        self.messages = [cast("AIMessage", message) for message in messages]
        self.run = run
        self.provider = provider

    @property
    def message(self) -> AIMessage:
        (message,) = self.messages
        return message

    def texts(self, type: str = "token") -> dict[str | None, str]:
        """The joined text of each message, without those that are void."""
        void = {update.metadata.message_id for update in self.run.of("llm_error")}
        texts = self.run.texts(by=lambda update: update.metadata.message_id, type=type)
        return {message_id: text for message_id, text in texts.items() if message_id not in void and text}

    def blocks(self, *types: str) -> list[dict[str, Any]]:
        """The content blocks that were sent."""
        tokens = self.run.of("token")
        blocks = [block for update in tokens for block in update.data.get("blocks", ())]
        return [block for block in blocks if not types or block["type"] in types]

    def calls(self) -> dict[tuple[str | None, int], dict[str, Any]]:
        """The tool calls of each message, put together from their pieces."""
        calls: dict[tuple[str | None, int], dict[str, Any]] = defaultdict(lambda: {"args": ""})
        for update in self.run.of("tool_args"):
            call = calls[update.metadata.message_id, update.data["index"]]
            call |= {**update.data, "args": call["args"] + update.data.get("args", "")}
        return {key: {**call, "args": json.loads(call["args"])} for key, call in calls.items()}


def node_of(asks: Asks, model: Any) -> Any:
    """A node that calls the model; sync when the way to call it is."""
    if inspect.iscoroutinefunction(asks):

        async def node(state: State) -> Update:
            return {"messages": await asks(model)}

        return node

    def sync_node(state: State) -> Update:
        return {"messages": asks(model)}

    return sync_node


def weather(city: str, days: int) -> str:
    """Look up the weather of some days in a city."""
    return f"{days} days of rain in {city}"


def made(package: Package, url: str, turns: Sequence[Turn], options: dict[str, Any]) -> Any:
    """A model with the tools and the options that real answers of this kind need."""
    if any(turn.reasoning for turn in turns) and package.name.startswith("anthropic"):
        options = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048, **options}
    chat = package.make(url, **options)
    return chat.bind_tools([weather]) if any(turn.calls for turn in turns) else chat


def decorated(node: Any) -> Any:
    return stream_event(stream_token(node))


async def run_node(streaming: StreamingModule, provider: Provider, node: Any, execution_id: str = "e") -> Seen:
    """Run a node that is decorated already."""
    graph = graph_of(node, names=("node",))
    result = await graph.ainvoke({"topic": ""}, streaming.config(execution_id=execution_id))
    return Seen(result["messages"], await read(streaming, execution_id), provider)


async def seen(streaming: StreamingModule, package: Package, asks: Asks, *turns: Turn, **options: Any) -> Seen:
    """Run a decorated node."""
    with serving(package.dialect, *turns) as provider:
        return await run_node(
            streaming, provider, decorated(node_of(asks, made(package, provider.url, turns, options)))
        )


async def plain(package: Package, asks: Asks, *turns: Turn, **options: Any) -> list[AIMessage]:
    """Run the same node without decorators."""
    with serving(package.dialect, *turns) as provider:
        graph = graph_of(node_of(asks, made(package, provider.url, turns, options)), names=("node",))
        return (await graph.ainvoke({"topic": ""}))["messages"]
