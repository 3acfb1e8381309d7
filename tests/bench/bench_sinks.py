"""Speed of a sink that writes updates to a file as JSON lines, compared with a simple loop, and while updates come.

`stored`: the updates are in the log already, so only the sink is measured. `live`: one thread publishes as fast as it
can, and the sink writes in others, which share the interpreter lock.
"""

import asyncio
import json
import operator
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from lg_streaming.sinks import JsonLinesSink
from tests.bench.stage import KEEP_ALL, tell

UPDATES = 100_000
ROUNDS = 7
TARGET = 150_000.0
TARGET_LIVE = 0.6
"""Part of the rate of publishing without a reader."""


def publish(hub: StreamHub, execution_id: str) -> float:
    """Updates published a second; the run stays open."""
    emitter = hub.emitter(execution_id)
    began = time.perf_counter()
    for index in range(UPDATES):
        emitter.token(f"token{index} ")
    return UPDATES / (time.perf_counter() - began)


async def sink(hub: StreamHub, path: Path) -> None:
    """Ours."""
    attachment = hub.attach("stored", JsonLinesSink(path))
    await attachment.wait()
    assert attachment.delivered == UPDATES + 2


async def naive(hub: StreamHub, path: Path) -> None:
    """A reader that encodes and writes each update by itself."""
    with path.open("w") as file:
        async for update in hub.subscribe("stored"):
            about = update.metadata
            line = {
                "type": update.type,
                "data": update.data,
                "metadata": {
                    "timestamp": about.timestamp.isoformat(),
                    "execution_id": about.execution_id,
                    "run_id": about.run_id,
                    "sequence_number": about.sequence_number,
                    "epoch": about.epoch,
                },
            }
            file.write(json.dumps(line) + "\n")


async def rate_of(write: Callable[[StreamHub, Path], Awaitable[None]], hub: StreamHub, path: Path) -> float:
    """Updates written a second; looks at whether all are there."""
    path.unlink(missing_ok=True)
    began = time.perf_counter()
    await write(hub, path)
    taken = time.perf_counter() - began
    with path.open("rb") as file:
        assert sum(1 for _ in file) == UPDATES + 2
    return (UPDATES + 2) / taken


async def live(hub: StreamHub, path: Path, number: int) -> tuple[float, float]:
    """Return updates a second: published without a reader; published and written."""
    alone = await asyncio.to_thread(publish, hub, f"alone{number}")
    await hub.close(f"alone{number}")
    attachment = hub.attach(f"live{number}", JsonLinesSink(path))
    began = time.perf_counter()
    await asyncio.to_thread(publish, hub, f"live{number}")
    await hub.sinks.flush(f"live{number}")
    taken = time.perf_counter() - began
    await hub.close(f"live{number}")
    await attachment.wait()
    assert (attachment.delivered, attachment.errors) == (UPDATES + 2, 0)
    return alone, UPDATES / taken


async def main_async() -> None:
    rates: dict[str, list[float]] = {"sink": [], "naive": []}
    alone: list[float] = []
    together: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        hub = StreamHub(StreamingSettings(retention=KEEP_ALL))
        publish(hub, "stored")
        await hub.close("stored")
        for _ in range(ROUNDS):
            rates["sink"].append(await rate_of(sink, hub, Path(folder, "sink.jsonl")))
            rates["naive"].append(await rate_of(naive, hub, Path(folder, "naive.jsonl")))
        await hub.aclose()
        for number in range(ROUNDS):
            hub = StreamHub(StreamingSettings(retention=KEEP_ALL))
            without, with_sink = await live(hub, Path(folder, f"live{number}.jsonl"), number)
            alone.append(without)
            together.append(with_sink)
            await hub.aclose()
    ours, theirs = statistics.median(rates["sink"]), statistics.median(rates["naive"])
    more = {"updates_per_s": round(ours), "naive_per_s": round(theirs), "over_naive": round(ours / theirs, 1)}
    tell("JSON lines sink, stored", ours / TARGET, 1.0, operator.ge, **more)
    ratio = statistics.median(each / before for each, before in zip(together, alone, strict=True))
    figures = {
        "written_per_s": round(statistics.median(together)),
        "published_alone_per_s": round(statistics.median(alone)),
    }
    tell("JSON lines sink, live", ratio, TARGET_LIVE, operator.ge, **figures)


def main() -> None:
    asyncio.run(main_async())


if __name__ == "__main__":
    main()
