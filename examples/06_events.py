"""Choose which events of a node leave, shape them, and take a secret out. A plain, synchronous graph."""

import threading
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, StreamUpdate, current_emitter, stream_event


class State(TypedDict):
    customer: str
    card: str
    paid: bool


def shorten(event: dict[str, Any]) -> dict[str, Any]:
    """What readers get in place of the event."""
    if event["type"] == "node_complete":
        return {**event, "data": {"update": event["data"]["result"]}}
    return event


def hide(type: str, data: Any) -> Any:
    """Sees every event last."""
    return {**data, "card": "****"} if type in {"values", "charged"} else data


@stream_event(
    events=["node_complete", "values"],  # "values" is the state: it leaves because it is asked for
    filter={"exclude_types": ["audit"]},
    transformer=shorten,
    redact=hide,
    delivery="exactly-once",  # tried again, the node does not repeat what it said before
)
def pay(state: State) -> dict[str, bool]:
    emitter = current_emitter()
    emitter.event("charged", {"customer": state["customer"], "card": state["card"]}, priority="high")
    emitter.event("audit", "not for readers")
    return {"paid": True}


graph = StateGraph(State).add_node("pay", pay).add_edge(START, "pay").add_edge("pay", END).compile()


def main() -> None:
    streaming = StreamingModule()
    seen_all = threading.Event()

    def show(update: StreamUpdate) -> None:
        print(f"{update.type}: {update.data}")

    streaming.hub.observe("exec-1", events=["event"], in_thread=True).subscribe(show, on_completed=seen_all.set)
    graph.invoke(State(customer="Ada", card="4000-1234", paid=False), streaming.config(execution_id="exec-1"))
    seen_all.wait()


if __name__ == "__main__":
    main()
