"""Agents whose tool calls people review: approve, edit, reject, respond; and tools that ask."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from langchain.agents import middleware as hooks
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

from lg_streaming import StreamingModule, human_prompt
from lg_streaming.errors import BadRequestError
from tests.agents.teams import Messages, call, create_agent, says
from tests.runs.people import data_of, start_asked

HumanInTheLoopMiddleware: Any = cast("Any", hooks).HumanInTheLoopMiddleware
START_INPUT = {"messages": [("human", "Refund.")]}


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


@tool
def refund(amount: int) -> str:
    """Refund."""
    return f"refunded {amount}"


@tool
def close_account(customer: str) -> str:
    """Close an account."""
    return f"closed {customer}"


REFUND, CLOSE = call("refund", "call-r", amount=120), call("close_account", "call-c", customer="Ann")


def agent(*calls: Any, mode: str = "batched", allowed: Any = True, tools: Any = (refund, close_account)) -> Any:
    model = says("cashier", AIMessage("One moment.", tool_calls=list(calls)), "Done.")
    options = {} if mode == "none" else {"interrupt_on": {"refund": allowed, "close_account": True}}
    guards = [HumanInTheLoopMiddleware(**options, interrupt_mode=mode)] if options else []
    return create_agent(model, list(tools), middleware=guards, checkpointer=InMemorySaver())


def results(state: Any) -> list[tuple[str, str]]:
    return [(each.tool_call_id, each.content) for each in state["messages"] if each.type == "tool"]


async def test_a_review_is_one_prompt_with_a_decision_for_each_call(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, agent(REFUND, CLOSE), START_INPUT)
    assert (prompt.data["type"], prompt.data["node_id"]) == ("approval", "HumanInTheLoopMiddleware.after_model")
    assert "refund" in prompt.data["prompt"]
    assert [each["name"] for each in prompt.data["value"]["action_requests"]] == ["refund", "close_account"]
    decisions = [{"type": "approve"}, {"type": "reject", "message": "She stays."}]
    await streaming.hub.respond("e", prompt.data["prompt_id"], {"decisions": decisions})
    (closed, refused), (refunded, text) = sorted(results(await run))
    assert (closed, refunded, text) == ("call-c", "call-r", "refunded 120")
    assert "She stays." in refused
    assert [each["response"] for each in await data_of(streaming, "human_response")] == [{"decisions": decisions}]


WRONG: list[tuple[Any, str]] = [
    ({"decisions": []}, "one for each of refund, not 0"),
    ({"decisions": [{"type": "approve"}, {"type": "approve"}]}, "one for each of refund"),
    ({"decisions": ["approve"]}, "is an object with a type of"),
    ({"decisions": [{"type": "respond", "message": "x"}]}, "type of approve, edit, reject, not 'respond'"),
    ({"decisions": [{"type": "reject", "message": 1}]}, "a text in message"),
    ({"decisions": [{"type": "edit"}]}, "edited_action"),
    ({"decisions": [{"type": "edit", "edited_action": {"name": "refund", "args": {}}}]}, "args.amount is missing"),
    (
        {"decisions": [{"type": "edit", "edited_action": {"name": "refund", "args": {"amount": "much"}}}]},
        "args.amount is a whole number, not 'much'",
    ),
    (
        {"decisions": [{"type": "edit", "edited_action": {"name": "burn", "args": {}}}]},
        "the graph has close_account, refund",
    ),
    ("perhaps", "one for each"),
]


async def test_wrong_decisions_leave_the_prompt_open(streaming: StreamingModule) -> None:
    allowed = {"allowed_decisions": ["approve", "edit", "reject"]}
    run, (prompt,) = await start_asked(streaming, agent(REFUND, allowed=allowed), START_INPUT)
    for response, message in WRONG:
        with pytest.raises(BadRequestError, match=message) as caught:
            await streaming.hub.respond("e", prompt.data["prompt_id"], response)
        assert caught.value.details["allowed"] == [{"action": "refund", "decisions": ["approve", "edit", "reject"]}]
    edit = {"type": "edit", "edited_action": {"name": "refund", "args": {"amount": 1}}}
    await streaming.hub.respond("e", prompt.data["prompt_id"], {"decisions": [edit]})
    ((_, content),) = results(await run)
    assert content.endswith("refunded 1")


@pytest.mark.parametrize(("answer", "text"), [(True, "refunded 120"), ("reject", "User rejected")])
async def test_yes_or_no_decides_about_all_calls(streaming: StreamingModule, answer: Any, text: str) -> None:
    run, (prompt,) = await start_asked(streaming, agent(REFUND), START_INPUT)
    await streaming.hub.respond("e", prompt.data["prompt_id"], answer)
    ((_, content),) = results(await run)
    assert text in content
    ran = [each["output"] for each in await data_of(streaming, "tool_complete")]
    assert ran == (["refunded 120"] if answer is True else [])


async def test_calls_reviewed_one_by_one(streaming: StreamingModule) -> None:
    run, prompts = await start_asked(streaming, agent(REFUND, CLOSE, mode="per_call"), START_INPUT)
    by_call = {each.data["tool_call_id"]: each.data["prompt_id"] for each in prompts}
    assert {each.metadata.tool_call_id for each in prompts} == set(by_call) == {"call-r", "call-c"}
    edit = {"type": "edit", "edited_action": {"name": "refund", "args": {"amount": "much"}}}
    for response, message in [(edit, "args.amount is a whole number"), ({"type": "x"}, "type of approve, edit")]:
        with pytest.raises(BadRequestError, match=message):
            await streaming.hub.respond("e", by_call["call-r"], response)
    await streaming.hub.respond("e", by_call["call-r"], {"type": "respond", "message": "Not today."})
    await streaming.hub.respond("e", by_call["call-c"], "approve")
    assert sorted(results(await run)) == [("call-c", "closed Ann"), ("call-r", "Not today.")]


async def test_the_older_form_of_a_review(streaming: StreamingModule) -> None:
    config = {"allow_accept": True, "allow_edit": True, "allow_respond": False, "allow_ignore": True}
    request = {"action_request": {"action": "refund", "args": {"amount": 3}}, "config": config, "description": "Ok?"}

    def review(state: Messages) -> Any:
        return {"messages": [("ai", str(interrupt([request])[0]))]}

    graph: Any = StateGraph(Messages).add_node(review).add_edge(START, "review").compile(checkpointer=InMemorySaver())
    run, (prompt,) = await start_asked(streaming, graph, START_INPUT)
    assert (prompt.data["prompt"], prompt.data["type"]) == ("Ok?", "approval")
    for response, message in [
        ([{"type": "response", "args": "no"}], "type of accept, edit, ignore"),
        ([{"type": "edit", "args": {"amount": 2}}], "the tool and its arguments in args"),
        ([], "one for each of refund"),
    ]:
        with pytest.raises(BadRequestError, match=message):
            await streaming.hub.respond("e", prompt.data["prompt_id"], response)
    await streaming.hub.respond("e", prompt.data["prompt_id"], True)
    assert (await run)["messages"][-1].content == "{'type': 'accept', 'args': None}"


@tool
async def refund_if(amount: int) -> str:
    """Refund, if a human approves."""
    return f"refunded {amount}: {await human_prompt(f'Refund {amount}?', type='approval')}"


@tool
def close_if(customer: str) -> str:
    """Close an account, if a human approves."""
    return f"{customer}: {interrupt({'question': f'Close {customer}?', 'options': ['yes', 'no']})}"


async def test_tools_that_ask(streaming: StreamingModule) -> None:
    calls = [call("refund_if", "call-r", amount=5), call("close_if", "call-c", customer="Ann")]
    run, prompts = await start_asked(streaming, agent(*calls, mode="none", tools=(refund_if, close_if)), START_INPUT)
    answers = {"Refund 5?": ("yes", "call-r"), "Close Ann?": ("no", "call-c")}
    for each in prompts:
        answer, tool_call_id = answers[each.data["prompt"]]
        assert (each.data["node_id"], each.data["tool_call_id"]) == ("tools", tool_call_id)
        await streaming.hub.respond("e", each.data["prompt_id"], answer)
    assert sorted(results(await run)) == [("call-c", "Ann: no"), ("call-r", "refunded 5: True")]


async def test_a_tool_node_that_asks(streaming: StreamingModule) -> None:
    builder: Any = StateGraph(Messages)

    def model(state: Messages) -> Any:
        return {"messages": [AIMessage("", tool_calls=[call("close_if", "call-c", customer="Ann")])]}

    builder.add_node("model", model).add_node("tools", ToolNode([close_if]))
    builder.add_edge(START, "model").add_edge("model", "tools")
    run, (prompt,) = await start_asked(streaming, builder.compile(checkpointer=InMemorySaver()), START_INPUT)
    assert (prompt.data["node_id"], prompt.data["tool_call_id"]) == ("tools", "call-c")
    with pytest.raises(BadRequestError, match="one of 'yes', 'no'"):
        await streaming.hub.respond("e", prompt.data["prompt_id"], "perhaps")
    await streaming.hub.respond("e", prompt.data["prompt_id"], "yes")
    assert results(await run) == [("call-c", "Ann: yes")]
