"""The options of ``@stream_token``: what they may be, and what holds where they are left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self, cast

from pydantic import ValidationError

from lg_streaming.checks import count, refused_option
from lg_streaming.errors import TokenStreamingError
from lg_streaming.settings import TokenDefaults

if TYPE_CHECKING:
    from lg_streaming.settings import TokenFormat

__all__ = ["TokenFilter", "TokenOptions", "TokenProcessor"]

TokenProcessor = Callable[[str, Mapping[str, Any]], str]
"""``processor(token, metadata) -> token``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFilter:
    """Which tokens pass: those that meet all conditions. What is rejected is counted and not delivered.

    Raises:
        TokenStreamingError: A value cannot be used.
    """

    min_length: int = 0
    """Least length, in characters."""
    max_length: int | None = None
    """Greatest length, in characters; None for any."""
    exclude_whitespace: bool = False
    """Whether tokens of nothing but white space are rejected. The joined text then lacks them."""
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
    def of(cls, value: TokenFilter | Mapping[str, Any]) -> TokenFilter:
        """``value`` as a filter: itself, or a mapping with the fields' names.

        Raises:
            TokenStreamingError: It is neither, or has a name or a value that cannot be used.
        """
        if isinstance(value, TokenFilter):
            return value
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenStreamingError(f"filter is a TokenFilter or a mapping, not {type(value).__name__}")
        if unknown := sorted(str(key) for key in value if key not in _CONDITIONS):
            raise TokenStreamingError(f"filter has no {', '.join(unknown)}: it has {', '.join(_CONDITIONS)}")
        return cls(**value)

    def passes(self, token: str) -> bool:
        """Whether a token passes."""
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
class TokenOptions:
    """What ``@stream_token`` was given; None for what was left out. Make it with `of`."""

    switch: bool | None = None
    """``enabled``, where it was given."""
    buffer_size: int | None = None
    batch_size: int | None = None
    flush_interval: float | None = None
    format: TokenFormat | None = None
    include_metadata: bool | None = None
    first_token_immediately: bool | None = None
    processor: TokenProcessor | None = None
    filter: TokenFilter | None = None

    @classmethod
    def of(
        cls,
        *,
        processor: TokenProcessor | None = None,
        filter: TokenFilter | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """The options as the decorator takes them, checked.

        Raises:
            TokenStreamingError: An option is not known, or its value cannot be used.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            TokenDefaults.model_validate(given, strict=True)
        except ValidationError as error:
            raise TokenStreamingError(_told(error)) from error
        if processor is not None and not callable(processor):
            raise TokenStreamingError("processor is a function of a token and its metadata: processor(token, metadata)")
        switch = given.pop("enabled", None)
        chosen = TokenFilter.of(filter) if filter is not None else None
        return cls(switch=switch, processor=processor, filter=chosen, **given)

    @property
    def enabled(self) -> bool:
        """Whether the decorator leaves it on; the module's defaults may still say no."""
        return self.switch is not False

    def over(self, defaults: TokenDefaults) -> TokenDefaults:
        """What holds: these options, and ``defaults`` where they were left out."""
        given = {name: value for name in _PLAIN if (value := getattr(self, name)) is not None}
        if self.switch is not None:
            given["enabled"] = self.switch
        return defaults.model_copy(update=given) if given else defaults


_PLAIN: Final = tuple(name for name in TokenDefaults.model_fields if name != "enabled")


def _told(error: ValidationError) -> str:
    """A validation error in one line, for who wrote the decorator."""
    known = ", ".join(TokenDefaults.model_fields)
    told: list[str] = []
    for each in error.errors():
        name = ".".join(str(part) for part in each["loc"])
        if each["type"] == "extra_forbidden":
            told.append(f"stream_token: there is no option {name!r}: there are {known}, processor, filter")
        else:
            told.append(refused_option("stream_token", name, each))
    return "; ".join(told)
