"""Handle the messages of the protocol, one function each.

Each function gets the session and the validated payload, and returns the transport's actions or raises StreamingError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    ExecutionNotFoundError,
    ForbiddenError,
    LogUnavailableError,
    StreamingError,
    TokenExpiredError,
    UnauthorizedError,
)
from lg_streaming.events import room_execution
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.registry import failure, parse_message
from lg_streaming.gateway.session.starting import start_run
from lg_streaming.gateway.session.status import status_answer
from lg_streaming.gateway.session.subscriptions import PatternSubscription, Reply
from lg_streaming.hub.wildcard import WildcardSubscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.gateway.protocol.inbound import (
        Authenticate,
        CancelExecution,
        Empty,
        InjectInput,
        PauseExecution,
        Respond,
        ResumeExecution,
        RoomMessage,
        StartExecution,
        SubscribeEvents,
        UnsubscribeEvents,
        UnsubscribeExecution,
    )
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.hub import SubscribeResult
    from lg_streaming.runs import GraphRunner

__all__ = ["HANDLERS", "handle", "subscribed"]

_BEFORE_LOGIN: Final = frozenset({"authenticate", "ping"})
_AFTER_EXPIRY: Final = _BEFORE_LOGIN | {
    "get_status",
    "leave_room",
    "unsubscribe_events",
    "unsubscribe_execution",
}
"""Messages that a caller may send after its token has expired: those that need no right."""

_MAX_OPEN: Final = 128
"""Executions that one `subscribe_events` has open at a time, if the settings have no limit for a connection."""


async def subscribe_execution(session: Session, message: SubscribeExecution) -> Reply:
    previous = session.subscriptions.get(message.execution_id)
    subscription, attached = await session.subscribe(message)
    return Reply(answer=subscribed(attached), stop=(previous,) if previous is not None else (), start=subscription)


async def unsubscribe_execution(session: Session, message: UnsubscribeExecution) -> Reply:
    subscription = session.subscriptions.get(message.execution_id)
    if subscription is not None:
        session.remove_subscription(subscription)
    return Reply(
        answer={"ok": True, "execution_id": message.execution_id},
        stop=(subscription,) if subscription is not None else (),
    )


async def subscribe_events(session: Session, message: SubscribeEvents) -> Reply:
    follower = WildcardSubscription(
        session.hub.readers,
        session.context.wildcards,
        globs=message.executions or ("**",),
        filter=message.filter(),
        allows=session.may_read,
        skips=session.subscriptions.__contains__,
        clock=session.context.clock.monotonic,
        max_open=session.context.settings.limits.subscriptions_per_connection or _MAX_OPEN,
    )
    follower.start()
    try:
        await session.hub.log.ready()
    except LogUnavailableError:
        follower.close()
        raise
    previous, session.events = session.events, PatternSubscription(request=message, follower=follower)
    if previous is not None:
        session.remove_subscription(previous)
    return Reply(
        answer={"ok": True, "events": list(message.events or ()), "executions": list(follower.globs)},
        stop=(previous,) if previous is not None else (),
        start=session.events,
    )


async def unsubscribe_events(session: Session, message: UnsubscribeEvents) -> Reply:
    subscription = session.events
    if subscription is None:
        return Reply(answer=_NO_EVENTS)
    left = [name for name in subscription.request.events or () if name not in (message.events or ())]
    if message.events and left:
        subscription.request = subscription.request.model_copy(update={"events": left})
        subscription.follower.narrow(subscription.request.filter())
        return Reply(answer={"ok": True, "events": left, "executions": list(subscription.follower.globs)})
    session.remove_subscription(subscription)
    return Reply(answer=_NO_EVENTS, stop=(subscription,))


_NO_EVENTS: Final[dict[str, Any]] = {"ok": True, "events": [], "executions": []}


async def join_room(session: Session, message: RoomMessage) -> Reply:
    room_id, rooms = message.room_id, session.context.rooms
    execution_id = room_execution(room_id)
    previous = session.subscriptions.get(execution_id)
    if previous is not None and previous.room_id is not None:
        return Reply(answer={"ok": True, "room_id": room_id, "clients": rooms.members(room_id)})
    subscription, _ = await session.subscribe(
        SubscribeExecution(execution_id=execution_id, after="latest", follow=True), room_id=room_id
    )
    return Reply(
        answer={"ok": True, "room_id": room_id, "clients": rooms.join(room_id, session)},
        stop=(previous,) if previous is not None else (),
        start=subscription,
    )


async def leave_room(session: Session, message: RoomMessage) -> Reply:
    subscription = session.subscriptions.get(room_execution(message.room_id))
    if subscription is not None and subscription.room_id is None:
        subscription = None
    if subscription is not None:
        session.remove_subscription(subscription)
    clients = session.context.rooms.members(message.room_id) if subscription is not None else 0
    return Reply(
        answer={"ok": True, "room_id": message.room_id, "clients": clients},
        stop=(subscription,) if subscription is not None else (),
    )


async def start_execution(session: Session, message: StartExecution) -> Reply:
    return Reply(answer=await start_run(session, message))


async def respond(session: Session, message: Respond) -> Reply:
    await session.check("control", message.execution_id)
    await session.hub.respond(
        message.execution_id, message.prompt_id, message.response, responder=session.principal.subject
    )
    return Reply(answer={"ok": True, "execution_id": message.execution_id, "prompt_id": message.prompt_id})


async def cancel_execution(session: Session, message: CancelExecution) -> Reply:
    await session.check("control", message.execution_id)
    cancelled = await session.hub.cancel(message.execution_id, message.reason)
    return Reply(answer={"ok": True, "execution_id": message.execution_id, "cancelled": cancelled})


async def pause_execution(session: Session, message: PauseExecution) -> Reply:
    paused = await steer(session, message.execution_id, lambda run: run.pause(message.execution_id, message.reason))
    return Reply(answer={"ok": True, "execution_id": message.execution_id, "paused": paused is not _NO_RUN})


async def resume_execution(session: Session, message: ResumeExecution) -> Reply:
    resumed = await steer(session, message.execution_id, lambda run: run.resume(message.execution_id))
    return Reply(answer={"ok": True, "execution_id": message.execution_id, "resumed": resumed is True})


async def inject_input(session: Session, message: InjectInput) -> Reply:
    execution_id, node = message.execution_id, message.as_node
    state = await session.check("control", execution_id)
    owner = state.owner if state is not None else None
    only_input = session.policy.only_owns(session.principal, "control", execution_id, owner)
    if only_input and node is not None:
        raise ForbiddenError("as_node needs a grant of the action control", execution_id=execution_id)
    injected = await _steer(
        session, lambda run: run.inject(execution_id, message.input, as_node=node, only_input=only_input)
    )
    return Reply(answer={"ok": True, "execution_id": execution_id, "injected": injected is not _NO_RUN})


_NO_RUN: Final = object()


async def steer(session: Session, execution_id: str, command: Callable[[GraphRunner], Awaitable[object]]) -> object:
    """Return the result of a command to the run of an execution; `_NO_RUN` if no run of a graph is open.

    Raises:
        ForbiddenError: If the caller may not control the execution.
        StreamingError: If the command raises it.
    """
    await session.check("control", execution_id)
    return await _steer(session, command)


async def _steer(session: Session, command: Callable[[GraphRunner], Awaitable[object]]) -> object:
    runner = session.context.remote_runner
    if runner is None:
        return _NO_RUN
    try:
        return await command(runner.runner)
    except ExecutionNotFoundError:
        return _NO_RUN


async def authenticate(session: Session, message: Authenticate) -> Reply:
    principal = session.principal
    if session.policy.requires_token:
        principal = await session.identify(message.token)
        if session.authenticated and principal.subject != session.principal.subject:
            raise UnauthorizedError("a fresh token must be of the same subject: reconnect to change it")
        await session.claim_subject(principal)
    # All that can fail comes first: a caller is either the new one with its rights, or the old one with its own.
    subscriptions = list(session.subscriptions.values())
    forbidden = [
        subscription
        for subscription in subscriptions
        if not await session.may_read(subscription.execution_id, principal)
    ]
    if session.policy.requires_token:
        session.set_principal(principal, message.token)
    for subscription in forbidden:
        session.remove_subscription(subscription)
    if session.events is not None:
        session.events.follower.reauthorize()
    expires_in = session.expires_in
    return Reply(
        answer={"ok": True, "expires_in_s": None if expires_in is None else round(expires_in, 3)}, forbidden=forbidden
    )


async def ping(session: Session, _: Empty) -> Reply:
    return Reply(answer={"ok": True, "timestamp": session.now()})


async def get_status(session: Session, _: Empty) -> Reply:
    return Reply(answer={"ok": True, **status_answer(session)})


HANDLERS: Final[Mapping[str, Callable[[Session, Any], Awaitable[Reply]]]] = MappingProxyType(
    {
        "subscribe_execution": subscribe_execution,
        "unsubscribe_execution": unsubscribe_execution,
        "subscribe_events": subscribe_events,
        "unsubscribe_events": unsubscribe_events,
        "join_room": join_room,
        "leave_room": leave_room,
        "start_execution": start_execution,
        "respond": respond,
        "cancel_execution": cancel_execution,
        "pause_execution": pause_execution,
        "resume_execution": resume_execution,
        "inject_input": inject_input,
        "authenticate": authenticate,
        "ping": ping,
        "get_status": get_status,
    }
)
"""The function for each message of the protocol."""


async def handle(session: Session, name: str, arguments: Sequence[object]) -> Reply:
    """Handle one message. No message of a client makes it raise."""
    clock = session.context.clock.monotonic
    began, refused = clock(), None
    try:
        session.charge_rate(began)
        message = parse_message(name, arguments)
        if not session.authenticated and name not in _BEFORE_LOGIN:
            raise UnauthorizedError("send authenticate with a valid token first")
        if session.has_expired and name not in _AFTER_EXPIRY:
            # The connection has its time of grace, in which a fresh token may arrive.
            refused = TokenExpiredError("the token has expired: send authenticate with a fresh one first")
            return Reply(answer=failure(refused))
        return await HANDLERS[name](session, message)
    except StreamingError as error:
        refused = error
        return Reply(answer=failure(error), close=error if session.count_violation(error) else None)
    finally:
        session.instrumentation.handled(name, clock() - began, refused)


def subscribed(attached: SubscribeResult) -> dict[str, Any]:
    """Return the answer to `subscribe_execution`."""
    answer: dict[str, Any] = {
        "ok": True,
        "execution_id": attached.execution_id,
        "state": attached.state,
        "position": str(attached.position) if attached.position is not None else None,
        "oldest": attached.oldest,
        "recovered": attached.recovered,
    }
    if attached.reason is not None:
        answer["reason"] = attached.reason
    return answer
