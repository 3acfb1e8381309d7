"""Options of the commands that are clients of a server: their types and their texts in `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str,
    typer.Argument(
        help="Address of the server, with its prefix where it has one; or of an execution, or of its page.",
        metavar="URL",
        show_default=False,
    ),
]
Execution = Annotated[
    str | None, typer.Argument(help="The execution, unless URL has it.", metavar="ID", show_default=False)
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Token for the server. Other users of the machine see arguments; they do not see your environment.",
        envvar="LG_STREAMING_TOKEN",
        metavar="TEXT",
        show_default=False,
    ),
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        help="File with the token, which is read again for each connection; - reads the standard input.",
        metavar="FILE",
        show_default=False,
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        help="Certificates of authorities in PEM format, in place of those of the system.",
        metavar="FILE",
        show_default=False,
    ),
]

# ---------------------------------------------------------------- watch
Pick = Annotated[bool, typer.Option("--pick", help="Choose from a numbered list of executions.")]
NoAnswers = Annotated[bool, typer.Option("--no-answers", help="Do not answer prompts from the keyboard.")]
Follow = Annotated[bool, typer.Option("--follow", help="Stay after the end of the run, for further runs.")]
FromStart = Annotated[bool, typer.Option("--from-start", help="Also show earlier runs of the execution.")]
After = Annotated[
    str | None,
    typer.Option(
        help="Begin after this position, such as 1645bb62:17; latest begins with new updates.",
        metavar="POSITION",
        show_default=False,
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Print lines in place of panels, also on a terminal.")]

# ---------------------------------------------------------------- list
States = Annotated[
    str | None,
    typer.Option(
        help="Only these states, with commas between: running, interrupted, completed, failed, cancelled, abandoned.",
        metavar="STATES",
        show_default=False,
    ),
]
Owner = Annotated[
    str | None, typer.Option(help="Only executions of this owner.", metavar="SUBJECT", show_default=False)
]
Text = Annotated[
    str | None,
    typer.Option(
        help="Only executions whose id, title, graph or owner has this text.", metavar="TEXT", show_default=False
    ),
]
Limit = Annotated[int, typer.Option(help="Largest number of executions.", min=1, max=10_000)]
ListJson = Annotated[bool, typer.Option("--json", help="Print each execution as a line of JSON.")]
ListWatch = Annotated[bool, typer.Option("--watch", help="Stay, and show changes until Ctrl-C.")]

# ---------------------------------------------------------------- cancel
Reason = Annotated[
    str | None,
    typer.Option(help="Reason, which readers of the run get.", metavar="TEXT", show_default=False),
]

# ---------------------------------------------------------------- respond
Answer = Annotated[
    str | None,
    typer.Argument(
        help="The answer: a choice or its number, yes or no, or a text; - reads the standard input. Without it the "
        "open prompts are shown and asked.",
        metavar="ANSWER",
        show_default=False,
    ),
]
PromptId = Annotated[
    str | None,
    typer.Option("--prompt", help="The prompt, if several are open.", metavar="ID", show_default=False),
]
RespondJson = Annotated[
    bool,
    typer.Option("--json", help="ANSWER is JSON. Without ANSWER: print each open prompt as a line of JSON."),
]

# ---------------------------------------------------------------- tail
TailJson = Annotated[bool, typer.Option("--json", help="Print the updates as lines of JSON.")]
Events = Annotated[
    str | None,
    typer.Option(
        help="Only these kinds and types, with commas between; * matches any text.",
        metavar="NAMES",
        show_default=False,
    ),
]
Node = Annotated[
    str | None,
    typer.Option(
        help="Only these nodes, with commas between; * matches any text.", metavar="NAMES", show_default=False
    ),
]
