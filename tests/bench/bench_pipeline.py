"""Cost of the token pipeline with the default options, without publishing, compared with a stream that passes on.

The two take turns, and the processor's time counts.
"""

import json
import statistics
import time
from typing import Any

from lg_streaming import StreamHub, stream_token, streaming_options
from lg_streaming.emitter import ScopedPublisher
from lg_streaming.events import Scope
from lg_streaming.hub.publisher import HubPublisher
from lg_streaming.pipeline import NodeOptions
from lg_streaming.pipeline.node import NodePipeline

TOKENS = 20_000
ROUNDS = 9
TARGET_US = 8.0


class SilentPublisher(HubPublisher):
    """Publishes nothing."""

    def publish(self, *args: Any, **kwargs: Any) -> None:
        pass


class Direct(NodePipeline):
    """Lets everything through as it comes."""

    def put(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        return self._output.publish(type, data, scope)


def node() -> None:
    pass


def seconds(stream: NodePipeline, scope: Scope) -> float:
    about: dict[str, Any] = {"model": "m"}
    started = time.process_time()
    for index in range(TOKENS):
        stream.put("token", {"content": "word ", "index": index, "role": "ai", "metadata": about}, scope)
    stream.put("node_complete", {}, scope)
    return time.process_time() - started


def main() -> None:
    hub = StreamHub()
    publisher = SilentPublisher(hub.runs)
    publisher.token_streams = hub.publisher.token_streams
    scope = Scope(node_id="write", message_id="m", request_id="r", run_id="run", attempt=1)
    options = {
        "pipeline": streaming_options(stream_token(node)),
        "filter and processor": streaming_options(
            stream_token(filter={"min_length": 1, "pattern": "w"}, processor=lambda token, _: token)(node)
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in ("direct", *options)}
    for round_number in range(ROUNDS + 1):  # the first warms up
        taken = {"direct": seconds(Direct(NodeOptions(), ScopedPublisher(publisher, "e", scope)), scope)}
        for name, plan in options.items():
            assert plan is not None
            taken[name] = seconds(plan.open(ScopedPublisher(publisher, "e", scope)), scope)
        if round_number:
            for name, value in taken.items():
                times[name].append(value)
    per_token = {name: statistics.median(values) / TOKENS * 1e6 for name, values in times.items()}
    over = per_token["pipeline"] - per_token["direct"]
    line = {
        "name": "token pipeline",
        "ratio": round(per_token["pipeline"] / per_token["direct"], 2),
        "target": f"<= {TARGET_US} us a token over letting it pass",
        "ok": over <= TARGET_US,
        "over_us": round(over, 2),
        "pipeline_us_per_token": round(per_token["pipeline"], 2),
        "with_filter_and_processor_us_per_token": round(per_token["filter and processor"], 2),
        "direct_us_per_token": round(per_token["direct"], 2),
    }
    print(json.dumps(line))
