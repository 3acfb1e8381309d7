"""The demo's graph: a research assistant that plans, researches in parallel, writes, reviews, and asks an editor."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send

from lg_streaming import current_progress, human_prompt, stream_event, stream_progress, stream_token
from lg_streaming.demo import prompts

MAX_REVISIONS = 2
CHOICES: Final = ("publish", "revise", "discard")
"""Answers to the question whether the report may be published. Without an answer in time it is discarded."""
Graph: TypeAlias = "CompiledStateGraph[Any, Any, Any, Any]"


class Report(TypedDict, total=False):
    """State of the graph."""

    question: str
    questions: list[str]
    findings: Annotated[list[str], operator.add]
    draft: str
    remarks: str
    approved: bool
    revisions: int
    decision: Literal["publish", "revise", "discard"]
    published: bool


class Assignment(TypedDict):
    """Input of one researcher."""

    question: str


class ResearchAssistant:
    """Nodes of the graph, bound to one model and one set of tools."""

    def __init__(self, model: BaseChatModel, tools: list[BaseTool], *, answer_timeout: float | None) -> None:
        self._model = model
        self._answer_timeout = answer_timeout
        self._researcher = build_researcher(model.bind_tools(tools), tools)

    @stream_token()
    @stream_event()
    async def plan(self, state: Report) -> Report:
        """Divide the question into three."""
        question = state.get("question", "")
        reply = await self._model.ainvoke(prompts.plan_prompt(question))
        return {"questions": prompts.questions_in(reply.text, fallback=question)}

    @stream_token()
    @stream_event()
    @stream_progress(interval=0.1)
    async def research(self, state: Assignment) -> Report:
        """Answer one of the three questions with the tools. One branch runs for each question, in parallel."""
        inputs: MessagesState = {"messages": [*prompts.research_prompt(state["question"])]}
        outcome = await self._researcher.ainvoke(inputs)
        return {"findings": [str(outcome["messages"][-1].text)]}

    @stream_token()
    @stream_event()
    @stream_progress(interval=0.1)
    async def write(self, state: Report) -> Report:
        """Write the report, or revise it by the reviewer's remarks."""
        progress = current_progress()
        prompt = prompts.write_prompt(
            state.get("question", ""),
            state.get("findings", []),
            draft=state.get("draft", ""),
            remarks=state.get("remarks", ""),
        )
        draft, words = "", 0
        async for chunk in self._model.astream(prompt):
            draft += chunk.text
            if len(draft.split()) > words:
                words = len(draft.split())
                progress.update(words, max(prompts.TARGET_WORDS, words))
        progress.update(words, words)
        return {"draft": draft}

    @stream_token()
    @stream_event()
    async def review(self, state: Report) -> Report:
        """Approve the report, or return it with remarks."""
        prompt = prompts.review_prompt(
            state.get("draft", ""), state.get("findings", []), remarks=state.get("remarks", "")
        )
        verdict = await self._model.ainvoke(prompt)
        return {
            "approved": prompts.is_approved(verdict.text),
            "remarks": str(verdict.text),
            "revisions": state.get("revisions", 0) + 1,
        }

    @stream_event()
    async def approve(self, state: Report) -> Report:  # noqa: ARG002 (LangGraph calls it with the state)
        """Ask a human about the report."""
        decision = await human_prompt(
            prompts.APPROVAL_QUESTION, choices=CHOICES, timeout=self._answer_timeout, default="discard"
        )
        return {"decision": decision}

    @stream_event()
    async def instruct(self, state: Report) -> Report:  # noqa: ARG002
        """Ask a human for the changes. Without an answer the report stays as it is."""
        remark = await human_prompt(
            prompts.REMARK_QUESTION, type="input", required=False, timeout=self._answer_timeout, default=""
        )
        return {"remarks": prompts.editor_remarks(remark), "revisions": 0}

    @stream_event()
    async def publish(self, state: Report) -> Report:  # noqa: ARG002
        """Publish the report; in the demo this is a mark in the state."""
        return {"published": True}


def build_researcher(model: Runnable[Any, AIMessage], tools: list[BaseTool]) -> Graph:
    """Build one researcher: the model calls tools until it can answer."""

    async def ask(state: MessagesState) -> dict[str, list[AIMessage]]:
        progress = current_progress()
        reply = AIMessageChunk(content="")
        async for chunk in model.astream(state["messages"]):
            if isinstance(chunk, AIMessageChunk):
                reply = add_ai_message_chunks(reply, chunk)
            done = prompts.research_done(state["messages"], str(reply.text))
            if done > progress.percent:
                progress.update(done, 100)
        return {"messages": [reply]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", tools_condition, ["tools", END])
    graph.add_edge("tools", "ask")
    return graph.compile()


def build_graph(model: BaseChatModel, tools: list[BaseTool], *, answer_timeout: float | None = None) -> Graph:
    """Build the assistant: plan → research (one branch a question) → write → review → (write again | approve).

    A human then decides: approve → (publish | instruct → write again | end).

    Args:
        model: The model.
        tools: The tools of the researchers.
        answer_timeout: Seconds in which a human may answer; None for no limit.
    """
    assistant = ResearchAssistant(model, tools, answer_timeout=answer_timeout)
    graph = StateGraph(Report)
    graph.add_node("plan", assistant.plan)
    graph.add_node("research", assistant.research)
    graph.add_node("write", assistant.write)
    graph.add_node("review", assistant.review)
    graph.add_node("approve", assistant.approve)
    graph.add_node("instruct", assistant.instruct)
    graph.add_node("publish", assistant.publish)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _assign, ["research"])
    graph.add_edge("research", "write")
    graph.add_edge("write", "review")
    graph.add_conditional_edges("review", _after_review, ["write", "approve"])
    graph.add_conditional_edges("approve", _after_approval, ["publish", "instruct", END])
    graph.add_edge("instruct", "write")
    return graph.compile(checkpointer=InMemorySaver())


def _assign(state: Report) -> list[Send]:
    return [Send("research", Assignment(question=question)) for question in state.get("questions", [])]


def _after_review(state: Report) -> str:
    if state.get("approved") or state.get("revisions", 0) > MAX_REVISIONS:
        return "approve"
    return "write"


def _after_approval(state: Report) -> str:
    return {"publish": "publish", "revise": "instruct"}.get(state.get("decision", ""), END)
