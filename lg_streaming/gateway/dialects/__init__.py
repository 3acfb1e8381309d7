"""Formats of event streams: this library's own events, or those of another system."""

from __future__ import annotations

from lg_streaming.gateway.dialects.base import EventStreamEncoder
from lg_streaming.gateway.dialects.flowise.encoder import Flowise
from lg_streaming.gateway.dialects.native import Native

__all__ = ["EventStreamEncoder", "Flowise", "Native"]
