"""The Vercel AI SDK's UI message stream, for `useChat` and assistant-ui.

- `routes`: `POST /api/chat` and `GET /api/chat/{id}/stream`; `response`: the response of an application's own route.
- `streams`: opens the stream of a message.
- `request`: reads a request's body; `answers`: answers to prompts in it.
- `encoder`: the encoder of one stream; `writer`: writes its message; `steps`: steps, texts and tool calls of it.
- `asking`: the form of prompts; `data`: sources, files and data parts; `chunks`: chunks as bytes.
"""

from __future__ import annotations

from lg_streaming.gateway.dialects.ai_sdk.response import MessageResponse
from lg_streaming.gateway.dialects.ai_sdk.routes import AiSdk
from lg_streaming.gateway.dialects.ai_sdk.streams import form_of

__all__ = ["AiSdk", "MessageResponse", "form_of"]
