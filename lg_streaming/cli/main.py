"""The commands. Each expected error is printed as one line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from lg_streaming.cli import client_commands, client_options, options
from lg_streaming.cli.client_commands import print_error
from lg_streaming.cli.outcome import EXIT_INTERRUPTED, EXIT_USAGE, run_command
from lg_streaming.escaping import escape_controls

app: typer.Typer = typer.Typer(
    name="lg_streaming",
    help="Start runs of LangGraph, and watch, answer and cancel them live.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def demo(
    *,
    model: options.Model = None,
    question: options.Question = None,
    host: options.Host = "127.0.0.1",
    port: options.DemoPort = None,
    speed: options.Speed = 1,
    watch: options.Watch = True,
    keep_open: options.KeepOpen = None,
) -> None:
    """Run a research assistant and watch it in the terminal and in a browser.

    The assistant is a LangGraph graph. It plans, researches three questions in parallel with tools, and writes a
    report. It reviews the report, and asks whether to publish it. Answer in the terminal or on the page. It runs
    behind a real server in this process. The terminal shows the updates that a Socket.IO client of that server
    receives. Ctrl-C cancels the run; again, it ends the program.
    """
    from lg_streaming.cli.demo import DemoError, DemoOptions, DemoStoppedError, run_demo

    console = Console(highlight=False)
    demo_options = DemoOptions(
        question=question,
        model=model,
        host=host,
        port=port,
        speed=speed,
        watch=watch,
        keep_open=console.is_terminal if keep_open is None else keep_open,
    )
    try:
        asyncio.run(run_demo(demo_options, console))
    except DemoError as error:
        raise print_error(error) from error
    except (KeyboardInterrupt, DemoStoppedError):
        console.print("Stopped.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        sys.stdout = None  # the reader has closed the pipe: nothing more can be written, not even at exit
        raise typer.Exit(1) from None


@app.command()
def serve(
    target: options.Target,
    *,
    factory: options.Factory = False,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    certfile: options.Certfile = None,
    keyfile: options.Keyfile = None,
    http2: options.Http2 = False,
    workers: options.Workers = 1,
    ws_compression: options.WsCompression = False,
    trusted_proxies: options.TrustedProxies = "127.0.0.1,::1",
    grace: options.Grace = 8,
    log_level: options.LogLevel = "info",
) -> None:
    """Serve an application that has a streaming module installed, with suitable server options.

    uvicorn serves HTTP/1.1; granian serves HTTP/2 and HTTP/1.1. On Ctrl-C and SIGTERM the server first notifies every
    client, then closes the connections.
    """
    from lg_streaming.cli.certificates import Certificate, CertificateError
    from lg_streaming.cli.serve import run_server
    from lg_streaming.cli.server import ServeOptions
    from lg_streaming.cli.target import TargetError, load_app
    from lg_streaming.cli.workers import AppTarget, run_workers
    from lg_streaming.errors import MissingExtraError
    from lg_streaming.serving.listener import AddressInUseError

    try:
        certificate = Certificate.load(certfile, keyfile)
        _check_workers(workers)
        _check_http2(http2=http2, encrypted=certificate is not None, ws_compression=ws_compression)
        serve_options = ServeOptions(
            host=host,
            port=port,
            certificate=certificate,
            http2=http2,
            ws_compression=ws_compression,
            trusted_proxies=trusted_proxies,
            grace=grace,
            log_level=log_level,
        )
        if workers > 1:
            raise typer.Exit(run_workers(AppTarget(target, factory=factory), serve_options, workers, _print_line))
        raise typer.Exit(run_server(load_app(target, factory=factory), serve_options, _print_line))
    except (CertificateError, TargetError, _OptionsError) as error:
        raise print_error(error, code=EXIT_USAGE) from error
    except (AddressInUseError, MissingExtraError) as error:
        raise print_error(error) from error


class _OptionsError(Exception):
    """Options that exclude each other."""


def _check_workers(workers: int) -> None:
    if workers > 1 and sys.platform == "win32":
        raise _OptionsError("--workers is not supported on Windows: start several servers behind a proxy")


def _check_http2(*, http2: bool, encrypted: bool, ws_compression: bool) -> None:
    if http2 and not encrypted:
        raise _OptionsError("--http2 needs --certfile and --keyfile: browsers speak HTTP/2 over TLS only")
    if http2 and ws_compression:
        raise _OptionsError("--ws-compression excludes --http2: that server cannot compress WebSocket messages")


def _print_line(line: str) -> None:
    typer.echo(escape_controls(line))
    sys.stdout.flush()


@app.command()
def replay(
    file: options.RecordingFile,
    *,
    speed: options.ReplaySpeed = "1",
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    loop: options.Loop = False,
    execution_id: options.ReplayedExecutions = None,
    pause_at_prompts: options.PauseAtPrompts = False,
    origin: options.Origins = None,
    open_page: options.OpenPage = False,
) -> None:
    """Serve a recorded run over every wire, so that front ends are built and tested without a model.

    Readers get the recorded updates with their pauses. Each start of a run, on any wire, replays the recording in a
    new run, so that stock front ends get their answer.

    - `lg-streaming replay run.jsonl --speed 4 --open`
    - `lg-streaming replay run.jsonl.gz --origin http://localhost:5173 --pause-at-prompts`
    - `zcat run.jsonl.gz | lg-streaming replay - --speed max --port 0`
    """
    from lg_streaming.cli.replay import ReplayError, ReplayOptions, parse_speed, run_replay
    from lg_streaming.serving.listener import AddressInUseError

    try:
        replay_options = ReplayOptions(
            path=file,
            host=host,
            port=port,
            speed=parse_speed(speed),
            executions=execution_id or (),
            loop=loop,
            pause_at_prompts=pause_at_prompts,
            origins=origin or (),
            open_page=open_page,
        )
        raise typer.Exit(run_replay(replay_options, _print_line))
    except (ReplayError, AddressInUseError) as error:
        raise print_error(error) from error


@app.command()
def start(
    graph: options.GraphName,
    *,
    input: options.Input = "{}",
    url: options.Url = "http://127.0.0.1:8000",
    token: client_options.Token = None,
    token_file: client_options.TokenFile = None,
    ca: client_options.Ca = None,
    execution_id: options.ExecutionId = None,
    thread_id: options.ThreadId = None,
    config: options.RunConfig = None,
    context: options.Context = None,
) -> None:
    """Start a run of a graph on a server, and watch it in the terminal.

    The exit code is 0 if the run completes, 1 if it fails, and 4 if it is cancelled. It is 3 if the run waits for a
    human. After Ctrl-C the run goes on.
    """
    from lg_streaming.cli.access import Access
    from lg_streaming.cli.start import StartRequest, parse_json, start_run

    texts = {"execution_id": execution_id, "thread_id": thread_id}
    values = {"config": config, "context": context}
    with client_commands.exit_on_errors("Stopped watching; the run goes on."):
        given: Any = {name: text for name, text in texts.items() if text is not None}
        given |= {name: parse_json(f"--{name}", text) for name, text in values.items() if text is not None}
        access = Access.of(url, token=token, token_file=token_file, ca=ca)
        request = StartRequest(access=access, graph=graph, input=parse_json("--input", input), options=given)
        raise typer.Exit(run_command(start_run(request, Console(highlight=False))))


@app.command()
def schema(
    *,
    openapi: Annotated[
        bool, typer.Option("--openapi", help="Print the OpenAPI description of the HTTP routes.")
    ] = False,
) -> None:
    """Print the JSON Schema of every message on the wire."""
    from lg_streaming.gateway.http.openapi import openapi_schema
    from lg_streaming.gateway.protocol.registry import json_schema

    typer.echo(json.dumps(openapi_schema() if openapi else json_schema(), indent=2, ensure_ascii=False))


@app.command()
def token(
    *,
    subject: options.Subject,
    execution: options.Executions = None,
    action: options.Actions = None,
    graph: options.Graphs = None,
    expires_in: options.ExpiresIn = "1h",
    secret: options.Secret = None,
    private_key: options.PrivateKey = None,
    algorithm: options.SigningAlgorithm = None,
    audience: options.Audience = None,
    issuer: options.Issuer = None,
    kid: options.KeyId = None,
    claim: options.Claims = None,
) -> None:
    """Print a token to try a server with.

    For development: with the key of this command, a person can read everything. In production your identity provider or
    your login signs tokens, and the server has only a public key.

    Only the token is written to the standard output, so `TOKEN=$(python -m lg_streaming token --subject alice)` works.
    """
    from lg_streaming.cli.token import TokenError, TokenRequest, make_token, parse_duration

    try:
        request = TokenRequest(
            subject=subject,
            expires_in=parse_duration(expires_in),
            executions=tuple(execution or ()),
            actions=tuple(action or ()),
            graphs=tuple(graph or ()),
            secret=secret if secret is not None or private_key is not None else _secret_from_environment(),
            private_key=private_key,
            algorithm=algorithm,
            audience=audience,
            issuer=issuer,
            kid=kid,
            claims=tuple(claim or ()),
        )
        typer.echo(make_token(request))
    except TokenError as error:
        raise print_error(error) from error


def _secret_from_environment() -> str | None:
    return os.environ.get("LG_STREAMING_AUTH__SECRET") or None


@app.command()
def doctor(
    *,
    log: options.Log = None,
    prefix: options.Prefix = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    acl: Annotated[
        bool, typer.Option("--acl", help="Print the ACL rule of a Redis user, and examine nothing.")
    ] = False,
    user: Annotated[str, typer.Option(help="Name of the user, with --acl.")] = "lg_streaming",
) -> None:
    """Examine the log that processes share: server, rights, scripts, persistence, memory, latency and clock.

    Each finding is ok, a warning or a failure. The exit code is 1 with a failure.
    """
    from lg_streaming.cli.doctor import DoctorError, DoctorOptions, acl_command, run_doctor
    from lg_streaming.errors import MissingExtraError

    try:
        doctor_options = DoctorOptions.make(log, prefix, as_json=as_json)
        if acl:
            typer.echo(acl_command(doctor_options, user))
            return
        raise typer.Exit(run_doctor(doctor_options, Console(highlight=False)))
    except DoctorError as error:
        raise print_error(error, code=EXIT_USAGE) from error
    except MissingExtraError as error:
        raise print_error(error) from error


@app.command()
def version() -> None:
    """Print the version."""
    from lg_streaming import __version__

    typer.echo(__version__)


for _command in client_commands.COMMANDS:
    app.command(_command.__name__.removesuffix("_"))(_command)
