"""Options of the commands: their types and their texts in `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Host = Annotated[str, typer.Option(help="Address to listen on.")]

# ---------------------------------------------------------------- demo
Model = Annotated[
    str | None,
    typer.Option(
        help="A LangChain chat model such as openai:gpt-5-mini; its package must be installed. "
        "(default: an offline model, which needs no network and no key)",
        metavar="PROVIDER:NAME",
        show_default=False,
    ),
]
Question = Annotated[
    str | None,
    typer.Option(help="The question to research. (default: how a city can stay cool in summer)", show_default=False),
]
DemoPort = Annotated[
    int | None,
    typer.Option(
        help="Port to listen on; 0 takes any free one. (default: 8000, or any free one when that is taken)",
        min=0,
        max=65535,
        show_default=False,
    ),
]
Speed = Annotated[float, typer.Option(help="Pace of the offline model: 2 is twice as fast.", min=0.1, max=1000)]
Watch = Annotated[bool, typer.Option(help="Serve the page on which a browser can watch the run.")]
KeepOpen = Annotated[
    bool | None,
    typer.Option(
        "--keep-open/--once",
        help="After the run, serve the page until Ctrl-C; or exit. (default: serve when the output is a terminal)",
        show_default=False,
    ),
]

# ---------------------------------------------------------------- serve
Target = Annotated[
    str,
    typer.Argument(help="The ASGI application, such as shop.web:app.", metavar="MODULE:APP", show_default=False),
]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes any free one.", min=0, max=65535)]
Factory = Annotated[bool, typer.Option("--factory", help="APP is a function that makes the application.")]
Certfile = Annotated[
    Path | None,
    typer.Option(help="TLS certificate in PEM format, followed by the intermediate certificates.", show_default=False),
]
Keyfile = Annotated[
    Path | None, typer.Option(help="Private key of the certificate, not encrypted.", show_default=False)
]
Http2 = Annotated[
    bool,
    typer.Option(
        "--http2",
        help="Serve HTTP/2 and HTTP/1.1; needs --certfile, --keyfile and pip install 'lg-streaming[http2]'.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        help="Processes that serve the application together. More than one needs a log that they share, such as "
        "LG_STREAMING_LOG=redis://localhost.",
        min=1,
        max=512,
    ),
]
WsCompression = Annotated[
    bool,
    typer.Option(
        "--ws-compression",
        help="Compress WebSocket messages for clients that offer it; needs more memory for each connection.",
    ),
]
TrustedProxies = Annotated[
    str,
    typer.Option(
        "--forwarded-allow-ips",
        help="Proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted: addresses and networks separated by "
        "commas; * is all.",
        envvar="FORWARDED_ALLOW_IPS",
        metavar="ADDRESSES",
    ),
]
Grace = Annotated[
    float,
    typer.Option(help="Longest time from Ctrl-C or SIGTERM to the end of the process, in seconds.", min=3, max=3600),
]
LogLevel = Annotated[
    Literal["critical", "error", "warning", "info", "debug"], typer.Option(help="Lowest level of log records to show.")
]

# ---------------------------------------------------------------- start
GraphName = Annotated[str, typer.Argument(help="Name of the graph on the server.", metavar="GRAPH", show_default=False)]
Input = Annotated[str, typer.Option(help="The graph's input as JSON; - reads the standard input.", metavar="JSON")]
Url = Annotated[str, typer.Option(help="Address of the server, with its prefix where it has one.")]
ExecutionId = Annotated[
    str | None, typer.Option(help="The execution. (default: a new one)", metavar="ID", show_default=False)
]
ThreadId = Annotated[
    str | None, typer.Option(help="LangGraph's thread. (default: the execution)", metavar="ID", show_default=False)
]
RunConfig = Annotated[
    str | None,
    typer.Option(help="configurable, recursion_limit, tags and metadata, as JSON.", metavar="JSON", show_default=False),
]
Context = Annotated[str | None, typer.Option(help="The graph's context, as JSON.", metavar="JSON", show_default=False)]

# ---------------------------------------------------------------- token
Subject = Annotated[
    str, typer.Option(help="Subject of the token: the owner of executions.", metavar="TEXT", show_default=False)
]
Executions = Annotated[
    list[str] | None,
    typer.Option(
        help="Further executions that the token may read: an id, or a glob such as 'acme/*'. Repeatable.",
        metavar="GLOB",
        show_default=False,
    ),
]
Actions = Annotated[
    list[str] | None,
    typer.Option(
        help="Action that the token allows on these executions: read, control or start. Repeatable. (default: read)",
        metavar="ACTION",
        show_default=False,
    ),
]
Graphs = Annotated[
    list[str] | None,
    typer.Option(
        help="Graphs that the token may start, with --action start: a name, or a glob such as 'demo/*'. Repeatable.",
        metavar="GLOB",
        show_default=False,
    ),
]
ExpiresIn = Annotated[str, typer.Option(help="Lifetime of the token: seconds, or 30m, 1h, 7d.", metavar="DURATION")]
Secret = Annotated[
    str | None,
    typer.Option(
        help="The server's auth.secret. (default: LG_STREAMING_AUTH__SECRET in the environment; other users of the "
        "machine can see arguments, but not the environment)",
        metavar="TEXT",
        show_default=False,
    ),
]
PrivateKey = Annotated[
    Path | None,
    typer.Option(
        help="PEM file of the private key; the server has its public key.", metavar="FILE", show_default=False
    ),
]
SigningAlgorithm = Annotated[
    str | None,
    typer.Option(
        help="Signing algorithm. (default: HS256, or the usual algorithm of the key)",
        metavar="NAME",
        show_default=False,
    ),
]
Audience = Annotated[
    str | None,
    typer.Option(
        help="The server's auth.audience.",
        envvar="LG_STREAMING_AUTH__AUDIENCE",
        metavar="TEXT",
        show_default=False,
    ),
]
Issuer = Annotated[
    str | None,
    typer.Option(
        help="The server's auth.issuer.", envvar="LG_STREAMING_AUTH__ISSUER", metavar="TEXT", show_default=False
    ),
]
KeyId = Annotated[
    str | None,
    typer.Option(help="Id of the key, for a server with auth.jwks_url.", metavar="TEXT", show_default=False),
]
Claims = Annotated[
    list[str] | None,
    typer.Option(
        help="An additional claim, such as tenant='\"acme\"'. Repeatable.", metavar="NAME=JSON", show_default=False
    ),
]

# ---------------------------------------------------------------- doctor
Log = Annotated[
    str | None,
    typer.Option(
        help="URL of the log, such as redis://127.0.0.1:6379/0. Other users of the machine see arguments; they do not "
        "see your environment. (default: $LG_STREAMING_LOG)",
        metavar="URL",
        show_default=False,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(help="Prefix of the keys. (default: $LG_STREAMING_REDIS__PREFIX, or lg)", show_default=False),
]

# ---------------------------------------------------------------- replay
RecordingFile = Annotated[
    str,
    typer.Argument(
        help="File that a JsonLinesSink has written, or a page has downloaded; also compressed with gzip. - reads the "
        "standard input.",
        metavar="FILE",
        show_default=False,
    ),
]
ReplaySpeed = Annotated[
    str, typer.Option(help="Factor on the recorded pace: 4 is four times as fast; max makes no pauses.", metavar="N")
]
ReplayedExecutions = Annotated[
    list[str] | None,
    typer.Option(
        "--execution-id",
        help="Execution of the file to replay. Repeatable. (default: all)",
        metavar="ID",
        show_default=False,
    ),
]
Loop = Annotated[bool, typer.Option("--loop", help="Begin again a second after the end, as a further run.")]
PauseAtPrompts = Annotated[
    bool,
    typer.Option(
        "--pause-at-prompts",
        help="Wait at each prompt for an answer. Without it the recorded answer comes at its time, unless a reader "
        "is faster.",
    ),
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        help="Origin of a page that another server serves, such as http://localhost:5173. Repeatable.",
        metavar="ORIGIN",
        show_default=False,
    ),
]
OpenPage = Annotated[bool, typer.Option("--open", help="Open the page of the run in a browser.")]
