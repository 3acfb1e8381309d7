"""A plain subscriber of Redis: `python -m tests.bench.fleet_subscriber CHANNELS`, the fields of `Channels` as JSON.

Prints `ready` when it has subscribed, and one line of JSON when it has all messages. The messages begin with the time
at which they were sent, in nanoseconds of the monotonic clock.
"""

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

import redis

from tests.bench.readers import name_of, percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Orders of a subscriber: every `step`-th execution from `first` up to `executions`, until `messages` have come."""

    url: str
    first: int
    step: int
    executions: int
    messages: int


def run(wanted: Channels) -> dict[str, Any]:
    names = [f"lg:{{{name_of(number)}}}:n" for number in range(wanted.first, wanted.executions, wanted.step)]
    delays: list[float] = []
    with redis.Redis.from_url(wanted.url) as client, client.pubsub() as pubsub:
        pubsub.execute_command("SSUBSCRIBE", *names)
        for _ in names:
            pubsub.parse_response()
        print("ready", flush=True)
        while len(delays) < wanted.messages:
            message: bytes = cast("Any", pubsub.parse_response())[2]
            delays.append((time.monotonic_ns() - int(message[: message.index(b"x")])) / 1e9)
    return {"messages": len(delays), **percentiles(delays)}


if __name__ == "__main__":
    print(json.dumps(run(Channels(**json.loads(sys.argv[1])))), flush=True)
