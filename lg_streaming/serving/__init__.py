"""uvicorn's protocols with limits for callers whose request is not complete.

`python -m lg_streaming serve` uses the protocols. So does ``uvicorn app:app --http lg_streaming.serving:HTTPProtocol
--ws lg_streaming.serving:WebSocketProtocol``.
"""

from lg_streaming.serving.http import HTTPProtocol
from lg_streaming.serving.websocket import WebSocketProtocol

__all__ = ["HTTPProtocol", "WebSocketProtocol"]
