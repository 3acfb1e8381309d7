"""uvicorn's protocols with bounds on what a caller may do before a request is complete.

`python -m lg_streaming serve` uses them; ``uvicorn app:app --http lg_streaming.serving:HTTPProtocol --ws
lg_streaming.serving:WebSocketProtocol`` does too.
"""

from lg_streaming.serving.http import HTTPProtocol
from lg_streaming.serving.websocket import WebSocketProtocol

__all__ = ["HTTPProtocol", "WebSocketProtocol"]
