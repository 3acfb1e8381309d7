"""Keys, commands and scripts of a log on Redis."""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import orjson
import redis.asyncio
from redis.exceptions import NoScriptError

from lg_streaming.log.redis.connection import to_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lg_streaming.log.redis.connection import AsyncClient

__all__ = ["MAX_PAYLOAD", "Script", "ScriptCall", "Store", "encode_json", "load_script"]

_AT_ONCE: Final = 500
"""Commands of one request."""
MAX_PAYLOAD: Final = 1_048_576
"""Most bytes of a payload as JSON."""


class Script(NamedTuple):
    """Lua script."""

    source: str
    digest: str


class ScriptCall(NamedTuple):
    """Script, its keys and its arguments. In a cluster its keys share a slot."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | float] = ()


def load_script(name: str) -> Script:
    """Return the script in ``lua/<name>.lua``."""
    source = resources.files("lg_streaming.log.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


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
        raise TypeError(f"{what} is no JSON value: {error}") from None
    if len(encoded) > MAX_PAYLOAD:
        raise ValueError(f"{what} has {len(encoded):,} bytes as JSON: at most {MAX_PAYLOAD:,} are allowed")
    return encoded


class Store:
    """Commands and scripts, whose errors are `LogUnavailableError` if a later try may succeed.

    Args:
        client: Function that returns the client of this process, for the running event loop.
        prefix: First part of every key.
    """

    def __init__(self, client: Callable[[], AsyncClient], prefix: str) -> None:
        self._client = client
        self._prefix = prefix

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
        try:
            return await cast("Any", self._client()).execute_command(*arguments)
        except Exception as error:
            raise to_unavailable(error) from error

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | float) -> Any:
        """Run one script."""
        client = cast("Any", self._client())
        try:
            try:
                return await client.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.execute_command("EVAL", script.source, len(keys), *keys, *arguments)
        except Exception as error:
            raise to_unavailable(error) from error

    async def run_all(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """Run scripts in as few requests as possible; return their results."""
        waiting, results = list(calls), list[Any]()
        for start in range(0, len(waiting), _AT_ONCE):
            if start:
                await asyncio.sleep(0)
            results += await self._run_some(waiting[start : start + _AT_ONCE])
        return results

    async def _run_some(self, calls: Sequence[ScriptCall]) -> list[Any]:
        if len(calls) == 1:
            return [await self.run(calls[0].script, calls[0].keys, *calls[0].arguments)]
        try:
            results = await self._pipeline(
                ("EVALSHA", script.digest, len(keys), *keys, *arguments) for script, keys, arguments in calls
            )
            unknown = [index for index, result in enumerate(results) if isinstance(result, NoScriptError)]
            again = await self._pipeline(
                ("EVAL", script.source, len(keys), *keys, *arguments)
                for script, keys, arguments in (calls[index] for index in unknown)
            )
        except Exception as error:
            raise to_unavailable(error) from error
        for index, result in zip(unknown, again, strict=True):
            results[index] = result
        for result in results:
            if isinstance(result, Exception):
                raise to_unavailable(result) from result
        return results

    async def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipeline = cast("Any", self._client()).pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return cast("list[Any]", await pipeline.execute(raise_on_error=False))
