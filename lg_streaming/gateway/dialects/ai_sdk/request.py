"""Body of a request of `useChat` or assistant-ui: the question to start a run with, or the answers to its prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from lg_streaming.errors import BadRequestError
from lg_streaming.gateway.dialects.ai_sdk.chunks import members, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Answer", "ChatRequest", "read_request", "to_input"]

Json = dict[str, Any]

_MAX_MESSAGES: Final = 10_000
_ANSWERED: Final = ("approval-responded", "output-available", "output-error", "output-denied")
_BLOCKS: Final = ("image", "audio", "video")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Decision or output for one tool call, as a client sent it."""

    call_id: str
    approval_id: str | None = None
    approved: bool | None = None
    reason: str | None = None
    has_output: bool = False
    output: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """Question or answers of a request."""

    chat_id: str | None
    """Id of the execution; None for a new one."""
    graph: str | None
    context: object
    messages: Sequence[Json]
    """The conversation up to the question, with roles and parts checked."""
    kind: Literal["question", "answers"]
    message_id: str | None
    """Of a question the message that it replaces; of answers the answered message."""
    answers: Sequence[Answer] = field(default_factory=tuple[Answer, ...])


def read_request(body: object) -> ChatRequest:
    """Read a body.

    Raises:
        BadRequestError: If it is none of a chat.
    """
    if not isinstance(body, dict):
        raise BadRequestError("the body is an object with id and messages")
    fields = cast("Json", body)
    chat_id = fields.get("id", fields.get("threadId"))
    if chat_id is not None and not isinstance(chat_id, str):
        raise BadRequestError("id is a text")
    found = fields.get("messages")
    if not isinstance(found, list) or not found or len(cast("list[Any]", found)) > _MAX_MESSAGES:
        raise BadRequestError(f"messages is a list of 1 to {_MAX_MESSAGES} messages")
    trigger, message_id = fields.get("trigger", "submit-message"), fields.get("messageId")
    if trigger not in ("submit-message", "regenerate-message"):
        raise BadRequestError(f"trigger is submit-message or regenerate-message, not {trigger!r:.80}")
    if message_id is not None and not isinstance(message_id, str):
        raise BadRequestError("messageId is a text")
    graph = fields.get("graph")
    if graph is not None and not isinstance(graph, str):
        raise BadRequestError("graph is the name of a graph")
    messages = [_message(each, number) for number, each in enumerate(cast("list[Any]", found))]
    common: Json = {"chat_id": chat_id or None, "graph": graph, "context": fields.get("context")}
    answered = None if trigger == "regenerate-message" else _answered(messages, message_id)
    if answered is not None:
        return ChatRequest(
            **common,
            messages=messages,
            kind="answers",
            message_id=text_of(answered.get("id")),
            answers=_answers(answered["parts"]),
        )
    while messages and messages[-1]["role"] != "user" and trigger == "regenerate-message":
        messages.pop()
    if not messages or messages[-1]["role"] != "user":
        raise BadRequestError("messages end with one of the user")
    last = messages[-1]
    replaced = message_id if trigger == "submit-message" else None
    return ChatRequest(**common, messages=messages, kind="question", message_id=replaced or text_of(last.get("id")))


def _message(value: object, number: int) -> Json:
    """Return a message with its parts in the form of the AI SDK."""
    fields = members(value)
    role, parts = fields.get("role"), fields.get("parts", fields.get("content"))
    if role not in ("user", "assistant", "system", "tool"):
        raise BadRequestError(f"messages[{number}].role is user, assistant or system, not {role!r:.80}")
    if isinstance(parts, str):
        parts = [{"type": "text", "text": parts}]
    if not isinstance(parts, list) or not all(isinstance(each, dict) for each in cast("list[Any]", parts)):
        raise BadRequestError(f"messages[{number}].parts is a list of objects")
    return {"id": fields.get("id"), "role": role, "parts": cast("list[Json]", parts)}


def _answered(messages: list[Json], message_id: str | None) -> Json | None:
    """Return the assistant's message that the client has answered; None if the user has written."""
    if message_id is not None:
        found = next((each for each in messages if each["id"] == message_id), None)
        if found is not None:
            return found if found["role"] == "assistant" else None
    last = messages[-1]
    return last if last["role"] in {"assistant", "tool"} else None


def _answers(parts: Sequence[Json]) -> list[Answer]:
    """Return the answers among the parts of a message. The part's tool and arguments are not read."""
    answers: list[Answer] = []
    for part in parts:
        call_id, approval = part.get("toolCallId"), members(part.get("approval"))
        if part.get("type") == "tool-result" and isinstance(call_id, str):
            value = part.get("output", part.get("result"))
            answers.append(Answer(call_id=call_id, has_output=True, output=_unwrapped(value)))
        elif isinstance(call_id, str) and part.get("state") in _ANSWERED:
            approved = approval.get("approved")
            answers.append(
                Answer(
                    call_id=call_id,
                    approval_id=text_of(approval.get("id")),
                    approved=approved if isinstance(approved, bool) else None,
                    reason=text_of(approval.get("reason")),
                    has_output=part.get("state") == "output-available",
                    output=part.get("output"),
                    error=str(part.get("errorText") or "failed") if part.get("state") == "output-error" else None,
                )
            )
    return answers


def _unwrapped(value: Any) -> Any:
    """Return the value of a model message's output, such as ``{"type": "json", "value": …}``."""
    fields = members(value)
    return fields["value"] if fields.keys() == {"type", "value"} else value


# ---------------------------------------------------------------- what the graph gets
def to_input(message: Json) -> list[Json]:
    """Return a message as LangChain's messages: one, and for tool results in it one each.

    Raises:
        BadRequestError: If a file has no address that a model could read.
    """
    message_id = text_of(message.get("id"))
    known: Json = {} if message_id is None else {"id": message_id}
    role, parts = message["role"], cast("list[Json]", message["parts"])
    if role == "user":
        blocks = [block for part in parts if (block := _block(part)) is not None]
        texts = [each["text"] for each in blocks if each["type"] == "text"]
        plain = len(texts) == len(blocks)
        return [{"role": "user", "content": "\n".join(texts) if plain else blocks, **known}]
    text = "".join(str(each.get("text", "")) for each in parts if each.get("type") == "text")
    return [{"role": "assistant", "content": text, **known}] if role == "assistant" and text else []


def _block(part: Json) -> Json | None:
    match part.get("type"):
        case "text" if isinstance(part.get("text"), str):
            return {"type": "text", "text": part["text"]}
        case "file" | "image":
            return _file(part)
        case _:
            return None


def _file(part: Json) -> Json:
    media_type = text_of(part.get("mediaType")) or text_of(part.get("mimeType"))
    url = next((text for name in ("url", "data", "image") if (text := text_of(part.get(name)))), None)
    if media_type is None and part.get("type") == "image":
        media_type = "image/*"
    if url is None or media_type is None or not url.startswith(("data:", "http://", "https://")):
        raise BadRequestError("a file has a mediaType, and a url that begins with https:, http: or data:")
    group = media_type.partition("/")[0]
    block: Json = {"type": group if group in _BLOCKS else "file"}
    if url.startswith("data:"):
        head, comma, content = url[5:].partition(",")
        if not comma or not head.endswith(";base64"):
            raise BadRequestError("a file in a data URL is in base64")
        block |= {"base64": content, "mime_type": head.removesuffix(";base64") or media_type}
    else:
        block |= {"url": url, **({} if media_type.endswith("/*") else {"mime_type": media_type})}
    filename = text_of(part.get("filename"))
    return block if filename is None else {**block, "extras": {"filename": filename}}
