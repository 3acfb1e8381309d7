"""The commands `respond` and `cancel`: answer a prompt of a run, or cancel the run."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import orjson

from lg_streaming.cli.access import open_client, open_rest
from lg_streaming.cli.executions import patient_request
from lg_streaming.cli.keyboard import read_line
from lg_streaming.cli.outcome import EXIT_FAILED, EXIT_REFUSED, EXIT_WAITS, CommandError, UsageError
from lg_streaming.cli.output import print_error_line, print_json, print_line
from lg_streaming.errors import BadRequestError
from lg_streaming.escaping import escape_controls
from lg_streaming.folding import formatting
from lg_streaming.folding.prompt_view import AnswerError, PromptView
from lg_streaming.folding.run_view import RunView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.cli.access import Access
    from lg_streaming.client import SSEClient
    from lg_streaming.client.rest import RestClient

__all__ = ["RespondRequest", "cancel", "respond", "respond_command"]

_EVENTS: Final = "status,human_prompt,human_response,node_start"
_PAGE: Final = "1000"


@dataclass(frozen=True, slots=True, kw_only=True)
class RespondRequest:
    """Arguments of the command."""

    access: Access
    answer: str | None
    prompt_id: str | None
    as_json: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenPrompt:
    view: PromptView
    data: Mapping[str, Any]
    """Data of its update."""


def respond_command(url: str, execution_id: str, prompt: PromptView) -> str:
    """Return a command for a shell that answers a prompt: with its first choice, with yes, or with a text."""
    answer = str(prompt.choices[0]) if prompt.choices else "yes" if prompt.is_verdict else "…"
    arguments = [url, execution_id, answer, "--prompt", prompt.prompt_id]
    return escape_controls(f"lg-streaming respond {shlex.join(arguments)}")


async def cancel(access: Access, reason: str | None) -> int:
    """Cancel the open run, and return the exit code: 1 if no run is open.

    Raises:
        CommandError: If no execution is given.
        StreamingError: If the server refuses the request or does not answer.
    """
    execution_id = access.require_execution()
    async with open_client(access) as client:
        if await client.cancel(execution_id, reason=reason):
            print_line(f"Cancelled {execution_id}.")
            return 0
        state = (await client.execution(execution_id))["state"]
        print_error_line(f"No run of {execution_id} is open: the last one is {state}.")
        return EXIT_FAILED


async def respond(request: RespondRequest) -> int:
    """Answer a prompt, or show the open prompts and ask; return the exit code.

    Raises:
        CommandError: If an argument cannot be used, or no prompt fits.
        StreamingError: If the server refuses the answer, or does not answer.
    """
    execution_id = request.access.require_execution()
    async with open_rest(request.access) as rest, open_client(request.access) as client:
        prompts = await _open_prompts(rest, execution_id)
        if request.prompt_id is not None:
            prompts = [each for each in prompts if each.view.prompt_id == request.prompt_id]
        if not prompts:
            which = (
                "no prompt is open" if request.prompt_id is None else f"the prompt {request.prompt_id!r} is not open"
            )
            raise CommandError(f"{execution_id}: {which}")
        if request.answer is not None:
            return await _answer_one(request, prompts, client, execution_id)
        if request.as_json:
            for each in prompts:
                print_json(json.dumps(each.data, ensure_ascii=False))
            return 0
        return await _ask_all(prompts, client, execution_id)


async def _open_prompts(rest: RestClient, execution_id: str) -> list[_OpenPrompt]:
    """Return the open prompts of the open run, oldest first."""
    run = RunView()
    data: dict[str, Mapping[str, Any]] = {}
    position: dict[str, str] = {}
    path = f"/executions/{quote(execution_id, safe='')}"
    await patient_request(rest, path, {})  # an unknown execution is an error
    while True:
        query = {"events": _EVENTS, "limit": _PAGE, **position}
        page = await patient_request(rest, f"{path}/updates", query)
        for update in cast("list[dict[str, Any]]", page["updates"]):
            if update["type"] == "workflow_start" and run.ended_at is not None:
                run = RunView()
            run.apply(update)
            content: Any = update["data"]
            if update["type"] == "human_prompt":
                data[str(content["prompt_id"])] = content
            elif update["type"] == "workflow_interrupted":
                data |= {str(each["prompt_id"]): each for each in content.get("prompts") or ()}
        if not page["more"]:
            return [
                _OpenPrompt(
                    view=each, data=data.get(each.prompt_id, {"prompt_id": each.prompt_id, "prompt": each.text})
                )
                for each in run.prompts
                if each.state == "open"
            ]
        position = {"after": page["position"]}


async def _answer_one(request: RespondRequest, prompts: list[_OpenPrompt], client: SSEClient, execution_id: str) -> int:
    if len(prompts) > 1:
        ids = ", ".join(each.view.prompt_id for each in prompts)
        raise UsageError(f"{len(prompts)} prompts are open: choose one with --prompt: {ids}")
    prompt = prompts[0].view
    typed = sys.stdin.read().strip() if request.answer == "-" else str(request.answer)
    try:
        answer = orjson.loads(typed) if request.as_json else prompt.parse(typed)
    except AnswerError as error:
        options = ", ".join(map(str, prompt.choices))
        raise CommandError(f"{typed!r:.200} is none of the choices: {options}", exit_code=EXIT_REFUSED) from error
    except ValueError as error:
        raise UsageError(f"ANSWER is not JSON: {error}") from error
    await client.respond(execution_id, prompt.prompt_id, answer)
    print_line(f"Answered {prompt.prompt_id}.")
    return 0


async def _ask_all(prompts: list[_OpenPrompt], client: SSEClient, execution_id: str) -> int:
    """Ask each prompt on the terminal. An empty line leaves a prompt open."""
    left_open = False
    for prompt in (each.view for each in prompts):
        print_line(formatting.question(prompt))
        while True:
            typed = read_line("> ")
            if not typed:
                left_open = True
                break
            try:
                await client.respond(execution_id, prompt.prompt_id, prompt.parse(typed))
            except AnswerError as error:
                print_line(str(error))
            except BadRequestError as error:
                print_line(error.message)
                if error.code != BadRequestError.code:  # it was answered somewhere else
                    break
            else:
                print_line(f"Answered {prompt.prompt_id}.")
                break
    return EXIT_WAITS if left_open else 0
