"""Shape the text of a node: filter, processor and batches; and stream a client that LangChain knows nothing of."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, current_emitter, stream_token

SENTENCE = "Call 555-0199 or come by: we are open until six in the evening ."


class State(TypedDict):
    answer: str


async def completion() -> AsyncIterator[dict[str, Any]]:
    """Stands for `await client.chat.completions.create(..., stream=True)`."""
    for word in SENTENCE.split():
        await asyncio.sleep(0.01)
        yield {"id": "chatcmpl-1", "choices": [{"delta": {"content": word + " "}}]}


def mask(token: str, metadata: Mapping[str, Any]) -> str:
    if metadata["role"] != "ai":
        return token
    return "".join("*" if letter.isdigit() else letter for letter in token)


@stream_token(batch_size=5, flush_interval=0.1, processor=mask, filter={"pattern": r"\w"}, format="structured")
async def write(state: State) -> State:
    answer = state["answer"]
    async for chunk in current_emitter().tokens(completion()):
        answer += chunk["choices"][0]["delta"]["content"]
    return {"answer": answer}


builder = StateGraph(State)
builder.add_node("write", write)
builder.add_edge(START, "write")
builder.add_edge("write", END)
graph = builder.compile()


async def main() -> None:
    async with StreamingModule() as streaming:
        result = await graph.ainvoke({"answer": ""}, streaming.config(execution_id="exec-1"))
        async for update in streaming.hub.subscribe("exec-1", types=["token"]):
            data = update.data
            print(f"{data['index']:2} {data.get('batch_size', 1)} {data['total_tokens']:2} {data['content']}")
        print(f"the node returned: {result['answer']}")


if __name__ == "__main__":
    asyncio.run(main())
