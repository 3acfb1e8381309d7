"""Prompts to people: their form, made from LangGraph's interrupts, and the check of their answers.

- `prompt`: one prompt; `from_interrupt`: the prompt of an interrupt.
- `answers`: check of an answer; `reviews`: reviews of tool calls; `json_schema`: check against a JSON Schema.
"""

from lg_streaming.prompts.answers import check_answer
from lg_streaming.prompts.from_interrupt import (
    breakpoint_prompt,
    locate_prompts,
    prompt_from_interrupt,
    prompts_of_interrupts,
)
from lg_streaming.prompts.json_schema import schema_errors
from lg_streaming.prompts.prompt import ASKED, PROMPT_TYPES, TIMED_OUT, Prompt, PromptType

__all__ = [
    "ASKED",
    "PROMPT_TYPES",
    "TIMED_OUT",
    "Prompt",
    "PromptType",
    "breakpoint_prompt",
    "check_answer",
    "locate_prompts",
    "prompt_from_interrupt",
    "prompts_of_interrupts",
    "schema_errors",
]
