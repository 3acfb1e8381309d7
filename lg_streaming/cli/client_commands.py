"""The commands that are clients of a server: `watch`, `list`, `tail`, `respond` and `cancel`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import typer
from rich.console import Console

from lg_streaming.cli import client_options as options
from lg_streaming.cli.outcome import EXIT_INTERRUPTED, CommandError, run_command
from lg_streaming.escaping import escape_controls

__all__ = ["COMMANDS", "exit_on_errors", "print_error"]


def watch(
    address: options.Address,
    execution_id: options.Execution = None,
    *,
    pick: options.Pick = False,
    no_answers: options.NoAnswers = False,
    follow: options.Follow = False,
    from_start: options.FromStart = False,
    after: options.After = None,
    plain: options.Plain = False,
    token: options.Token = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
) -> None:
    """Show a run live: nodes, text, tools, progress and prompts.

    Without ID: the newest open run, or else the next run that starts. The keyboard answers prompts. Ctrl-C ends the
    command, and the run goes on.

    The exit code is 0 if the run completes, 1 if it fails, and 4 if it is cancelled. It is 5 if the server cannot be
    reached, and 6 if the server refuses the caller.

    Example: `lg-streaming watch http://127.0.0.1:8000 exec-1`
    """
    from lg_streaming.cli.access import Access
    from lg_streaming.cli.watch import WatchRequest
    from lg_streaming.cli.watch import watch as show

    with exit_on_errors("Stopped watching; the run goes on."):
        request = WatchRequest(
            access=Access.of(address, execution_id, token=token, token_file=token_file, ca=ca),
            pick=pick,
            answers=not no_answers,
            follow=follow,
            from_start=from_start,
            after=after,
            plain=plain,
        )
        raise typer.Exit(run_command(show(request, Console(highlight=False))))


def list_(
    address: options.Address,
    *,
    state: options.States = None,
    owner: options.Owner = None,
    text: options.Text = None,
    limit: options.Limit = 50,
    as_json: options.ListJson = False,
    watch: options.ListWatch = False,
    token: options.Token = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
) -> None:
    """List the executions that you may read, newest first.

    Example: `lg-streaming list http://127.0.0.1:8000 --state running,interrupted`
    """
    from lg_streaming.cli.access import Access
    from lg_streaming.cli.list_view import ListRequest, list_executions

    with exit_on_errors(None):
        request = ListRequest(
            access=Access.of(address, token=token, token_file=token_file, ca=ca),
            states=state,
            owner=owner,
            text=text,
            limit=limit,
            as_json=as_json,
            watch=watch,
        )
        raise typer.Exit(run_command(list_executions(request, Console(highlight=False))))


def tail(
    address: options.Address,
    execution_id: options.Execution = None,
    *,
    as_json: options.TailJson = False,
    events: options.Events = None,
    node: options.Node = None,
    after: options.After = None,
    follow: options.Follow = False,
    token: options.Token = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
) -> None:
    """Print the updates of an execution, one line each, to the end of its run.

    Without ID: the updates of all executions from now on, until Ctrl-C. A lost connection is replaced, and no update
    is lost or repeated.

    Example: `lg-streaming tail http://127.0.0.1:8000 exec-1 --json --events token,progress`
    """
    from lg_streaming.cli.access import Access
    from lg_streaming.cli.tail import TailRequest, split_names
    from lg_streaming.cli.tail import tail as print_updates

    with exit_on_errors(None):
        request = TailRequest(
            access=Access.of(address, execution_id, token=token, token_file=token_file, ca=ca),
            filters={"events": split_names(events), "node_ids": split_names(node)},
            after=after,
            follow=follow,
            as_json=as_json,
        )
        raise typer.Exit(run_command(print_updates(request)))


def respond(
    address: options.Address,
    execution_id: options.Execution = None,
    answer: options.Answer = None,
    *,
    prompt: options.PromptId = None,
    as_json: options.RespondJson = False,
    token: options.Token = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
) -> None:
    """Answer a prompt of a run. Without ANSWER: show the open prompts, and ask.

    With the address of an execution or its page, ANSWER follows URL.

    Example: `lg-streaming respond http://127.0.0.1:8000 exec-1 publish`
    """
    from lg_streaming.cli.access import Access
    from lg_streaming.cli.respond import RespondRequest
    from lg_streaming.cli.respond import respond as send

    with exit_on_errors("Stopped; prompts without an answer stay open."):
        if answer is None and execution_id is not None and Access.of(address).execution_id is not None:
            execution_id, answer = None, execution_id
        request = RespondRequest(
            access=Access.of(address, execution_id, token=token, token_file=token_file, ca=ca),
            answer=answer,
            prompt_id=prompt,
            as_json=as_json,
        )
        raise typer.Exit(run_command(send(request)))


def cancel(
    address: options.Address,
    execution_id: options.Execution = None,
    *,
    reason: options.Reason = None,
    token: options.Token = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
) -> None:
    """Cancel the open run of an execution. The exit code is 1 if no run is open.

    Example: `lg-streaming cancel http://127.0.0.1:8000 exec-1 --reason "no longer needed"`
    """
    from lg_streaming.cli.access import Access
    from lg_streaming.cli.respond import cancel as send

    with exit_on_errors(None):
        access = Access.of(address, execution_id, token=token, token_file=token_file, ca=ca)
        raise typer.Exit(run_command(send(access, reason)))


COMMANDS: Final[Sequence[Callable[..., Any]]] = (watch, list_, tail, respond, cancel)
"""The commands, in the order of `--help`. A name loses its last underscore."""


@contextmanager
def exit_on_errors(interrupted: str | None) -> Generator[None]:
    """Print an expected error as one line, and end the program with its exit code.

    Args:
        interrupted: Line to print after Ctrl-C.
    """
    try:
        yield
    except CommandError as error:
        raise print_error(error, code=error.exit_code) from error
    except KeyboardInterrupt:
        if interrupted is not None:
            typer.echo(interrupted, err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def print_error(error: Exception, *, code: int = 1) -> typer.Exit:
    """Print an error on stderr, and return the exception that ends the program.

    Control codes are escaped: the error may hold text of a server or a model.
    """
    message = escape_controls(f"Error: {error}")
    Console(stderr=True, highlight=False).print(message, style="red", markup=False, soft_wrap=True)
    return typer.Exit(code)
