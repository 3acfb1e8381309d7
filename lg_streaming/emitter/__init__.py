"""The emitter: the write handle of a program for an execution."""

from lg_streaming.emitter.base import BaseEmitter, UpdatePipeline
from lg_streaming.emitter.emitter import NO_EMITTER, Emitter, current_emitter
from lg_streaming.emitter.scoped import ScopedPublisher

__all__ = ["NO_EMITTER", "BaseEmitter", "Emitter", "ScopedPublisher", "UpdatePipeline", "current_emitter"]
