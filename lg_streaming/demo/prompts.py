"""Prompts of the demo's nodes, and parsers of the answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage

DEFAULT_QUESTION = "How can a city stay cool in summer without more air conditioning?"
TARGET_WORDS = 190
"""Target length of a report, against which the writer's progress counts."""
FINDING_WORDS = 70
"""Usual length of a finding."""

APPROVAL_QUESTION = "Publish the report?"
REMARK_QUESTION = "What should be changed?"
_EDITOR = "The editor asks: "

PLANNER = (
    "You plan research. Write exactly three short questions whose answers together answer the user's question: "
    "one a line, numbered 1. to 3., and nothing else."
)
RESEARCHER = (
    "You research one question. Look it up with search_library, work out every derived figure with calculate, then "
    "answer in at most 80 words, from the passages alone."
)
WRITER = (
    f"You write a report from findings and from nothing else: about {TARGET_WORDS} words in short paragraphs of plain "
    "text. When a reviewer left remarks on an earlier draft, follow them."
)
REVIEWER = (
    "You review a report against the findings it was written from. Begin with APPROVED when it can go out as it is; "
    "otherwise begin with REVISE and say what to change, in at most 60 words."
)

_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[-*])\s+(.+?)\s*$", re.MULTILINE)


def plan_prompt(question: str) -> list[AnyMessage]:
    """Ask for three questions whose answers together answer `question`."""
    return [SystemMessage(PLANNER), HumanMessage(question)]


def research_prompt(question: str) -> list[AnyMessage]:
    """Ask for a finding on one question."""
    return [SystemMessage(RESEARCHER), HumanMessage(question)]


def write_prompt(question: str, findings: Sequence[str], *, draft: str, remarks: str) -> list[AnyMessage]:
    """Ask for a report; with an earlier `draft` and a reviewer's `remarks`, for a better one."""
    parts = [f"Question: {question}", _listed(findings)]
    if remarks:
        parts += [f"Earlier draft:\n{draft}", f"Remarks:\n{remarks}"]
    return [SystemMessage(WRITER), HumanMessage("\n\n".join(parts))]


def review_prompt(draft: str, findings: Sequence[str], *, remarks: str) -> list[AnyMessage]:
    """Ask for a verdict on a draft; `remarks` are those of the last round, if there was one."""
    parts = [_listed(findings), f"Report:\n{draft}"]
    if remarks:
        parts.append(f"Your remarks on the draft before:\n{remarks}")
    return [SystemMessage(REVIEWER), HumanMessage("\n\n".join(parts))]


def editor_remarks(remark: str) -> str:
    """Return a human's remark as the remarks for the writer."""
    return f"{_EDITOR}{remark}"


def editor_remark_in(prompt: str) -> str:
    """Return the human's remark in a writer's prompt; empty without one."""
    return prompt.partition(f"\n\nRemarks:\n{_EDITOR}")[2]


def questions_in(plan: str, *, fallback: str) -> list[str]:
    """Return the first three numbered or bulleted lines of `plan`; `fallback` if it has no such line."""
    return _NUMBERED.findall(plan)[:3] or [fallback]


def is_approved(verdict: str) -> bool:
    """Return whether a reviewer's verdict approves the report."""
    return verdict.lstrip(" *#").upper().startswith("APPROVED")


def research_done(messages: Sequence[AnyMessage], answer: str) -> int:
    """Return the progress of a researcher in percent.

    Each message after the prompt counts 10, up to 40; the words of the answer count the rest.
    """
    steps = min(40, 10 * (len(messages) - 2))
    return steps + min(60, 60 * len(answer.split()) // FINDING_WORDS)


def _listed(findings: Sequence[str]) -> str:
    return "Findings:\n" + "\n".join(f"- {finding}" for finding in findings)
