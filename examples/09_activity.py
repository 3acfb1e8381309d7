"""Tell of work that goes on for a while: a task, the agent that runs real programs for it, and what it asks a model."""

import asyncio
import sys

from lg_streaming import StreamHub, StreamUpdate
from lg_streaming.activity import AgentStream, LLMStream, TaskStream

hub = StreamHub()

TESTS = """
import sys, time
for number in range(1, 5):
    time.sleep(0.2)
    print(f"test {number} passed")
print("1 warning: low on disk", file=sys.stderr)
"""


async def work() -> None:
    async with (
        hub.emitter("exec-1") as emitter,
        AgentStream(emitter, "tester-1", agent_type="tester") as agent,
        TaskStream(emitter, "release", name="Test and release", interval=0) as task,
    ):
        agent.started(task.task_id)
        task.progress(10, "Running the tests")
        code = await agent.capture_output([sys.executable, "-u", "-c", TESTS])  # each line leaves as it is written
        agent.log("info", f"the tests ended with {code}")

        task.progress(60, "Writing the notes")
        with LLMStream(emitter).request(model="a-model", agent_id=agent.agent_id, task_id=task.task_id) as request:
            for word in ["All ", "four ", "tests ", "pass."]:  # stands for the answer of a provider's client
                await asyncio.sleep(0.1)
                request.token(word)
            request.usage(input_tokens=310, output_tokens=4, cost=0.0009)
        task.completed({"notes": request.full_response()})


def show(update: StreamUpdate) -> None:
    name, data = update.type, update.data
    if name == "token" or name.startswith("agent:output:"):
        stream = "" if name == "token" else f"  {name.removeprefix('agent:output:')} | "
        print(stream, data["content"], sep="", end="", flush=True)
    else:
        told = {key: data[key] for key in data if not key.endswith("_id") and key not in {"response", "usage"}}
        print("\n" if name == "usage" else "", f"{name:17} {told or ''}", sep="")


async def main() -> None:
    program = asyncio.create_task(work())
    async for update in hub.subscribe("exec-1"):
        show(update)
    await program
    await hub.aclose()


if __name__ == "__main__":
    asyncio.run(main())
