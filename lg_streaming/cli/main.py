"""The command line: reads the options, and turns what can go wrong into one clear line."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    name="lg_streaming",
    help="Watch LangGraph runs live: tokens, progress and events of decorated nodes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


@app.command()
def demo(
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help="A LangChain chat model such as openai:gpt-5-mini; its package must be installed. "
            "Without it an offline model speaks, which needs no network and no key.",
            metavar="PROVIDER:NAME",
            show_default=False,
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(help="What to research. (default: how a city can stay cool in summer)", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on; 0 takes any free one. (default: 8000, or any free one when that is taken)",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    speed: Annotated[float, typer.Option(help="Pace of the offline model: 2 is twice as fast.", min=0.1, max=1000)] = 1,
    watch: Annotated[bool, typer.Option(help="Serve the page on which a browser can watch the run.")] = True,
    keep_open: Annotated[
        bool | None,
        typer.Option(
            "--keep-open/--once",
            help="At the end stay until Ctrl-C, so that the page can be looked at; or leave. "
            "(default: stay when the output is a terminal)",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a research assistant and watch it: here in the terminal, and in a browser.

    The assistant is a LangGraph graph that plans, researches three questions side by side with tools, writes, and has
    its report reviewed. It runs behind a real server in this process; the terminal shows what a Socket.IO client
    of that server receives.
    """
    from lg_streaming.cli.demo import DemoError, Options, run_demo
    from lg_streaming.demo.prompts import DEFAULT_QUESTION

    console = Console(highlight=False)
    options = Options(
        question=question or DEFAULT_QUESTION,
        model=model,
        host=host,
        port=port,
        speed=speed,
        watch=watch,
        keep_open=console.is_terminal if keep_open is None else keep_open,
    )
    try:
        asyncio.run(run_demo(options, console))
    except DemoError as error:
        Console(stderr=True, highlight=False).print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(_INTERRUPTED) from None
    except BrokenPipeError:
        sys.stdout = None  # whoever read it has left: nothing more can be written, not even at exit
        raise typer.Exit(1) from None


@app.command()
def schema(
    *,
    openapi: Annotated[
        bool, typer.Option("--openapi", help="Print the OpenAPI description of the HTTP routes.")
    ] = False,
) -> None:
    """Print the JSON Schema of every message on the wire."""
    from lg_streaming.gateway.openapi import openapi_schema
    from lg_streaming.gateway.protocol import json_schema

    typer.echo(json.dumps(openapi_schema() if openapi else json_schema(), indent=2, ensure_ascii=False))


@app.command()
def version() -> None:
    """Print the version."""
    from lg_streaming import __version__

    typer.echo(__version__)
