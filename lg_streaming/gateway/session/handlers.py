"""Carrying out the messages of the protocol, one function each.

Each gets the session and the checked payload, and returns what the transport has to do; or raises StreamingError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import UnauthorizedError
from lg_streaming.gateway.delivery.wildcard import WildcardSubscription
from lg_streaming.gateway.protocol.messages import SubscribeExecution
from lg_streaming.gateway.session.rooms import room_execution
from lg_streaming.gateway.session.subscriptions import PatternSubscription, Reply

if TYPE_CHECKING:
    from lg_streaming.gateway.protocol.messages import (
        Authenticate,
        CancelExecution,
        Empty,
        Respond,
        RoomMessage,
        SubscribeEvents,
        UnsubscribeEvents,
        UnsubscribeExecution,
    )
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.hub import SubscribeResult

__all__ = ["HANDLERS", "subscribed"]


_MOST_OPEN: Final = 128
"""Executions that one `subscribe_events` has open at a time, where connections have no limit of their own."""


async def subscribe_execution(session: Session, wanted: SubscribeExecution) -> Reply:
    previous = session.watches.get(wanted.execution_id)
    watch, attached = await session.subscribe(wanted)
    return Reply(answer=subscribed(attached), stop=(previous,) if previous is not None else (), start=watch)


async def unsubscribe_execution(session: Session, wanted: UnsubscribeExecution) -> Reply:
    watch = session.watches.get(wanted.execution_id)
    if watch is not None:
        session.drop(watch)
    return Reply(answer={"ok": True, "execution_id": wanted.execution_id}, stop=(watch,) if watch is not None else ())


async def subscribe_events(session: Session, wanted: SubscribeEvents) -> Reply:
    follower = WildcardSubscription(
        session.hub,
        session.edge.patterns,
        globs=wanted.executions or ("**",),
        filter=wanted.filter(),
        allows=session.may_read,
        skips=session.watches.__contains__,
        clock=session.edge.monotonic,
        most_open=session.edge.settings.limits.subscriptions_per_connection or _MOST_OPEN,
    )
    await follower.start()
    previous, session.events = session.events, PatternSubscription(wanted=wanted, follower=follower)
    if previous is not None:
        session.drop(previous)
    return Reply(
        answer={"ok": True, "events": list(wanted.events or ()), "executions": list(follower.globs)},
        stop=(previous,) if previous is not None else (),
        start=session.events,
    )


async def unsubscribe_events(session: Session, wanted: UnsubscribeEvents) -> Reply:
    watch = session.events
    if watch is None:
        return Reply(answer=_NO_EVENTS)
    left = [name for name in watch.wanted.events or () if name not in (wanted.events or ())]
    if wanted.events and left:
        watch.wanted = watch.wanted.model_copy(update={"events": left})
        watch.follower.narrow(watch.wanted.filter())
        return Reply(answer={"ok": True, "events": left, "executions": list(watch.follower.globs)})
    session.drop(watch)
    return Reply(answer=_NO_EVENTS, stop=(watch,))


_NO_EVENTS: Final[dict[str, Any]] = {"ok": True, "events": [], "executions": []}


async def join_room(session: Session, wanted: RoomMessage) -> Reply:
    room_id, rooms = wanted.room_id, session.edge.rooms
    execution_id = room_execution(room_id)
    previous = session.watches.get(execution_id)
    if previous is not None and previous.room_id is not None:
        return Reply(answer={"ok": True, "room_id": room_id, "clients": rooms.members(room_id)})
    watch, _ = await session.subscribe(
        SubscribeExecution(execution_id=execution_id, after="latest", follow=True), room_id=room_id
    )
    return Reply(
        answer={"ok": True, "room_id": room_id, "clients": rooms.join(room_id, session)},
        stop=(previous,) if previous is not None else (),
        start=watch,
    )


async def leave_room(session: Session, wanted: RoomMessage) -> Reply:
    watch = session.watches.get(room_execution(wanted.room_id))
    if watch is not None and watch.room_id is None:
        watch = None
    if watch is not None:
        session.drop(watch)
    clients = session.edge.rooms.members(wanted.room_id) if watch is not None else 0
    return Reply(
        answer={"ok": True, "room_id": wanted.room_id, "clients": clients}, stop=(watch,) if watch is not None else ()
    )


async def respond(session: Session, wanted: Respond) -> Reply:
    await session.check("control", wanted.execution_id)
    await session.hub.respond(wanted.execution_id, wanted.prompt_id, wanted.response)
    return Reply(answer={"ok": True, "execution_id": wanted.execution_id, "prompt_id": wanted.prompt_id})


async def cancel_execution(session: Session, wanted: CancelExecution) -> Reply:
    await session.check("control", wanted.execution_id)
    cancelled = await session.hub.cancel(wanted.execution_id, wanted.reason)
    return Reply(answer={"ok": True, "execution_id": wanted.execution_id, "cancelled": cancelled})


async def authenticate(session: Session, wanted: Authenticate) -> Reply:
    principal = session.principal
    if session.policy.requires_token:
        principal = await session.identify(wanted.token)
        if session.authenticated and principal.subject != session.principal.subject:
            raise UnauthorizedError("a fresh token must be of the same subject: reconnect to change it")
    # All that can fail comes first: a caller is either the new one with its rights, or the old one with its own.
    watches = list(session.watches.values())
    forbidden = [watch for watch in watches if not await session.may_read(watch.execution_id, principal)]
    if session.policy.requires_token:
        session.become(principal)
    for watch in forbidden:
        session.drop(watch)
    if session.events is not None:
        session.events.follower.recheck()
    expires_in = session.expires_in
    return Reply(
        answer={"ok": True, "expires_in_s": None if expires_in is None else round(expires_in, 3)}, forbidden=forbidden
    )


async def ping(session: Session, _: Empty) -> Reply:
    return Reply(answer={"ok": True, "timestamp": session.now()})


async def get_status(session: Session, _: Empty) -> Reply:
    return Reply(answer={"ok": True, **session.status()})


HANDLERS: Final[Mapping[str, Callable[[Session, Any], Awaitable[Reply]]]] = MappingProxyType(
    {
        "subscribe_execution": subscribe_execution,
        "unsubscribe_execution": unsubscribe_execution,
        "subscribe_events": subscribe_events,
        "unsubscribe_events": unsubscribe_events,
        "join_room": join_room,
        "leave_room": leave_room,
        "respond": respond,
        "cancel_execution": cancel_execution,
        "authenticate": authenticate,
        "ping": ping,
        "get_status": get_status,
    }
)
"""What carries out each message of the protocol."""


def subscribed(attached: SubscribeResult) -> dict[str, Any]:
    """The answer to `subscribe_execution`."""
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
