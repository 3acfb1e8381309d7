"""Messages of clients as messages of LangChain."""

from typing import Any

import pytest

from lg_streaming.errors import BadRequestError
from lg_streaming.gateway.dialects.ai_sdk.request import read_request, to_input


def asked(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"id": "u-1", "role": "user", "parts": list(parts)}
    return dict(read_request({"id": "c-1", "messages": [message], **more}).messages[-1])


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"mediaType": "image/png", "url": "data:image/png;base64,QUJD"},
            {"type": "image", "base64": "QUJD", "mime_type": "image/png"},
        ),
        (
            {"mediaType": "image/*", "url": "https://example.org/a.png"},
            {"type": "image", "url": "https://example.org/a.png"},
        ),
        (
            {"mediaType": "application/pdf", "url": "https://example.org/a.pdf", "filename": "a.pdf"},
            {
                "type": "file",
                "url": "https://example.org/a.pdf",
                "mime_type": "application/pdf",
                "extras": {"filename": "a.pdf"},
            },
        ),
        (
            {"mediaType": "audio/wav", "url": "data:audio/wav;base64,QUJD"},
            {"type": "audio", "base64": "QUJD", "mime_type": "audio/wav"},
        ),
    ],
)
def test_files_are_content_blocks(part: dict[str, Any], block: dict[str, Any]) -> None:
    message = asked({"type": "text", "text": "Look"}, {"type": "file", **part}, {"type": "data-note", "data": 1})
    assert to_input(message) == [{"role": "user", "id": "u-1", "content": [{"type": "text", "text": "Look"}, block]}]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "javascript:1", "data:image/png,abc", ""])
def test_other_addresses_of_files_are_refused(url: str) -> None:
    with pytest.raises(BadRequestError, match="a file"):
        to_input(asked({"type": "file", "mediaType": "image/png", "url": url}))


def test_an_edit_names_the_message_that_it_replaces() -> None:
    body: dict[str, Any] = {"id": "c-1", "messages": [{"id": "u-2", "role": "user", "parts": []}], "messageId": "u-1"}
    assert read_request(body).message_id == "u-1"
    assert read_request({**body, "messageId": None}).message_id == "u-2"
    regenerated = read_request({**body, "trigger": "regenerate-message", "messageId": "a-1"})
    assert (regenerated.kind, regenerated.message_id) == ("question", "u-2")


def test_an_answered_message_need_not_be_the_last() -> None:
    answered = {
        "id": "a-1",
        "role": "assistant",
        "parts": [{"type": "tool-x", "toolCallId": "c", "state": "output-available", "output": 1}],
    }
    body: dict[str, Any] = {
        "id": "c-1",
        "messages": [answered, {"id": "u-2", "role": "user", "parts": []}],
        "messageId": "a-1",
    }
    found = read_request(body)
    assert (found.kind, found.message_id, found.answers[0].output) == ("answers", "a-1", 1)
