"""The emitter: publishes a program's updates of an execution.

- `emitter`: one method for each kind of update; `spans`, `open_spans`: messages, nodes and calls of tools.
- `base`: scope, run and destination of the updates; `scoped`: the publisher of one scope.
- `stream_relay`: a model's answer, published while a program reads it.
"""

from lg_streaming.emitter.base import BaseEmitter, UpdatePipeline
from lg_streaming.emitter.emitter import NO_EMITTER, Emitter, current_emitter
from lg_streaming.emitter.scoped import ScopedPublisher

__all__ = ["NO_EMITTER", "BaseEmitter", "Emitter", "ScopedPublisher", "UpdatePipeline", "current_emitter"]
