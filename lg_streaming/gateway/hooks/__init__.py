"""Private parts of other libraries that the gateway relies on. Imports no other folder of the gateway.

- `engineio`: python-socketio and python-engineio, within a tested range of versions.
- `server`: uvicorn's transports and its shutdown, and the parser of websockets.
- `listeners` and `front_door`: addresses and limits of the running uvicorn server.
- `siblings`: signs of a server with several processes.
- `shutdown_hooks`: the public interface for a server that supports this library.

`lg_streaming.serving` is a server made of subclasses of uvicorn's protocols, and not part of this folder.
"""
