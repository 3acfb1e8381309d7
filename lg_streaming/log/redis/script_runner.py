"""Run scripts in Redis, those of one moment in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from redis import exceptions

from lg_streaming.log.redis.connection import to_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.redis.connection import AsyncClient
    from lg_streaming.log.redis.scripts import Script

__all__ = ["ScriptRunner", "retrieve_error"]

_MAX_BATCH: Final = 500


def retrieve_error(task: asyncio.Task[Any]) -> None:
    """Mark the error of a task as retrieved: all that wait for it may have been cancelled."""
    if not task.cancelled():
        task.exception()


class _Call(NamedTuple):
    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]
    done: asyncio.Future[Any]
    on_send: Callable[[], object] | None

    @property
    def command(self) -> Sequence[str | bytes | int]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)


class ScriptRunner:
    """Runner of scripts, on one event loop. Scripts that are requested while one request is under way share the next.

    Args:
        client: Returns the client of the event loop.
    """

    def __init__(self, client: Callable[[], AsyncClient]) -> None:
        self._client = client
        self._waiting: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: str | bytes | int,
        on_send: Callable[[], object] | None = None,
    ) -> Any:
        """Return the answer of a script.

        Args:
            script: The script.
            keys: Its keys.
            arguments: Its arguments.
            on_send: Called before the script is sent: until then its answer contains everything that is in Redis.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(script, keys, arguments, done, on_send))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="lg-streaming scripts")
        return await done

    async def _run(self) -> None:
        calls: list[_Call] = []
        try:
            while self._waiting:
                calls = [self._waiting.popleft() for _ in range(min(_MAX_BATCH, len(self._waiting)))]
                for call in calls:
                    if call.on_send is not None:
                        call.on_send()
                try:
                    answers = await self._send(calls)
                except Exception as error:  # noqa: BLE001 (the callers get it)
                    answers = cast("list[Any]", [error] * len(calls))
                for call, answer in zip(calls, answers, strict=True):
                    if call.done.done():
                        continue
                    if isinstance(answer, Exception):
                        call.done.set_exception(to_unavailable(answer))
                    else:
                        call.done.set_result(answer)
        finally:
            self._task = None
            for call in (*calls, *self._waiting):  # without an answer, because the event loop ends
                call.done.cancel()
            self._waiting.clear()

    async def _send(self, calls: Sequence[_Call]) -> list[Any]:
        answers = await self._execute(calls)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        if unknown:
            for script in {calls[at].script for at in unknown}:
                await cast("Any", self._client()).script_load(script.text)
            for at, answer in zip(unknown, await self._execute([calls[at] for at in unknown]), strict=True):
                answers[at] = answer
        return answers

    async def _execute(self, calls: Sequence[_Call]) -> list[Any]:
        pipeline = cast("Any", self._client().pipeline(transaction=False))
        for call in calls:
            pipeline.execute_command(*call.command)
        return await pipeline.execute(raise_on_error=False)
