"""The event stream of Flowise's prediction API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.gateway.dialects.flowise.encoder import Flowise

if TYPE_CHECKING:
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription

__all__ = ["Flowise", "make_encoder"]


def make_encoder(session: Session, subscription: ActiveSubscription) -> Flowise:
    """Return the encoder of one stream."""
    return Flowise(
        subscription.execution_id,
        follow=subscription.follow,
        listener_id=session.connection_id,
        replica_id=session.context.replica_id,
    )
