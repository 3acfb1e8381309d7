"""Ids of executions and rooms, and the metadata of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from lg_streaming.errors import BadRequestError

__all__ = ["ROOM_PREFIX", "check_execution_id", "room_execution", "run_metadata"]

_EXECUTION_ID_LENGTH: Final = 256

ROOM_PREFIX: Final = "room:"
"""Prefix of the execution ids of the gateway's rooms."""


def check_execution_id(value: object) -> str:
    """Return ``value`` if it is a valid execution id.

    An id has 1 to 256 printable characters without spaces, and is neither `.` nor `..`.

    Raises:
        BadRequestError: If ``value`` is no such id.
    """
    if not isinstance(value, str):
        raise BadRequestError(f"an execution id is a string, not {type(value).__name__}")
    if not value:
        raise BadRequestError("the execution id is required and may not be empty")
    if len(value) > _EXECUTION_ID_LENGTH:
        raise BadRequestError(f"an execution id has at most {_EXECUTION_ID_LENGTH} characters, this one {len(value)}")
    if not value.isprintable() or " " in value:
        raise BadRequestError(f"an execution id holds printable characters only, and no spaces, not {value!r:.80}")
    if value in {".", ".."}:
        raise BadRequestError("an execution id that is '.' or '..' would lead elsewhere in an address")
    return value


def room_execution(room_id: str) -> str:
    """Return the id of the execution that a room is.

    Raises:
        BadRequestError: If the id cannot name a room: 1 to 251 printable characters without spaces.
    """
    check_execution_id(room_id)
    return check_execution_id(ROOM_PREFIX + room_id)


def run_metadata(value: object) -> dict[str, Any]:
    """Return a copy of the metadata of a new run; empty for None.

    Raises:
        BadRequestError: If it is no mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRequestError(f"metadata is a mapping, such as {{'topic': 'rain'}}, not {value!r:.80}")
    return dict(cast("Mapping[str, Any]", value))
