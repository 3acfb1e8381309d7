"""A process that publishes at a steady rate and serves nothing: `python -m tests.fleet.producer EXECUTION RATE`.

The address of the log comes from the environment. It begins an execution of alice, the room of the same name and short
executions, and ends them when its stdin ends. Then it prints a line of JSON: the number of updates of each.
"""

import asyncio
import json
import sys
import threading

from lg_streaming import StreamHub, StreamingSettings

__all__ = ["OWNER"]

OWNER = "alice"


async def publish(execution_id: str, rate: float) -> None:
    asked = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), asked.set()), daemon=True).start()
    hub = StreamHub(StreamingSettings())
    room = f"room:{execution_id}"
    executions = [execution_id, room, f"{execution_id}-0"]
    for each in executions:
        hub.open(each, owner=OWNER)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while not asked.is_set():
        hub.publish(execution_id, "token", {"content": f"{sent} ", "message_id": "m"})
        if sent % 5 == 0:
            hub.publish(room, "note", {"n": sent})
            hub.publish(executions[-1], "note", {"n": sent})
        if sent % 50 == 49:
            await hub.close(executions[-1])
            executions.append(f"{execution_id}-{len(executions) - 2}")
            hub.open(executions[-1], owner=OWNER)
        sent += 1
        await asyncio.sleep(max(began + sent / rate - loop.time(), 0))
    for each in (execution_id, room, executions[-1]):
        await hub.close(each)
    heads: dict[str, int] = {}
    for each in executions:
        state = await hub.describe(each)
        heads[each] = state.head if state is not None else 0
    await hub.aclose()
    print(json.dumps(heads), flush=True)


if __name__ == "__main__":
    asyncio.run(publish(sys.argv[1], float(sys.argv[2])))
