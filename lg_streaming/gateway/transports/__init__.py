"""Socket.IO and WebSocket: connections that carry messages both ways."""
