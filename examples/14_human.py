"""Let an agent ask before it calls a tool, and answer by code: `python examples/14_human.py`."""

import asyncio
from typing import Any

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from lg_streaming import StreamingModule, StreamUpdate
from lg_streaming.testing import ScriptedChatModel


@tool
def refund(customer: str, amount: int) -> str:
    """Refund an amount to a customer."""
    return f"{customer} got {amount} back"


call = {"name": "refund", "args": {"customer": "Ada", "amount": 120}, "id": "call-1"}
model = ScriptedChatModel(answers=[AIMessage("", tool_calls=[call]), "Ada has the money."])
guard = HumanInTheLoopMiddleware(interrupt_on={"refund": {"allowed_decisions": ["approve", "edit", "reject"]}})
agent: Any = create_agent(model, [refund], middleware=[guard], checkpointer=InMemorySaver())


def decide(prompt: StreamUpdate) -> Any:
    """Decide as a person would: allow 20 in place of what the agent asks for."""
    (action,) = prompt.data["value"]["action_requests"]
    print(f"asked: {action['name']} {action['args']}")
    edited = {"name": action["name"], "args": {**action["args"], "amount": 20}}
    return {"decisions": [{"type": "edit", "edited_action": edited}]}


async def main() -> None:
    async with StreamingModule() as streaming:
        run = await streaming.runs.start(agent, {"messages": "Ada wants 120 back"}, execution_id="chat-1")
        async for update in run.updates():
            if update.type == "human_prompt":
                await streaming.hub.respond("chat-1", update.data["prompt_id"], decide(update), responder="ann")
            elif update.type == "human_response":
                print(f"answered by {update.data['responded_by']}")
            elif update.type == "tool_complete":
                print(f"tool: {update.data['output']}")
        print((await run)["messages"][-1].text)


if __name__ == "__main__":
    asyncio.run(main())
