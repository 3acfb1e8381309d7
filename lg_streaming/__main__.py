"""Run the command line: ``python -m lg_streaming``."""

from lg_streaming.cli.main import app

app(prog_name="python -m lg_streaming")
