"""Exit codes of the commands that are clients of a server, and the errors that end them."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from lg_streaming.cli.output import prepare_output
from lg_streaming.errors import (
    BadRequestError,
    LimitError,
    MissingExtraError,
    PromptError,
    ServerRestartError,
    StreamingError,
    TokenExpiredError,
    UnauthorizedError,
    WebSocketError,
)
from lg_streaming.folding.prompt_view import as_list

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

__all__ = [
    "EXIT_CANCELLED",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_REFUSED",
    "EXIT_UNREACHABLE",
    "EXIT_USAGE",
    "EXIT_WAITS",
    "CommandError",
    "UsageError",
    "command_error",
    "run_command",
]

EXIT_FAILED: Final = 1
"""The run failed or was abandoned, or the command had nothing to do."""
EXIT_USAGE: Final = 2
"""An argument cannot be used."""
EXIT_WAITS: Final = 3
"""The run waits for a human."""
EXIT_CANCELLED: Final = 4
"""The run was cancelled."""
EXIT_UNREACHABLE: Final = 5
"""The server cannot be reached, or cannot serve at present."""
EXIT_REFUSED: Final = 6
"""The server refused the request."""
EXIT_INTERRUPTED: Final = 130
"""Ctrl-C ended the command."""

_SERVER_ERRORS: Final = 5000
_LOGIN: Final = "pass --token-file FILE, or set LG_STREAMING_TOKEN"


class CommandError(Exception):
    """Failure of a command; the message has the reason and the remedy.

    Args:
        message: The message.
        exit_code: Exit code of the command.
    """

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UsageError(CommandError):
    """Argument that cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=EXIT_USAGE)


def command_error(error: StreamingError) -> CommandError:
    """Return an error of a client or a server as the error of a command."""
    message = error.message
    if isinstance(error, MissingExtraError):
        return CommandError(message)
    if isinstance(error, TokenExpiredError):
        message = f"{message}: a token file is read again for each connection"
    elif isinstance(error, UnauthorizedError):
        message = f"{message}: {_LOGIN}"
    elif isinstance(error, (BadRequestError, PromptError)):
        allowed = as_list(error.details.get("allowed"))
        message = f"{message}: {', '.join(map(str, allowed))}" if allowed else message
    elif error.execution_id is not None and error.execution_id not in message:
        message = f"{error.execution_id}: {message}"
    is_unreachable = isinstance(error, (WebSocketError, ServerRestartError, LimitError)) or error.code > _SERVER_ERRORS
    return CommandError(message, exit_code=EXIT_UNREACHABLE if is_unreachable else EXIT_REFUSED)


def run_command(command: Coroutine[Any, Any, int]) -> int:
    """Run a command to its end, and return its exit code.

    A closed pipe ends the command without a message: the reader, such as ``head``, has read enough. Characters that
    the output's encoding lacks are escaped.

    Raises:
        CommandError: If the command fails, or its output cannot be written.
        KeyboardInterrupt: If Ctrl-C ends it.
    """
    prepare_output()
    try:
        return asyncio.run(command)
    except StreamingError as error:
        raise command_error(error) from error
    except BrokenPipeError:
        sys.stdout = None  # nothing more can be written, not even at exit
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        sys.stdout = None
        raise CommandError(f"the output cannot be written: {error.strerror or error}") from error
