"""The write handle: everything a program says about an execution goes through an emitter."""

from lg_streaming.emitter.emitter import NO_EMITTER, Emitter, current_emitter
from lg_streaming.emitter.handle import EventRoute, Handle, TextRoute

__all__ = ["NO_EMITTER", "Emitter", "EventRoute", "Handle", "TextRoute", "current_emitter"]
