"""Report the progress of a node; readers receive percentage and remaining time. A synchronous graph."""

import threading
import time
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, StreamUpdate, current_progress, stream_progress


class State(TypedDict):
    pages: int


@stream_progress(granularity="detailed")  # publish every report; the default is at most one a second
def read(state: State) -> State:
    progress = current_progress()
    for page in range(1, state["pages"] + 1):
        time.sleep(0.1)  # the work
        progress.update(page, state["pages"])
    return state


graph = StateGraph(State).add_node("read", read).add_edge(START, "read").add_edge("read", END).compile()


def show(update: StreamUpdate) -> None:
    left = update.data.get("eta_s")
    print(f"{update.metadata.node_id}: {update.data['progress']:5.1f} %", "" if left is None else f"{left:.1f} s left")


def main() -> None:
    streaming = StreamingModule()
    seen_all = threading.Event()
    progress = streaming.hub.observe("exec-1", types=["progress"], in_thread=True)
    progress.subscribe(show, on_completed=seen_all.set)
    with streaming.activate():  # inside the block, every graph of this process streams
        graph.invoke({"pages": 10}, {"configurable": {"execution_id": "exec-1"}})
    seen_all.wait()


if __name__ == "__main__":
    main()
