"""Examine a log, and print the findings."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from lg_streaming.cli.findings import Finding, worst
from lg_streaming.errors import MissingExtraError, StreamingConfigError
from lg_streaming.escaping import escape_line
from lg_streaming.settings import StreamingSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

__all__ = ["DoctorError", "DoctorOptions", "acl_command", "run_doctor"]

_STYLES: Final = {"ok": "green", "warning": "yellow", "failure": "bold red"}

_MISSING: Final = "a log on Redis needs the package redis: pip install 'lg-streaming[redis]'"


class DoctorError(Exception):
    """The log cannot be examined; the message is printed on the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """Log to examine, and the form of the output."""

    log: str
    prefix: str
    as_json: bool = False

    @classmethod
    def make(cls, log: str | None, prefix: str | None, *, as_json: bool = False) -> DoctorOptions:
        """Return options, those that are None from the environment as a gateway reads it.

        Raises:
            DoctorError: If a setting cannot be used.
        """
        given: dict[str, object] = {} if log is None else {"log": log}
        if prefix is not None:
            given["redis"] = {"prefix": prefix}
        try:
            settings = StreamingSettings.model_validate(given)
        except ValueError as error:
            raise DoctorError(_first_line(error)) from None
        return cls(log=settings.log, prefix=settings.redis.prefix, as_json=as_json)


def acl_command(options: DoctorOptions, user: str) -> str:
    """Return the command that gives a user the least rights for the log.

    Raises:
        DoctorError: If the log is not on Redis.
        MissingExtraError: If the log needs ``pip install 'lg-streaming[redis]'``.
    """
    if options.log == "memory://":
        raise DoctorError("memory:// has no users: name a log on Redis with --log or LG_STREAMING_LOG")
    if find_spec("redis") is None:
        raise MissingExtraError(_MISSING)
    from lg_streaming.log.redis.rights import acl_rule
    from lg_streaming.log.redis.target import RedisTarget

    try:
        target = RedisTarget.parse(options.log)
    except StreamingConfigError as error:
        raise DoctorError(str(error)) from None
    rule = acl_rule(user, options.prefix, cluster=target.kind == "cluster", db=target.db != 0)
    return f"ACL SETUSER {rule.replace(' on ', ' on >PASSWORD ', 1)}"


def run_doctor(options: DoctorOptions, console: Console) -> int:
    """Examine a log, print the findings, and return the exit code: 1 with a failure, else 0.

    Raises:
        DoctorError: If the URL of the log cannot be used.
        MissingExtraError: If the log needs ``pip install 'lg-streaming[redis]'``.
    """
    logging.getLogger("lg_streaming").addHandler(logging.NullHandler())  # the findings have the errors of the log
    findings = asyncio.run(_examine(options))
    if options.as_json:
        report = {"status": worst(findings), "findings": [asdict(each) for each in findings]}
        console.print(json.dumps(report, indent=2), markup=False, soft_wrap=True)
    else:
        _print(findings, console)
    return 1 if worst(findings) == "failure" else 0


async def _examine(options: DoctorOptions) -> Sequence[Finding]:
    if options.log == "memory://":
        advice = "Several processes need a common log: set LG_STREAMING_LOG=redis://…"
        return [Finding("log", "ok", "memory://: executions live in one process, and end with it", advice)]
    if find_spec("redis") is None:
        raise MissingExtraError(_MISSING)
    from lg_streaming.cli.redis_checks import check_redis

    try:
        return await check_redis(options.log, options.prefix)
    except StreamingConfigError as error:
        raise DoctorError(str(error)) from None


def _print(findings: Sequence[Finding], console: Console) -> None:
    """Print a table on a terminal; elsewhere, as in a file or a pipe, each finding on a line, however wide."""
    if console.is_terminal:
        console.print(_table(findings))
        return
    levels, checks = (max(map(len, column)) for column in zip(*((e.level, e.check) for e in findings), strict=True))
    for each in findings:
        line = f"{each.level:{levels}}  {each.check:{checks}}  {escape_line(each.message)}"
        if each.advice:
            line += f"\n{'':{levels + checks + 4}}→ {escape_line(each.advice)}"
        console.print(line, markup=False, soft_wrap=True)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        message = Text(escape_line(each.message))
        if each.advice:
            message.append(f"\n→ {escape_line(each.advice)}", style="dim")
        table.add_row(Text(each.level, style=_STYLES[each.level]), each.check, message)
    return table


def _first_line(error: ValueError) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors(include_input=False))
    return str(error)
