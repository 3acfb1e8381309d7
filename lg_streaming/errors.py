"""Exceptions of lg_streaming, and the table of their codes.

```text
StreamingError                       every error of this library
├── BadRequestError            4000  the caller sent something malformed
│   ├── BadPositionError       4001  a position that cannot be read
│   ├── MethodError            4050  an HTTP method that a route does not have
│   └── PromptError            4090  a prompt that waits for no answer
├── UnauthorizedError          4010  no valid credentials
│   └── TokenExpiredError      4011  credentials that were valid once
├── ForbiddenError             4030  not allowed, or not there: the answer is the same
│   └── OriginError            4031  a browser origin that is not on the list
├── ExecutionNotFoundError     4040  nothing to write to, and nothing shall be opened
├── GapError                   4091  the reader asked to fail rather than skip
├── GraphNotFoundError         4041  no graph has this name
├── ExecutionExistsError       4092  the id of an execution that runs already
├── IdempotencyError           4093  another start has used this idempotency key
├── TransitionError            4096  a step that a task, an agent or a request cannot take now
├── RunCancelledError          4098  the run was cancelled
├── DeadlineError              4081  the run took longer than its deadline
├── PromptTimeoutError         4082  a prompt had no answer in time
├── TooLargeError              4130  an inbound message over the limit
├── LimitError                       one of the limits was reached
│   ├── TooManySubscriptionsError    4290
│   ├── TooManyConnectionsError      4291
│   │   └── ServerFullError          the whole server, not only the caller
│   ├── ConnectRateError             4292
│   ├── MessageRateError             4293
│   ├── SubscriberLimitError         4294
│   ├── ExecutionLimitError          4295
│   └── StartRateError               4296
├── WebSocketError                   a connection that has to close
│   ├── ConnectionLostError          a client cannot reach its server, or has stopped trying
│   ├── LoginTimeoutError      4080  connected but never logged in
│   └── SlowReaderError        4400  the reader does not keep up
│       └── DeadPeerError      4401  the reader is gone
├── ServerRestartError         4500  the server is going away, come back later
├── LogUnavailableError        5030  the log cannot be reached
├── NoAnswerError              5041  the process that runs an execution did not answer
├── RunRefusedError            4097  the run ended in another process, or is another caller's
├── UpdateTooLargeError        4131  a producer's update exceeds the limit
├── HubClosedError             5031  the hub was closed
├── KeysUnavailableError       5032  a token cannot be checked now
├── SinkError                  5040  a sink did not take what it was sent
│   └── SinkRejectedError            and it is of no use to send it again
└── StreamingConfigError             the program is set up wrongly
    ├── TokenStreamingError          an option of @stream_token that cannot be used
    ├── NotANodeError                a decorator on what can be no node
    ├── MissingExtraError            an optional package is not installed
    ├── UnsupportedPlatformError     this operating system lacks what a feature needs
    ├── ForkedError                  an object of the parent process, used after `os.fork()`
    └── BlockingCallError            a call that would block the event loop it waits for
```

`GraphCancelledError` is no `StreamingError`, and no `Exception`: sync code of a cancelled run gets it.

Each wire error has a ``code``. Its first digit is 4 for an error of the caller and 5 for one of the server; `CODES`
has whether a retry helps. ``StreamingConfigError`` and ``ConnectionLostError`` are raised locally and never sent.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from lg_streaming.escaping import guard_loggers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CODES",
    "BadPositionError",
    "BadRequestError",
    "BlockingCallError",
    "Code",
    "ConnectRateError",
    "ConnectionLostError",
    "DeadPeerError",
    "DeadlineError",
    "ExecutionExistsError",
    "ExecutionLimitError",
    "ExecutionNotFoundError",
    "ForbiddenError",
    "ForkedError",
    "GapError",
    "GraphCancelledError",
    "GraphNotFoundError",
    "HubClosedError",
    "IdempotencyError",
    "KeysUnavailableError",
    "LimitError",
    "LogUnavailableError",
    "LoginTimeoutError",
    "MessageRateError",
    "MethodError",
    "MissingExtraError",
    "NoAnswerError",
    "NotANodeError",
    "OriginError",
    "PromptError",
    "PromptTimeoutError",
    "RunCancelledError",
    "RunRefusedError",
    "ServerFullError",
    "ServerRestartError",
    "SinkError",
    "SinkRejectedError",
    "SlowReaderError",
    "StartRateError",
    "StreamingConfigError",
    "StreamingError",
    "SubscriberLimitError",
    "TokenExpiredError",
    "TokenStreamingError",
    "TooLargeError",
    "TooManyConnectionsError",
    "TooManySubscriptionsError",
    "TransitionError",
    "UnauthorizedError",
    "UnsupportedPlatformError",
    "UpdateTooLargeError",
    "WebSocketError",
    "describe_error",
    "describe_without_message",
    "leaf_errors",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One row of the code table.

    ``retryable``: the same request can succeed later, unchanged. ``closes``: the error closes the connection
    (``"yes"``), does not (``"no"``), or does on the third time (``"third"``).
    """

    number: int
    name: str
    http_status: int
    retryable: bool
    closes: str
    meaning: str


class StreamingError(Exception):
    """Base of every error of this library.

    Args:
        message: The problem, and what to do about it.
        execution_id: The execution that has the problem, if any.
        retry_after: Seconds to wait before a retry, if a retry helps.
        details: Facts for programs, such as the limit that was reached: plain JSON values. They are sent to clients.
    """

    code: ClassVar[int] = 5000
    name: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    closes: ClassVar[str] = "no"
    meaning: ClassVar[str] = "something went wrong in the server"

    def __init__(
        self,
        message: str = "",
        *,
        execution_id: str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message: str = message or self.meaning
        self.execution_id = execution_id
        self.retry_after = retry_after
        self.details: Mapping[str, Any] = dict(details or {})
        super().__init__(self.message)

    def to_dict(self) -> dict[str, Any]:
        """Return the error's JSON object: ``code``, ``name``, ``message``, ``retryable`` and the optional fields."""
        wire: dict[str, Any] = {
            "code": self.code,
            "name": self.name,
            "message": self.message,
            "retryable": self.retryable,
        }
        if self.retry_after is not None:
            wire["retry_after_ms"] = round(self.retry_after * 1000)
        if self.execution_id is not None:
            wire["execution_id"] = self.execution_id
        if self.details:
            wire["details"] = dict(self.details)
        return wire


class GraphCancelledError(BaseException):
    """Cancelled graph, as raised in its sync code and to the caller of a sync call.

    Like `asyncio.CancelledError` it is no `Exception`. So a node that catches `Exception`, a retry policy, a fallback
    or a handler of tool errors neither swallows it nor tries again.

    Args:
        reason: The reason of the cancel, if any.
        execution_id: The execution that was cancelled.
    """

    def __init__(self, reason: str | None = None, *, execution_id: str | None = None) -> None:
        self.reason: str | None = reason
        self.execution_id: str | None = execution_id
        super().__init__(reason or "the run was cancelled")


class BadRequestError(StreamingError):
    """Malformed request; sending it again does not help."""

    code = 4000
    name = "bad_request"
    http_status = 400
    closes = "third"
    meaning = "the message is malformed: correct it before sending it again"


class BadPositionError(BadRequestError):
    """Position that is not of the form ``<epoch>:<seq>``."""

    code = 4001
    name = "bad_position"
    closes = "no"
    meaning = "a position looks like '<epoch>:<seq>'; use one that came from this server"


class MethodError(BadRequestError):
    """HTTP method that a route does not support."""

    code = 4050
    name = "method_not_allowed"
    http_status = 405
    closes = "no"
    meaning = "this route does not take this method: see the header Allow"


class PromptError(BadRequestError):
    """Answer to a prompt that is answered already, or was never asked. Two people may answer at once, without harm."""

    code = 4090
    name = "no_such_prompt"
    http_status = 409
    closes = "no"
    meaning = "no such prompt waits for an answer: it was answered, its run is over, or it was never asked"


class UnauthorizedError(StreamingError):
    """Missing or invalid credentials."""

    code = 4010
    name = "unauthorized"
    http_status = 401
    closes = "yes"
    meaning = "a valid token is required"


class TokenExpiredError(UnauthorizedError):
    """Expired token; a new one is needed."""

    code = 4011
    name = "token_expired"
    retryable = True
    meaning = "the token has expired: come back with a new one"


class ForbiddenError(StreamingError):
    """Access that is not allowed. An execution that does not exist gives the same error."""

    code = 4030
    name = "forbidden"
    http_status = 403
    meaning = "there is no such execution, or it is not yours"


class OriginError(ForbiddenError):
    """Browser origin that is not on the list of allowed origins."""

    code = 4031
    name = "origin"
    closes = "yes"
    meaning = "this origin is not allowed: add it to gateway.cors_origins"


class WebSocketError(StreamingError):
    """Failed connection. Its run and the run's other readers are not affected."""

    name = "connection"
    retryable = True
    closes = "yes"


class ConnectionLostError(WebSocketError):
    """Lost connection to a server, as found by a client; never sent."""

    name = "connection_lost"
    meaning = "the server cannot be reached: resume from the last position once it can"


class LoginTimeoutError(WebSocketError):
    """Transport that was opened and did not complete its login in time."""

    code = 4080
    name = "login_timeout"
    http_status = 408
    meaning = "no CONNECT or login came in time"


class ExecutionNotFoundError(StreamingError):
    """Update for an execution without an open run, where updates open none (`auto_open=False`, `missing="raise"`).

    Readers never get this error: `ForbiddenError` hides whether an execution exists.
    """

    code = 4040
    name = "execution_not_found"
    http_status = 404
    meaning = "no run of this execution is open: open one first"


class GapError(StreamingError):
    """Evicted updates after a reader's position, if the reader asked to fail rather than to skip them."""

    code = 4091
    name = "gap"
    http_status = 200
    retryable = True
    meaning = "updates after this position are no longer kept"


class GraphNotFoundError(StreamingError, KeyError):
    """Start of a graph under a name that is not registered."""

    code = 4041
    name = "graph_not_found"
    http_status = 404
    meaning = "no graph has this name"

    def __str__(self) -> str:
        """Return the message, without the quotation marks of a KeyError."""
        return self.message


class RunCancelledError(StreamingError):
    """End of a run that was cancelled."""

    code = 4098
    name = "run_cancelled"
    http_status = 409
    meaning = "the run was cancelled"


class DeadlineError(StreamingError, TimeoutError):
    """End of a run that took longer than its deadline."""

    code = 4081
    name = "deadline_exceeded"
    http_status = 408
    meaning = "the run took longer than its deadline"


class PromptTimeoutError(StreamingError, TimeoutError):
    """End of the wait for an answer to a prompt that has no default. `human_prompt` raises it in the node."""

    code = 4082
    name = "prompt_timed_out"
    http_status = 408
    meaning = "a prompt had no answer in time"


class ExecutionExistsError(StreamingError):
    """New execution under an id whose run is open."""

    code = 4092
    name = "execution_exists"
    http_status = 409
    meaning = "the execution has an open run: choose another id, end that run, or start with if_running"


class IdempotencyError(StreamingError):
    """Repeated start with an idempotency key that belongs to a start with other arguments."""

    code = 4093
    name = "idempotency_key_reused"
    http_status = 409
    meaning = "another start has used this idempotency key: choose a new key"


class TransitionError(StreamingError):
    """Transition that the present state of a task, an agent or a request does not allow."""

    code = 4096
    name = "illegal_transition"
    http_status = 409
    meaning = "this cannot follow: see the states of the activity"


class TooLargeError(StreamingError):
    """Inbound message over ``limits.inbound_bytes``."""

    code = 4130
    name = "too_large"
    http_status = 413
    closes = "yes"
    meaning = "the message is too large"


class UpdateTooLargeError(StreamingError):
    """Producer's update that exceeds ``limits.update_bytes`` when encoded."""

    code = 4131
    name = "update_too_large"
    http_status = 413
    meaning = "the update is too large to stream: send a reference to the data instead"


class LimitError(StreamingError):
    """Base of the errors about a limit that was reached."""

    name = "limit"
    http_status = 429


class TooManySubscriptionsError(LimitError):
    """More subscriptions on one connection than ``limits.subscriptions_per_connection``."""

    code = 4290
    name = "too_many_subscriptions"
    meaning = "this connection has as many subscriptions as it may: unsubscribe first"


class TooManyConnectionsError(LimitError):
    """More connections than the server, the subject or the address may have."""

    code = 4291
    name = "too_many_connections"
    retryable = True
    closes = "yes"
    meaning = "too many connections are open"


class ServerFullError(TooManyConnectionsError):
    """Connection limit of the whole server, not only of this caller."""

    http_status = 503
    meaning = "the server has as many connections as it may"


class ConnectRateError(LimitError):
    """Connections or failed logins over their rate."""

    code = 4292
    name = "connect_rate"
    retryable = True
    closes = "yes"
    meaning = "too many connection attempts: wait before the next one"


class MessageRateError(LimitError):
    """Messages on one connection over their rate."""

    code = 4293
    name = "message_rate"
    retryable = True
    closes = "third"
    meaning = "too many messages: slow down"


class SubscriberLimitError(LimitError):
    """Reader of an execution that has ``limits.max_subscribers_per_execution`` readers already."""

    code = 4294
    name = "subscriber_limit"
    retryable = True
    meaning = "this execution has as many readers as it may"


class ExecutionLimitError(LimitError):
    """Run on a hub that has ``limits.max_executions`` running executions already."""

    code = 4295
    name = "execution_limit"
    retryable = True
    meaning = "as many executions are running as may"


class StartRateError(LimitError):
    """Starts of one caller over their rate, ``limits.starts_per_subject``."""

    code = 4296
    name = "start_rate"
    retryable = True
    meaning = "too many starts: wait before the next one"


class SlowReaderError(WebSocketError):
    """Reader that does not keep up; it can resume from its last position."""

    code = 4400
    name = "slow"
    http_status = 408
    meaning = "the reader is too slow: reconnect and resume from the last position"


class DeadPeerError(SlowReaderError):
    """Peer that stopped answering."""

    code = 4401
    name = "dead"
    meaning = "the peer does not answer"


class ServerRestartError(StreamingError):
    """Shutdown of the server; resume elsewhere or later."""

    code = 4500
    name = "server_restart"
    http_status = 503
    retryable = True
    closes = "yes"
    meaning = "the server restarts: reconnect after the given delay"


class LogUnavailableError(StreamingError):
    """Log that cannot be reached; the updates in it are safe."""

    code = 5030
    name = "log_unavailable"
    http_status = 503
    retryable = True
    meaning = "the log cannot be reached at the moment: try again"


class NoAnswerError(StreamingError):
    """Request to a process of the fleet that is gone, or that did not answer in time."""

    code = 5041
    name = "no_answer"
    http_status = 504
    retryable = True
    meaning = "the process that runs the execution did not answer: try again"


class RunRefusedError(StreamingError):
    """Updates that a shared log refused: their run ended in another process, or the execution has another owner."""

    code = 4097
    name = "run_refused"
    http_status = 409
    meaning = "the run ended in another process, or the execution has another owner"


class HubClosedError(StreamingError):
    """Use of a closed hub."""

    code = 5031
    name = "hub_closed"
    http_status = 503
    meaning = "the hub is closed"


class KeysUnavailableError(StreamingError):
    """Token with an unknown key while the JWK Set cannot be reached: the token may be valid."""

    code = 5032
    name = "keys_unavailable"
    http_status = 503
    retryable = True
    meaning = "the token cannot be checked at the moment: try again"


class SinkError(StreamingError):
    """Failure of a sink to take updates. The owner of the sink gets it; it is never sent to clients.

    A sink may raise it to give details of its failure.

    Args:
        message: The problem.
        execution_id: The execution whose updates were sent.
        sink_id: The sink.
        sent: Number of updates of the call that were taken before the failure. With None, all of them count as failed.
        retry_after: Seconds to wait before sending again.
    """

    code = 5040
    name = "sink_failed"
    retryable = True
    meaning = "a sink did not take what it was sent"

    def __init__(
        self,
        message: str = "",
        *,
        execution_id: str | None = None,
        sink_id: str | None = None,
        sent: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, execution_id=execution_id, retry_after=retry_after)
        self.sink_id = sink_id
        self.sent = sent


class SinkRejectedError(SinkError):
    """Permanent refusal of updates by a sink: a retry does not help."""

    retryable = False


class StreamingConfigError(StreamingError):
    """Wrong set-up of a program; raised during the set-up."""

    name = "config"


class TokenStreamingError(StreamingConfigError):
    """Invalid option of ``@stream_token`` or of a token stream."""

    name = "token_streaming"


class NotANodeError(StreamingConfigError, TypeError):
    """Decorator on an object that cannot be a node of a graph. It is a ``TypeError`` too."""

    name = "not_a_node"


class MissingExtraError(StreamingConfigError, ImportError):  # pyright: ignore[reportIncompatibleVariableOverride] (name)
    """Missing optional package. It is an ``ImportError`` too."""

    name = "missing_extra"


class UnsupportedPlatformError(StreamingConfigError):
    """Missing operating system function on this platform, such as a Linux one on Windows."""

    name = "unsupported_platform"


class ForkedError(StreamingConfigError):
    """Use of a connection or a reader in the child of `os.fork()` that was opened before. Open another one there."""

    name = "forked"


class BlockingCallError(StreamingConfigError):
    """Blocking call on the thread of a running event loop, which would stop the loop that the call waits for."""

    name = "blocking_call"


_MAX_MESSAGE: Final = 8_000
_MAX_LEAVES: Final = 1_000
_MAX_CAUSES: Final = 5
_MAX_ERRORS: Final = 10


def leaf_errors(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and its nested groups, in order, at most 1,000; for any other error, itself.

    A group counts as a cancellation, for example, if all of its leaves are cancellations.
    """
    found: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting and len(found) < _MAX_LEAVES:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(cast("BaseExceptionGroup[BaseException]", each).exceptions)
        else:
            found.append(each)
    return found


def describe_error(
    error: BaseException | str, *, debug: bool = False, leaves: Sequence[BaseException] | None = None
) -> dict[str, Any]:
    """Return an error as plain JSON values: `message`, `type`, if present `code`, `errors`, `causes`.

    With `debug` it has a `stack`.

    The code is the exception's attribute `code`, if it is a number or a text. Errors of this library and of many
    model clients have one. A message longer than 8,000 characters is cut.

    `errors` are those in a group and its nested groups, at most 10 objects `{message, type, code?}`. The message of a
    group names its first error. The code of a group is that of its only error. `causes` are at most 5 such objects: the
    chain of ``raise … from cause``, the nearest first.

    Args:
        error: The error, or its message.
        debug: True to include the stack.
        leaves: The errors of a group that count; default: all.
    """
    if isinstance(error, str):
        return {"message": _cut(error)}
    described = _described(error)
    if isinstance(error, BaseExceptionGroup):
        found = leaf_errors(cast("BaseException", error)) if leaves is None else leaves
        errors = described["errors"] = [_described(each) for each in found[:_MAX_ERRORS]]
        if errors:
            first = errors[0]
            described["message"] = _cut(f"{described['message']}: {first['type']}: {first['message']}")
        if len(found) == 1 and "code" in errors[0]:
            described.setdefault("code", errors[0]["code"])
    if causes := _causes(cast("BaseException", error)):
        described["causes"] = [_described(cause) for cause in causes[:_MAX_CAUSES]]
    if debug:
        described["stack"] = _stack(cast("BaseException", error))
    return described


def _described(error: BaseException) -> dict[str, Any]:
    name = type(error).__name__
    try:
        message = str(error) or name
    except Exception:  # noqa: BLE001 (a __str__ of the user's own may raise anything)
        message = name
    described: dict[str, Any] = {"message": _cut(message), "type": name}
    if (code := _code_of(error)) is not None:
        described["code"] = code
    return described


def describe_without_message(error: BaseException) -> str:
    """Return an error's type and the line that raised it, for an error whose message may hold secrets."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" at {frames[0].filename}:{frames[0].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    seen = {id(error)}
    cause = error.__cause__
    while cause is not None and id(cause) not in seen and len(causes) < _MAX_CAUSES:
        seen.add(id(cause))
        if isinstance(cause, BaseExceptionGroup):  # its errors are more specific
            causes += leaf_errors(cast("BaseExceptionGroup[BaseException]", cause))
        else:
            causes.append(cause)
        cause = cause.__cause__
    return causes


def _stack(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 (it calls the error's own methods)
        return type(error).__name__


def _cut(message: str) -> str:
    """Return the beginning of a message, short enough to be sent in any case."""
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"


def _code_of(error: BaseException) -> int | str | None:
    try:
        code: object = getattr(error, "code", None)
    except Exception:  # noqa: BLE001 (a property of the user's own may raise anything)
        return None
    return code if isinstance(code, (int, str)) and not isinstance(code, bool) and code != "" else None


def _codes(base: type[StreamingError]) -> dict[int, Code]:
    table: dict[int, Code] = {}
    for error in base.__subclasses__():
        if "code" in vars(error):
            table[error.code] = Code(
                number=error.code,
                name=error.name,
                http_status=error.http_status,
                retryable=error.retryable,
                closes=error.closes,
                meaning=error.meaning,
            )
        table |= _codes(error)
    return table


CODES: Mapping[int, Code] = MappingProxyType(dict(sorted(_codes(StreamingError).items())))
"""Every code that can be sent, by number. It is made from the classes above, so the two cannot differ."""

guard_loggers()  # here, since all modules with a logger import this one
