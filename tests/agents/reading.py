"""Invariants of the updates of every run with agents."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from lg_streaming import StreamUpdate
from lg_streaming.events import node_path
from lg_streaming.module import StreamingModule
from lg_streaming.texts import TextAssembly

NODE_ENDS = {"node_complete", "node_error", "node_interrupted"}
TOOL_ENDS = {"tool_complete", "tool_error", "tool_interrupted"}


class Seen:
    """The updates of one execution, after a look at what must hold for all of them."""

    def __init__(self, updates: list[StreamUpdate]) -> None:
        self.updates = updates
        numbers = [update.sequence_number for update in updates]
        assert numbers == list(range(1, len(updates) + 1)), "a hole or a repetition"
        self._nodes_pair_up()
        self._tools_pair_up()

    def __repr__(self) -> str:
        return "\n".join(
            f"{each.type} {each.namespace} {each.attempt} {each.message_id} {each.data}" for each in self.updates
        )

    def _nodes_pair_up(self) -> None:
        """Check that every node that starts ends once, and that its text is between."""
        open_nodes: dict[str | None, int] = {}
        for update in self.updates:
            place = update.namespace
            if update.type == "node_start":
                assert place is not None
                assert place not in open_nodes, f"{place} starts in itself"
                open_nodes[place] = 0
                parts = [index for index, letter in enumerate(place) if letter in "|/"]
                above = [place[:index] for index in parts]
                self_and_ended = [one for one in above if one in self._started_before(update) and one not in open_nodes]
                assert not self_and_ended, f"{place} starts after {self_and_ended} has ended"
            elif update.type in NODE_ENDS:
                assert place in open_nodes, f"{place} ends, and did not start"
                inside = [one for one in open_nodes if one is not None and place is not None and _below(one, place)]
                assert not inside, f"{place} ends before {inside}"
                del open_nodes[place]
            elif update.type in {"token", "thinking", "tool_args", "llm_start", "llm_complete", "custom"}:
                assert any(place == one or _below(place, one) for one in open_nodes), f"{update} outside of its node"
        assert not open_nodes, f"nodes without an end: {open_nodes}"

    def _started_before(self, update: StreamUpdate) -> set[str | None]:
        number = update.sequence_number
        return {each.namespace for each in self.of("node_start") if each.sequence_number < number}

    def _tools_pair_up(self) -> None:
        running: Counter[Any] = Counter()
        for update in self.of("tool_start", *TOOL_ENDS):
            call_id = update.data.get("tool_call_id")
            assert call_id is not None, update
            assert update.tool_call_id == call_id, f"{update.type} of {call_id} is in {update.tool_call_id}"
            running[call_id] += 1 if update.type == "tool_start" else -1
            assert running[call_id] in {0, 1}, update
        assert not +running, f"tools without an end: {running}"

    def of(self, *types: str) -> list[StreamUpdate]:
        return [update for update in self.updates if update.type in types]

    @property
    def types(self) -> list[str]:
        return [update.type for update in self.updates]

    @property
    def paths(self) -> Counter[str]:
        """Return the number of starts of each node, by its path."""
        return Counter(node_path(update.namespace or "") for update in self.of("node_start"))

    @property
    def paused(self) -> set[str]:
        """The paths of the nodes that wait for a human."""
        return {node_path(update.namespace or "") for update in self.of("node_interrupted")}

    @property
    def outcome(self) -> str:
        return self.updates[-1].type

    @property
    def assembled(self) -> dict[str | None, str]:
        """The text of each message, as our readers put it together."""
        texts = TextAssembly()
        for update in self.updates:
            texts.add(update)
        ids = [message.message_id for message in texts.messages]
        assert len(ids) == len(set(ids)), f"a message came twice: {ids}"
        return {message.message_id: message.text for message in texts.messages if message.text}

    def by_agent(self) -> dict[str | None, str]:
        joined: dict[str | None, str] = defaultdict(str)
        for update in self.of("token"):
            joined[update.agent_type] += update.data["content"]
        return dict(joined)

    def arose_in(self, calls: Mapping[str, str], *, but: Collection[str] = ()) -> None:
        """Check that an agent's updates have the id of the tool call it works in, and its tool calls their own."""
        for update in self.updates:
            if update.agent_type is None or update.agent_type in but or update.type in {"tool_start", *TOOL_ENDS}:
                continue
            expected = calls.get(update.agent_type)
            assert update.tool_call_id == expected, f"{update.type} of {update.agent_type}: {update.tool_call_id}"

    def says(self, *said: Iterable[BaseMessage]) -> None:
        """The assembled text is exactly that of these messages, each under its id."""
        messages = [message for each in said for message in each if isinstance(message, AIMessage)]
        expected = {message.id: message.text for message in messages if message.text}
        assert self.assembled == expected, f"{self.assembled}\n{expected}\n{self!r}"


def _below(inner: str | None, outer: str | None) -> bool:
    return inner is not None and outer is not None and inner.startswith(outer) and inner[len(outer) :][:1] in {"|", "/"}


async def state_of(streaming: StreamingModule, execution_id: str) -> str | None:
    """Return the state of an execution, or None."""
    found = await streaming.hub.describe(execution_id)
    return found.state if found is not None else None


async def read(streaming: StreamingModule, execution_id: str) -> Seen:
    """Return the updates of an execution that has ended, or waits for a human."""
    page = await streaming.hub.subscribe(execution_id, follow=True).next_page(100_000)
    return Seen(page.updates(execution_id))
