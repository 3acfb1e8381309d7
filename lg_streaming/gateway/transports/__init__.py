"""Socket.IO and WebSocket: connections that carry messages both ways.

- `socketio`, `websocket`: the two transports; `base`: their interface; `packets`: Socket.IO's packets.
- `connection`: one connection of either: its session and its deliveries.
- `websocket_connection`: the WebSocket below: `inbound` bounds and `send_buffer` buffers its frames.
- `deflate`: compressed frames; `open_sockets`: the open connections, for whose ends a shutdown waits.
"""
