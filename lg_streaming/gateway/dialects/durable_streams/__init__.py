"""Read side of Durable Streams: an execution as one stream of JSON messages.

- `offsets`: the protocol's names for positions.
- `reading`: requests, and the pages and headers that answer them.
- `encoder`: the event stream.
- `routes`: the route.
"""

from lg_streaming.gateway.dialects.durable_streams.routes import DurableStreams

__all__ = ["DurableStreams"]
