"""The command `tail`: the updates of an execution, or of all, one line each."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from lg_streaming.cli.access import announce_outages, open_client, require_client
from lg_streaming.cli.outcome import UsageError
from lg_streaming.cli.output import print_error_line, print_json, print_line
from lg_streaming.cli.update_line import update_line
from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.cli.access import Access

__all__ = ["TailRequest", "print_update", "split_names", "tail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRequest:
    """Arguments of the command."""

    access: Access
    filters: Mapping[str, Sequence[str]]
    """``events`` and ``node_ids``."""
    after: str | None
    follow: bool
    as_json: bool


def split_names(text: str | None) -> list[str]:
    """Return names that are separated by commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


async def tail(request: TailRequest) -> int:
    """Print updates: of an execution to the end of its run, of all executions without end. Return the exit code.

    Raises:
        CommandError: If an argument cannot be used.
        StreamingError: If the server refuses the subscription, or cannot be reached at first.
    """
    execution_id = request.access.execution_id
    if execution_id is not None:
        return await _tail_one(request, execution_id)
    if request.after not in {None, "latest"}:
        raise UsageError("--after is a position in one execution: give its ID")
    require_client()
    from lg_streaming.cli.feed import Feed

    feed = Feed(request.access, request.filters, announce=print_error_line)
    async with aclosing(feed.updates()) as updates:
        async for update in updates:
            print_update(update, as_json=request.as_json, with_execution=True)
    return 0


async def _tail_one(request: TailRequest, execution_id: str) -> int:
    async with open_client(request.access) as client:
        try:
            subscription = client.subscribe(
                execution_id,
                after=request.after,
                follow=request.follow,
                **{name: names for name, names in request.filters.items() if names},  # pyright: ignore[reportArgumentType]
            )
        except BadRequestError as error:
            raise UsageError(error.message) from error
        await client.execution(execution_id)  # an unknown one is an error, and not one that may start later
        announce_outages(client, print_error_line)
        async with subscription:
            async for update in subscription:
                print_update(update.to_dict(), as_json=request.as_json, with_execution=False)
    return 0


def print_update(update: dict[str, Any], *, as_json: bool, with_execution: bool) -> None:
    """Print an update of the wire as one line."""
    if as_json:
        print_json(orjson.dumps(update).decode())
    else:
        print_line(update_line(update, with_execution=with_execution))
