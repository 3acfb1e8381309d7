"""Status of a connection, as its client gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lg_streaming.gateway.protocol.outbound import PROTOCOL_VERSION

if TYPE_CHECKING:
    from lg_streaming.gateway.session.session import Session

__all__ = ["connection_status", "status_answer"]


def connection_status(session: Session) -> dict[str, Any]:
    """Return the payload of `connection_status`."""
    settings = session.context.settings
    payload: dict[str, Any] = {
        "status": "connected" if session.authenticated else "authentication_required",
        "connection_id": session.connection_id,
        "server_time": session.now(),
        "heartbeat_interval_s": session.heartbeat_interval,
        "protocol": PROTOCOL_VERSION,
    }
    if session.context.processes.warnings:
        payload["warnings"] = session.context.processes.warnings
    if not session.authenticated:
        payload["login_timeout_s"] = settings.limits.login_timeout
    return payload


def status_answer(session: Session) -> dict[str, Any]:
    """Return the answer to `get_status`."""
    connection: dict[str, Any] = {
        "connection_id": session.connection_id,
        "uptime_s": round(session.uptime, 3),
    }
    if session.principal.account is not None:
        connection["subject"] = session.principal.account
    if session.expires_in is not None:
        connection["expires_in_s"] = round(session.expires_in, 3)
    return {
        "connection": connection,
        "subscriptions": [
            {
                "execution_id": subscription.execution_id,
                "position": None if subscription.source.position is None else str(subscription.source.position),
                "batch": subscription.options.batch,
                "follow": subscription.follow,
            }
            for subscription in session.subscriptions.values()
        ],
        "server": {
            "protocol": PROTOCOL_VERSION,
            "server_time": session.now(),
            "connections": session.context.admission.connections.connections,
        },
    }
