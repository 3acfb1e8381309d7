"""The event stream of Flowise's prediction API."""

from __future__ import annotations

from lg_streaming.gateway.dialects.flowise.encoder import Flowise

__all__ = ["Flowise"]
