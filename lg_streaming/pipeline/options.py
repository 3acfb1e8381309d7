"""What the options of all three decorators share."""

from __future__ import annotations

from lg_streaming.errors import OptionNotAvailableError

__all__ = ["refuse_unavailable"]


def refuse_unavailable(decorator: str, **options: object) -> None:
    """Raises for every option that is set.

    Raises:
        OptionNotAvailableError: One is not None.
    """
    for name, value in options.items():
        if value is not None:
            raise OptionNotAvailableError(
                f"{decorator}({name}=…) is not available in this version of lg_streaming: leave it out"
            )
