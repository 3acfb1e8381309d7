"""Keys, commands and scripts of a log on Redis."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import orjson
import redis.asyncio
from redis.exceptions import NoScriptError

from lg_streaming.log.redis.connection import to_unavailable
from lg_streaming.values import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lg_streaming.log.redis.connection import AsyncClient
    from lg_streaming.log.redis.scripts import Script

__all__ = ["MAX_PAYLOAD", "ScriptCall", "Store", "encode_json", "retrieve_error"]

_AT_ONCE: Final = 500
"""Commands of one request."""
_BYTES_AT_ONCE: Final = 4_194_304
"""Bytes of arguments after which a request is full."""
MAX_PAYLOAD: Final = 1_048_576
"""Most bytes of a payload as JSON."""


class ScriptCall(NamedTuple):
    """Script, its keys and its arguments. In a cluster its keys share a slot."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | float] = ()


def encode_json(payload: object, what: str) -> bytes:
    """Return a payload as JSON.

    Args:
        payload: A JSON value.
        what: Name of the payload, for the message of an error.

    Raises:
        ValueError: If it has more than 1 MiB.
        TypeError: If it is no JSON value.
    """
    try:
        encoded = orjson.dumps(payload)
    except TypeError as error:
        try:  # it may be a text from a client with a lone surrogate, which orjson refuses
            encoded = replace_lone_surrogates(json.dumps(payload, ensure_ascii=False, allow_nan=False)).encode()
        except (TypeError, ValueError):
            raise TypeError(f"{what} is no JSON value: {error}") from None
    if len(encoded) > MAX_PAYLOAD:
        raise ValueError(f"{what} has {len(encoded):,} bytes as JSON: at most {MAX_PAYLOAD:,} are allowed")
    return encoded


def retrieve_error(task: asyncio.Future[Any]) -> None:
    """Mark the error of a task as retrieved: all that wait for it may have been cancelled."""
    if not task.cancelled():
        task.exception()


class _Command(NamedTuple):
    arguments: tuple[Any, ...]
    script: Script | None
    """Script of an EVALSHA, in case Redis has lost it."""
    done: asyncio.Future[Any]
    on_send: Callable[[], object] | None = None

    @property
    def size(self) -> int:
        return sum(len(each) for each in self.arguments if isinstance(each, (bytes, str)))


class Store:
    """Commands and scripts, in order, whose errors are `LogUnavailableError` if a later try may succeed.

    Commands that are given while others are on their way go together in the next request.

    Args:
        client: Function that returns the client of this process, for the running event loop.
        prefix: First part of every key.
    """

    def __init__(self, client: Callable[[], AsyncClient], prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Command] = deque()
        self._sending: asyncio.Task[None] | None = None

    def key(self, *parts: str) -> str:
        """Return a key, or the name of a channel."""
        return ":".join((self._prefix, *parts))

    @property
    def client(self) -> AsyncClient:
        """Client of this process."""
        return self._client()

    @property
    def is_cluster(self) -> bool:
        """True if a script may use keys of one slot only."""
        return isinstance(self._client(), redis.asyncio.RedisCluster)

    async def command(self, *arguments: str | bytes | float) -> Any:
        """Execute one command."""
        return await self._submit(arguments, None)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: str | bytes | float,
        on_send: Callable[[], object] | None = None,
    ) -> Any:
        """Run one script.

        Args:
            script: The script.
            keys: Its keys.
            arguments: Its arguments.
            on_send: Called before the script is sent. Its answer contains everything that was in Redis until then.
        """
        return await self._submit(("EVALSHA", script.sha, len(keys), *keys, *arguments), script, on_send)

    async def run_all(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """Run scripts, and return their results."""
        return await asyncio.gather(
            *(
                self._submit(("EVALSHA", script.sha, len(keys), *keys, *arguments), script)
                for script, keys, arguments in calls
            )
        )

    def _submit(
        self, arguments: tuple[Any, ...], script: Script | None, on_send: Callable[[], object] | None = None
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the first one, or that of a new thread or a forked child
            self._loop, self._waiting, self._sending = loop, deque(), None
        if any(isinstance(each, str) and not each.isascii() for each in arguments):
            # A text from a client may have lone surrogates, which would fail the other commands of the request as well.
            arguments = tuple(
                each.encode(errors="surrogatepass") if isinstance(each, str) else each for each in arguments
            )
        done: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Command(arguments, script, done, on_send))
        if self._sending is None:
            self._sending = loop.create_task(self._send_all())
        return done

    async def _send_all(self) -> None:
        commands: list[_Command] = []
        try:
            while self._waiting:
                commands = self._next()
                try:
                    results: list[Any] = await self._execute(commands)
                except Exception as error:  # noqa: BLE001 (its caller gets it)
                    results = [error] * len(commands)
                for command, result in zip(commands, results, strict=True):
                    if command.done.done():
                        continue
                    if isinstance(result, Exception):
                        command.done.set_exception(to_unavailable(result))
                    else:
                        command.done.set_result(result)
        finally:
            self._sending = None
            for command in (*commands, *self._waiting):  # with a cancellation, these have no result
                command.done.cancel()
            self._waiting.clear()

    def _next(self) -> list[_Command]:
        commands: list[_Command] = []
        size = 0
        while self._waiting and len(commands) < _AT_ONCE and size < _BYTES_AT_ONCE:
            command = self._waiting.popleft()
            if not command.done.done():
                commands.append(command)
                size += command.size
                if command.on_send is not None:
                    command.on_send()
        return commands

    async def _execute(self, commands: Sequence[_Command]) -> list[Any]:
        results = await self._send(commands)
        unknown = [index for index, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:
            again = [commands[index] for index in unknown]
            again = [
                each._replace(arguments=("EVAL", each.script.text, *each.arguments[2:]))
                for each in again
                if each.script
            ]
            for index, result in zip(unknown, await self._send(again), strict=True):
                results[index] = result
        return results

    async def _send(self, commands: Sequence[_Command]) -> list[Any]:
        client = cast("Any", self._client())
        if len(commands) == 1:
            try:
                return [await client.execute_command(*commands[0].arguments)]
            except Exception as error:  # noqa: BLE001 (its caller gets it)
                return [error]
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command.arguments)
        return cast("list[Any]", await pipeline.execute(raise_on_error=False))
