"""Views of a hub for programs: token streams as a service, and work on updates."""

from lg_streaming.views.event_processor import EventStats, EventStreamProcessor
from lg_streaming.views.token_service import TokenStats, TokenStreamInfo, TokenStreamingService

__all__ = ["EventStats", "EventStreamProcessor", "TokenStats", "TokenStreamInfo", "TokenStreamingService"]
