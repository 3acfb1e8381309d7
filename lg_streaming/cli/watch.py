"""The command `watch`: show a run live."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from lg_streaming.cli.access import announce_outages, open_client, open_rest, require_client
from lg_streaming.cli.executions import OPEN_STATES, list_newest
from lg_streaming.cli.outcome import UsageError
from lg_streaming.cli.pick import pick_execution
from lg_streaming.cli.respond import respond_command
from lg_streaming.cli.run_screen import RunScreen, print_line, show_until
from lg_streaming.errors import BadRequestError
from lg_streaming.escaping import escape_controls
from lg_streaming.events import Position

if TYPE_CHECKING:
    from rich.console import Console

    from lg_streaming.cli.access import Access
    from lg_streaming.client import ClientSubscription
    from lg_streaming.events import StreamUpdate

__all__ = ["WatchRequest", "watch"]

_RUN_ENDS: Final = frozenset({"workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """Arguments of the command."""

    access: Access
    pick: bool = False
    answers: bool = True
    """True: the keyboard answers prompts."""
    follow: bool = False
    from_start: bool = False
    after: str | None = None
    plain: bool = False


async def watch(request: WatchRequest, console: Console) -> int:
    """Show a run to its end, with `follow` also later ones, and return the exit code of the last one.

    Raises:
        CommandError: If an argument cannot be used.
        StreamingError: If the server refuses the request, or cannot be reached at first.
    """
    if request.from_start and request.after is not None:
        raise UsageError("--from-start and --after exclude each other")
    if request.access.execution_id is not None:
        if request.pick:
            raise UsageError("--pick chooses an execution, and one is given: leave out one of them")
        return await _watch_execution(request, request.access.execution_id, console)
    if request.after is not None:
        raise UsageError("--after is a position in one execution: give its ID")
    if request.pick:
        async with open_rest(request.access) as rest:
            execution_id = await pick_execution(rest, console)
        return await _watch_execution(request, execution_id, console)
    if request.follow:
        return await _watch_each(request, console)
    async with open_rest(request.access) as rest:
        newest = await list_newest(rest, limit=1, states=",".join(OPEN_STATES))
    if newest:
        return await _watch_execution(request, newest[0]["execution_id"], console)
    async with _Starts(request.access, console) as starts:
        return await _watch_next(request, starts, console)


async def _watch_each(request: WatchRequest, console: Console) -> int:
    """Show the newest open run, and then each run that starts, until Ctrl-C."""
    request = replace(request, follow=False)
    async with _Starts(request.access, console) as starts:
        while True:
            await _watch_next(request, starts, console)


async def _watch_next(request: WatchRequest, starts: _Starts, console: Console) -> int:
    execution_id, position = await starts.next_run()
    return await _watch_execution(request, execution_id, console, position=position, starts=starts)


class _Starts:
    """Runs that are open now, or start later; an async context manager."""

    def __init__(self, access: Access, console: Console) -> None:
        require_client()
        from lg_streaming.cli.feed import Feed

        self._access = access
        self._console = console
        self._feed = Feed(access, {"events": ["workflow_start"]}, announce=self._say)
        self._started: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None
        self._shown: dict[str, Position] = {}
        self._is_new = True

    async def __aenter__(self) -> Self:
        await self._feed.connect()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        await self._feed.aclose()

    async def _read(self) -> None:
        try:
            async for update in self._feed.updates():
                if update["type"] != "gap":
                    self._started.put_nowait(update)
        finally:
            self._started.put_nowait(None)

    def _say(self, line: str) -> None:
        print_line(self._console, line)

    def mark_shown(self, execution_id: str, position: Position | None) -> None:
        """Note that an execution was shown up to a position."""
        if position is not None:
            self._shown[execution_id] = position

    async def next_run(self) -> tuple[str, Position | None]:
        """Return the execution of the next run, and the position before it; None for the newest run.

        The first run is the newest one that is open. Without an open run, wait for the next start.

        Raises:
            StreamingError: If the server refuses to go on.
        """
        if self._is_new:
            self._is_new = False
            async with open_rest(self._access) as rest:
                newest = await list_newest(rest, limit=1, states=",".join(OPEN_STATES))
            if newest:
                return newest[0]["execution_id"], None
        if self._started.empty():
            self._say("No run is open. Waiting for the next one.")
        while (update := await self._started.get()) is not None:
            metadata = update["metadata"]
            position = Position(metadata["epoch"], metadata["sequence_number"])
            shown = self._shown.get(metadata["execution_id"])
            if shown is None or shown.epoch != position.epoch or shown.seq < position.seq:
                return metadata["execution_id"], Position(position.epoch, position.seq - 1)
        assert self._reading is not None  # noqa: S101 (it has put the None)
        self._reading.result()
        raise AssertionError  # pragma: no cover (the feed ends with an error only)


async def _watch_execution(
    request: WatchRequest,
    execution_id: str,
    console: Console,
    *,
    position: Position | None = None,
    starts: _Starts | None = None,
) -> int:
    async with open_client(request.access) as client:
        try:
            subscription = client.subscribe(execution_id, after=request.after or position, follow=request.follow)
        except BadRequestError as error:
            raise UsageError(error.message) from error
        head = Position.parse((await client.execution(execution_id))["position"])
        screen = RunScreen(
            console,
            respond=partial(client.respond, execution_id) if request.answers else None,
            answer_command=partial(respond_command, request.access.url, execution_id),
            plain=request.plain,
        )
        announce_outages(client, screen.print_line)
        console.print(f"Execution {escape_controls(execution_id)}", markup=False, soft_wrap=True)
        shows_all = request.from_start or request.after is not None or position is not None
        async with subscription:
            code = await show_until(_read(subscription, screen, None if shows_all else head), screen)
        if starts is not None:
            starts.mark_shown(execution_id, subscription.position)
        return code


async def _read(subscription: ClientSubscription, screen: RunScreen, head: Position | None) -> None:
    """Pass updates to the screen.

    Args:
        subscription: The subscription.
        screen: The screen.
        head: Position up to which only the newest run is shown; None: every run is shown.
    """
    earlier: list[StreamUpdate] = []
    ended = False
    async for update in subscription:
        if head is not None:
            if ended and update.type == "workflow_start":
                earlier.clear()
            ended = update.type in _RUN_ENDS if update.type != "gap" else ended
            earlier.append(update)
            if update.type != "gap" and update.position.epoch == head.epoch and update.position.seq < head.seq:
                continue
            head = None
            for each in earlier:
                screen.show(each)
            earlier.clear()
        else:
            screen.show(update)
    for each in earlier:
        screen.show(each)
