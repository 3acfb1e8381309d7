"""The write handle: everything a program says about an execution goes through an emitter."""

from lg_streaming.emitter.base import BaseEmitter, EventRoute, TextRoute
from lg_streaming.emitter.emitter import NO_EMITTER, Emitter, current_emitter

__all__ = ["NO_EMITTER", "BaseEmitter", "Emitter", "EventRoute", "TextRoute", "current_emitter"]
