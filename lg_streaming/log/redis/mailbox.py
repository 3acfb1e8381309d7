"""Requests from one process to another, and their answers."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.errors import LogUnavailableError, NoAnswerError, StreamingError
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.scripts import Script
from lg_streaming.log.redis.store import encode_json

if TYPE_CHECKING:
    from lg_streaming.log.fleet import RequestHandler
    from lg_streaming.log.redis.lease import Lease
    from lg_streaming.log.redis.store import Store

__all__ = ["Mailbox"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_WAITING: Final = 1_000
_PER_TAKE: Final = 100
_INLINE: Final = 16_384
"""Most bytes of an answer that its notification carries."""
_ID_LENGTH: Final = 16
_RETRY: Final = 0.1
_SEND: Final = Script.load("send_request.lua")
_TAKE: Final = Script.load("take_requests.lua")
_ANSWER: Final = Script.load("answer_request.lua")
_WITHDRAW: Final = Script.load("withdraw_request.lua")


@dataclass(slots=True, kw_only=True)
class _Request:
    """Request of this process that waits for its answer."""

    request_id: str
    process_id: str
    name: str
    entry: bytes
    """Entry in the mailbox, to withdraw it."""
    answer: asyncio.Future[bytes]


class Mailbox:
    """Requests to this process, and its requests to others. Use it on one event loop.

    Redis holds a request in a list until the process takes it, once. A notification on a process's channel announces
    requests (``m``) and answers (``a``, the id of the request, and the answer if it is small). Notifications may be
    lost: `handle(None)`, the renewal of the lease and the end of the timeout look into Redis.
    """

    def __init__(self, store: Store, lease: Lease, handlers: Mapping[str, RequestHandler]) -> None:
        self._store = store
        self._lease = lease
        self._handlers = handlers
        self._requests: dict[str, _Request] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rare = RareLog(logger)
        self._taking = self._take_again = False

    def channel(self, process_id: str) -> str:
        """Return the channel of a process."""
        return self._store.key("fleet", process_id)

    async def request(self, process_id: str, name: str, payload: bytes, timeout: float) -> Any:  # noqa: ASYNC109 (sent along)
        """See `Fleet.request`; ``payload`` is JSON."""
        if process_id == self._lease.process_id:
            return _result_of(await self._request_here(name, payload, timeout))
        request_id = secrets.token_hex(_ID_LENGTH // 2)
        head = orjson.dumps({"id": request_id, "from": self._lease.process_id, "name": name})
        body = head[:-1] + b',"payload":' + payload + b"}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiting = _Request(request_id=request_id, process_id=process_id, name=name, entry=b"", answer=answer)
        self._requests[request_id] = waiting
        try:
            async with asyncio.timeout(timeout):
                await self._send(waiting, body, timeout)
                return _result_of(await answer)
        except TimeoutError:
            if not waiting.entry:
                raise LogUnavailableError(
                    f"Redis did not confirm the request {name!r} within {timeout:g} s: it may have been carried out"
                ) from None
            if (late := await self._look(waiting)) is not None:
                return _result_of(late)
            raise self._no_answer(waiting, timeout) from None
        finally:
            del self._requests[request_id]

    async def _send(self, waiting: _Request, body: bytes, timeout: float) -> None:  # noqa: ASYNC109 (sent along)
        process_id = waiting.process_id
        state, *rest = await self._store.run(
            _SEND,
            self._lease.keys(process_id, "process", "mail", "reaped"),
            math.ceil(timeout * 1000),
            body,
            self.channel(process_id),
            _MAX_WAITING,
        )
        if state == 0:
            raise await self._gone(waiting, *rest, fate="the request was not carried out")
        if state != 1:
            raise NoAnswerError(
                f"process {process_id} has {_MAX_WAITING:,} requests that wait: the request was not carried out",
                details={"process_id": process_id, "known": "alive", "seen_s": 0.0},
            )
        waiting.entry = rest[0] + b" " + body

    async def _look(self, waiting: _Request) -> bytes | None:
        """Return an answer whose notification was lost, or None; withdraw the request.

        Raises:
            NoAnswerError: If the process is gone, or the request still waits.
        """
        keys = self._lease.keys(waiting.process_id, "process", "mail", "reaped")
        removed, lives, *rest = await self._store.run(_WITHDRAW, keys, waiting.entry)
        if not removed and (answer := await self._store.command("GET", self._answer_key(waiting.request_id))):
            return answer
        fate = "the request was not carried out" if removed else "it may have carried out the request"
        if not lives:
            raise await self._gone(waiting, *rest, fate=fate)
        if removed:
            seen, _, now = rest
            raise NoAnswerError(
                f"process {waiting.process_id} did not take the request {waiting.name!r} in time: {fate}",
                details=_known(waiting.process_id, "alive", seen, now),
            )
        return None

    def _no_answer(self, waiting: _Request, timeout: float) -> NoAnswerError:
        return NoAnswerError(
            f"process {waiting.process_id} is alive and has taken the request {waiting.name!r}, but did not answer "
            f"within {timeout:g} s: it may still carry it out",
            details={"process_id": waiting.process_id, "known": "alive", "seen_s": 0.0},
        )

    async def _gone(self, waiting: _Request, seen: bytes, host: bytes, now: bytes, *, fate: str) -> NoAnswerError:
        known, process_id = "gone", waiting.process_id
        if seen and any(
            each.host == host.decode(errors="replace") and each.started_at * 1000 >= int(seen)
            for each in await self._lease.processes()
        ):
            known = "restarted"
        details = _known(process_id, known, seen, now)
        ago = f", last seen {details['seen_s']:g} s ago" if seen else ""
        successor = " and another one has started on its host" if known == "restarted" else ""
        return NoAnswerError(f"process {process_id} is gone{ago}{successor}: {fate}", details=details)

    # --- answers --------------------------------------------------------------------------------------------

    def handle(self, notification: bytes | None) -> None:
        """Handle a notification on this process's channel; None if some may be lost."""
        if notification is None:
            self.take_soon()
            for waiting in list(self._requests.values()):
                self._start(self._fetch(waiting))
        elif notification[:1] == b"m":
            self.take_soon()
        elif waiting := self._requests.get(notification[1 : 1 + _ID_LENGTH].decode()):
            if answer := notification[1 + _ID_LENGTH :]:
                _resolve(waiting, answer)
            else:
                self._start(self._fetch(waiting))

    def check(self, process_id: str | None = None) -> None:
        """End requests to a process that has left, or to any that is not live."""
        for waiting in list(self._requests.values()):
            other = waiting.process_id
            if other == process_id or (process_id is None and other not in self._lease.live):
                self._start(self._check(waiting))

    async def _fetch(self, waiting: _Request) -> None:
        if answer := await self._store.command("GET", self._answer_key(waiting.request_id)):
            _resolve(waiting, answer)

    async def _check(self, waiting: _Request) -> None:
        if not waiting.entry:
            return  # it is being sent
        keys = self._lease.keys(waiting.process_id, "process", "mail", "reaped")
        lives = (await self._store.run(_WITHDRAW, keys, b""))[1]
        if lives:
            return
        try:
            answer = await self._look(waiting)
        except NoAnswerError as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        else:
            if answer is not None:
                _resolve(waiting, answer)

    def _answer_key(self, request_id: str) -> str:
        return self._store.key("answer", f"{{{request_id}}}")

    # --- requests to this process ---------------------------------------------------------------------------

    def take_soon(self) -> None:
        """Take the requests of the mailbox, in the background."""
        self._take_again = True
        if not self._taking:
            self._taking = True
            self._start(self._take())

    async def _take(self) -> None:
        try:
            while self._take_again:
                self._take_again = False
                count, taken = await self._store.run(_TAKE, self._lease.keys(self._lease.process_id, "mail"), _PER_TAKE)
                for left, body in _pairs(taken):
                    self._start(self._carry_out(left / 1000, body))
                self._take_again |= count == _PER_TAKE
        finally:
            self._taking = False

    async def _carry_out(self, seconds: float, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        try:
            request = orjson.loads(body)
            name, payload, request_id, sender = (request[each] for each in ("name", "payload", "id", "from"))
            if not all(isinstance(each, str) for each in (name, request_id, sender)):
                raise TypeError("the name, the id and the sender of a request are strings")
        except (KeyError, TypeError, ValueError) as error:
            self._rare.note("a request in the mailbox of this process is malformed", error)
            return
        answer = await self._answer(name, payload)
        notification = b"a" + request_id.encode() + (answer if len(answer) <= _INLINE else b"")
        while (left := deadline - loop.time()) > 0:
            try:
                await self._store.run(
                    _ANSWER,
                    [self._answer_key(request_id)],
                    math.ceil(left * 1000) + 1000,
                    answer,
                    self.channel(sender),
                    notification,
                )
            except LogUnavailableError:
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _answer(self, name: str, payload: object) -> bytes:
        handler = self._handlers.get(name)
        if handler is None:
            details = {"process_id": self._lease.process_id, "known": "alive", "seen_s": 0.0}
            error = NoAnswerError(f"process {self._lease.process_id} has no handler for {name!r}", details=details)
            return _encode_error(error)
        try:
            return b'{"answer":' + encode_json(await handler(payload), f"the answer to {name!r}") + b"}"
        except StreamingError as error:
            return _encode_error(error)
        except Exception as error:  # noqa: BLE001 (logged)
            self._rare.note(f"the request {name!r} failed", error, traceback=True)
            return _encode_error(StreamingError(f"the request {name!r} failed: {type(error).__name__}"))

    async def _request_here(self, name: str, payload: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 (a request's)
        task = self._start(self._answer(name, orjson.loads(payload)))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(task)
        except TimeoutError:
            raise NoAnswerError(
                f"this process did not answer the request {name!r} within {timeout:g} s: it may still carry it out",
                details={"process_id": self._lease.process_id, "known": "alive", "seen_s": 0.0},
            ) from None

    # --- tasks ----------------------------------------------------------------------------------------------

    def _start(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, LogUnavailableError):
            self._rare.note("a task of the mailbox failed", error, traceback=True)

    async def aclose(self) -> None:
        """Cancel the handlers, and end the requests of this process with `LogUnavailableError`."""
        for waiting in self._requests.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(LogUnavailableError("the log was closed before an answer came"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pairs(flat: list[Any]) -> Iterator[tuple[int, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _resolve(waiting: _Request, answer: bytes) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _known(process_id: str, known: str, seen: bytes, now: bytes) -> dict[str, Any]:
    ago = max(int(now) - int(seen), 0) / 1000 if seen else None
    return {"process_id": process_id, "known": known, "seen_s": ago}


def _encode_error(error: StreamingError) -> bytes:
    fields = {
        "type": type(error).__name__,
        "code": error.code,
        "message": error.message,
        "execution_id": error.execution_id,
        "retry_after": error.retry_after,
        "details": error.details,
    }
    try:
        return b'{"error":' + encode_json(fields, "the error") + b"}"
    except (TypeError, ValueError):
        return b'{"error":' + orjson.dumps(fields | {"message": error.message[:8_000], "details": {}}) + b"}"


def _result_of(answer: bytes) -> Any:
    """Return the answer of a handler, or raise its error: of the same class, if this process has it."""
    parsed = orjson.loads(answer)
    if "error" not in parsed:
        return parsed["answer"]
    fields: dict[str, Any] = parsed["error"]
    classes = list(_subclasses(StreamingError))
    kind = next((each for each in classes if each.__name__ == fields["type"] and each.code == fields["code"]), None)
    kind = kind or next((each for each in classes if each.code == fields["code"]), StreamingError)
    error = kind.__new__(kind)  # some take other arguments
    StreamingError.__init__(
        error,
        fields["message"],
        execution_id=fields["execution_id"],
        retry_after=fields["retry_after"],
        details=fields["details"],
    )
    raise error


def _subclasses(base: type[StreamingError]) -> Iterator[type[StreamingError]]:
    yield base
    for each in base.__subclasses__():
        yield from _subclasses(each)
