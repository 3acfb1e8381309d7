"""Choice of an execution from a numbered list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.cli.executions import list_newest
from lg_streaming.cli.keyboard import read_line
from lg_streaming.cli.outcome import CommandError
from lg_streaming.escaping import escape_line

if TYPE_CHECKING:
    from rich.console import Console

    from lg_streaming.client.rest import RestClient

__all__ = ["pick_execution"]

_SHOWN: Final = 20


async def pick_execution(rest: RestClient, console: Console) -> str:
    """Print the newest executions with numbers, and return the one whose number a person types.

    Raises:
        CommandError: If there is no execution, or the input ends without a choice.
        StreamingError: If the server refuses the request or does not answer.
    """
    executions = await list_newest(rest, limit=_SHOWN)
    if not executions:
        raise CommandError("there is no execution that you may read")
    for number, each in enumerate(executions, start=1):
        texts = (str(each.get(name) or "") for name in ("state", "execution_id", "title"))
        line = "  ".join(escape_line(text) for text in texts if text)
        console.print(f"{number:3}  {line}", markup=False, soft_wrap=True)
    while True:
        typed = read_line(f"Number, 1 to {len(executions)}: ")
        if typed is None:
            raise CommandError("no execution was chosen")
        if typed.isdecimal() and 0 < int(typed) <= len(executions):
            return str(executions[int(typed) - 1]["execution_id"])
