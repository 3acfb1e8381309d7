"""`python ag_ui_server.py PORT`: the chat of `start_graph.py` behind the package ag-ui-langgraph, as its page shows it.

It runs in the environment `.venv-langgraph-dev`, and imports nothing of this repository but that file.
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver

sys.path.insert(0, str(Path(__file__).parent))
from start_graph import TOKENS, chat_of  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

app: Any = FastAPI()
agent: Any = LangGraphAgent(  # pyright: ignore[reportUnknownVariableType]
    name="chat", graph=chat_of(TOKENS, checkpointer=InMemorySaver())
)
add_langgraph_fastapi_endpoint(app, agent, "/agui")

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
