"""Formats and routes of other systems' clients, one folder for each.

- `wire`: the base of the routes.
- `agui`: AG-UI and CopilotKit.
- `ai_sdk`: the chat of the Vercel AI SDK.
- `flowise`: a format of event streams, without routes.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from lg_streaming.errors import StreamingConfigError
from lg_streaming.gateway.dialects.flowise import Flowise, make_encoder
from lg_streaming.gateway.dialects.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.http.stream_encoder import MakeEncoder
    from lg_streaming.types import WireName

__all__ = ["ENCODERS", "Flowise", "Wire", "wire_type"]

ENCODERS: Final[Mapping[str, MakeEncoder]] = MappingProxyType({"flowise": make_encoder})
"""Makers of the encoders of event streams, by the name of the dialect."""

_WIRES: Final[Mapping[WireName, str]] = MappingProxyType(
    {
        "ai-sdk": "ai_sdk.AiSdk",
        "langgraph": "langgraph.LangGraph",
        "ag-ui": "agui.AgUi",
        "durable-streams": "durable_streams.DurableStreams",
    }
)
"""Folder and class of each wire, which are imported at its first use."""


def wire_type(name: str) -> type[Wire]:
    """Return the class of a wire's routes.

    Raises:
        StreamingConfigError: If no wire has this name.
    """
    place = _WIRES.get(cast("WireName", name))
    if place is None:
        raise StreamingConfigError(f"{name!r:.80} is no wire: wires takes {', '.join(_WIRES)}")
    folder, _, cls = place.partition(".")
    return cast("type[Wire]", getattr(import_module(f"{__name__}.{folder}"), cls))
