"""The demo's default model: answers derived from the prompt, streamed at a realistic pace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from lg_streaming.demo import prompts, script
from lg_streaming.demo.tools import NOTHING_FOUND
from lg_streaming.testing import Answer, ScriptedChatModel

_SECONDS_PER_TOKEN = 0.026
_SECONDS_TO_FIRST_TOKEN = 0.45
_FINDING = re.compile(r"^- (.+)$", re.MULTILINE)


def offline_model(*, speed: float = 1.0) -> ScriptedChatModel:
    """Return a model that needs no network and no key; `speed` 2 is twice as fast."""
    return ScriptedChatModel(
        answers=answer,
        delay=_SECONDS_PER_TOKEN / speed,
        first_delay=_SECONDS_TO_FIRST_TOKEN / speed,
    )


def answer(messages: list[BaseMessage]) -> Answer:
    """Return the answer to one of the demo's prompts."""
    role, prompt = messages[0].text, messages[1].text
    if role == prompts.PLANNER:
        return _plan(prompt)
    if role == prompts.RESEARCHER:
        return _research(prompt, [message for message in messages if isinstance(message, ToolMessage)])
    if role == prompts.WRITER:
        return _write(prompt)
    return _review(prompt)


def _plan(question: str) -> AIMessage:
    if question == prompts.DEFAULT_QUESTION:
        questions: Sequence[str] = [study.question for study in script.STUDIES]
        thought = script.PLAN_THOUGHT
    else:
        topic = question.rstrip("?. ")
        questions = [f"{topic}: {part}" for part in ("what is known?", "what are the figures?", "what can be done?")]
        thought = "The library is small, so I ask for what is known, for figures, and for what can be done."
    lines = [f"{number}. {line}" for number, line in enumerate(questions, start=1)]
    return AIMessage([{"type": "reasoning", "reasoning": thought}, {"type": "text", "text": "\n".join(lines)}])


def _research(question: str, results: Sequence[ToolMessage]) -> Answer:
    study = next((study for study in script.STUDIES if study.question == question), None)
    searches = study.searches if study else (question,)
    sums = study.sums if study else ()
    if not results:
        return _calls(question, "search_library", "query", searches)
    if sums and len(results) == len(searches):
        return _calls(question, "calculate", "expression", sums)
    return study.finding if study else _extract(results)


def _calls(question: str, tool: str, argument: str, values: Sequence[str]) -> AIMessage:
    calls = [
        ToolCall(name=tool, args={argument: value}, id=f"{tool}-{crc32(f'{question} {value}'.encode()):08x}")
        for value in values
    ]
    return AIMessage("", tool_calls=calls)


def _extract(results: Sequence[ToolMessage]) -> str:
    passages = [line for result in results for line in result.text.splitlines() if line and line != NOTHING_FOUND]
    if not passages:
        return script.NOTHING_KNOWN
    return " ".join(passage.split(": ", 1)[-1] for passage in passages)


def _write(prompt: str) -> str:
    remark = prompts.editor_remark_in(prompt)
    return f"{_report(prompt)}\n\n{script.EDITOR_NOTE}{remark}" if remark else _report(prompt)


def _report(prompt: str) -> str:
    findings = _FINDING.findall(prompt.partition("\n\nEarlier draft:")[0])
    revising = "\n\nRemarks:\n" in prompt
    if findings == [study.finding for study in script.STUDIES]:
        return script.REVISED_DRAFT if revising else script.FIRST_DRAFT
    paragraphs = list(dict.fromkeys(findings))
    return "\n\n".join([script.PLAIN_OPENING, *paragraphs] if revising else paragraphs)


def _review(prompt: str) -> str:
    scripted = script.FIRST_DRAFT in prompt or script.REVISED_DRAFT in prompt
    if "\n\nYour remarks on the draft before:\n" in prompt:
        return script.APPROVAL if scripted else script.PLAIN_APPROVAL
    return script.REMARKS if scripted else script.PLAIN_REMARKS
