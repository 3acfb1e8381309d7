"""Options of the hub's methods, for ``**options: Unpack[...]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal
from uuid import UUID

from typing_extensions import TypedDict

from lg_streaming.events import Delivery, Position, Priority, Scope
from lg_streaming.filters import FilterOptions, UpdateFilter
from lg_streaming.hub.page import OnGap
from lg_streaming.hub.sink import OnError, SendPolicy
from lg_streaming.publisher import LargeUpdates, OnMissingRun

__all__ = [
    "AttachOptions",
    "EmitOptions",
    "IdleTimeout",
    "Owner",
    "PublishOptions",
    "RunOptions",
    "SubscribeOptions",
]

Owner = str | int | UUID
"""The owner of an execution: the text that tokens have as `sub`. A whole number or a UUID counts as its text."""

IdleTimeout = float | Literal["default"] | None
"""Seconds without any activity after which a run ends. None or 0: never; `"default"`: the value of the settings."""


class RunOptions(TypedDict, total=False):
    """Options of a run that is opened; see `StreamHub.open`."""

    owner: Owner | None
    metadata: Mapping[str, Any] | None
    priority: Priority | None
    idle_timeout: IdleTimeout


class PublishOptions(TypedDict, total=False):
    """Options of a published update; see `StreamHub.publish`."""

    scope: Scope
    priority: Priority | None
    delivery: Delivery
    key: str | None
    missing: OnMissingRun | None
    large: LargeUpdates | None


class EmitOptions(TypedDict, total=False):
    """Options of an emitted update; see `StreamHub.emit`."""

    category: str | None
    priority: Priority | None
    delivery: Delivery | None
    key: str | None
    missing: OnMissingRun | None
    large: LargeUpdates | None


class SubscribeOptions(FilterOptions, total=False):
    """Options of a subscription; see `StreamHub.subscribe`."""

    after: Position | str | None
    filter: UpdateFilter | None
    types: Iterable[str] | None
    follow: bool
    on_gap: OnGap
    timeout: float | None


class AttachOptions(FilterOptions, total=False):
    """Options of an attached sink; see `StreamHub.attach`."""

    after: Position | str | None
    filter: UpdateFilter | None
    types: Iterable[str] | None
    follow: bool
    on_error: OnError
    policy: SendPolicy | None
    send_timeout: float | None
    replace: bool
    shared: bool
    claim: bool | None
