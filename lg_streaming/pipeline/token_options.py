"""The options of ``@stream_token``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self, cast

from lg_streaming.checks import count
from lg_streaming.errors import TokenStreamingError
from lg_streaming.pipeline.decorator_options import DecoratorOptions, checked_options
from lg_streaming.settings import TokenDefaults

__all__ = ["TokenFilter", "TokenOptions", "TokenProcessor"]

TokenProcessor = Callable[[str, Mapping[str, Any]], str]
"""``processor(token, metadata) -> token``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFilter:
    """Conditions for tokens. A token that does not meet all of them is counted and not delivered.

    Raises:
        TokenStreamingError: If a value cannot be used.
    """

    min_length: int = 0
    """Least length, in characters."""
    max_length: int | None = None
    """Greatest length, in characters; None for any."""
    exclude_whitespace: bool = False
    """True rejects tokens of nothing but white space. The joined text then lacks them."""
    pattern: str | re.Pattern[str] | None = None
    """A regular expression that must be found somewhere in the token (``re.search``); None for any token."""
    _search: Callable[[str], object] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        most = self.max_length
        for name, length in (("min_length", self.min_length), ("max_length", most)):
            if length is not None:
                count("characters", least=0).check(f"filter: {name}", length, TokenStreamingError)
        if most is not None and most < self.min_length:
            raise TokenStreamingError(f"filter: no token is from {self.min_length} to {most} characters long")
        if type(self.exclude_whitespace) is not bool:
            raise TokenStreamingError(
                f"filter: exclude_whitespace is True or False, not {self.exclude_whitespace!r:.80}"
            )
        if self.pattern is not None:
            object.__setattr__(self, "_search", _compiled(self.pattern).search)

    @classmethod
    def from_value(cls, value: TokenFilter | Mapping[str, Any]) -> TokenFilter:
        """Return ``value`` as a filter: itself, or made from a mapping with the fields' names.

        Raises:
            TokenStreamingError: If it is neither, or has a name or a value that cannot be used.
        """
        if isinstance(value, TokenFilter):
            return value
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenStreamingError(f"filter is a TokenFilter or a mapping, not {type(value).__name__}")
        if unknown := sorted(str(key) for key in value if key not in _CONDITIONS):
            raise TokenStreamingError(f"filter has no {', '.join(unknown)}: it has {', '.join(_CONDITIONS)}")
        return cls(**value)

    def passes(self, token: str) -> bool:
        """Return whether a token meets all conditions."""
        if len(token) < self.min_length or (self.max_length is not None and len(token) > self.max_length):
            return False
        if self.exclude_whitespace and token.isspace():
            return False
        return self._search is None or self._search(token) is not None


_CONDITIONS: Final = tuple(each.name for each in fields(TokenFilter) if each.init)


def _compiled(pattern: object) -> re.Pattern[str]:
    try:
        compiled = re.compile(cast("str", pattern))
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise TokenStreamingError(f"filter: pattern is no regular expression: {error}") from error
    if not isinstance(compiled.pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TokenStreamingError("filter: pattern is a str, not bytes: tokens are text")
    return compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions(DecoratorOptions[TokenDefaults]):
    """The options of ``@stream_token``. Make them with `from_arguments`."""

    processor: TokenProcessor | None = None
    filter: TokenFilter | None = None

    @classmethod
    def from_arguments(
        cls,
        *,
        processor: TokenProcessor | None = None,
        filter: TokenFilter | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Return the options as the decorator takes them, checked.

        Raises:
            TokenStreamingError: If an option does not exist, or its value cannot be used.
        """
        chosen = checked_options("stream_token", TokenDefaults, options, error=TokenStreamingError, strict=True)
        if processor is not None and not callable(processor):
            raise TokenStreamingError("processor is a function of a token and its metadata: processor(token, metadata)")
        conditions = TokenFilter.from_value(filter) if filter is not None else None
        return cls(chosen=chosen, processor=processor, filter=conditions)
