"""Schemas of a graph: check and convert what a caller on the network sends for it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import typing_extensions
from langchain_core.messages import BaseMessage, convert_to_messages
from langgraph.channels.base import BaseChannel
from pydantic import BaseModel, TypeAdapter, ValidationError

from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from lg_streaming.runs.registry import AnyGraph

__all__ = ["GraphSchemas"]

_RESERVED_KEYS: Final = frozenset({"thread_id", "execution_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map"})
_QUALIFIERS: Final = frozenset(
    {
        typing.Required,
        typing.NotRequired,
        typing_extensions.Required,
        typing_extensions.NotRequired,
        typing_extensions.ReadOnly,
    }
)
_UNIONS: Final = frozenset({typing.Union, types.UnionType})
_MESSAGES_SCHEMA: Final[Mapping[str, Any]] = {
    "description": "LangChain messages, such as {role, content} or {type, content}.",
    "type": "array",
    "items": {"type": "object"},
}
_MOST_ERRORS: Final = 20
_SHOWN_ERRORS: Final = 5
_LONGEST_MESSAGE: Final = 200


class GraphSchemas:
    """Types of a graph's input and context, as pydantic validators.

    Values are checked as JSON, without guesses: ``"5"`` is no number. They are converted to the declared types, so that
    a field of the type ``datetime`` takes a text in ISO format.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: AnyGraph) -> None:
        self.graph = graph
        self._input = _input_type(graph)
        context = cast("object", graph.context_schema)
        self._context = _Type(context, by_field=True) if context is not None else None
        specs = cast("Sequence[Any]", graph.config_specs)
        self._configurable: dict[str, _Type] = {str(each.id): _Type(each.annotation) for each in specs}
        self._configurable |= self._context.fields if self._context is not None and self._context.fields else {}

    def check_input(self, value: object) -> Any:
        """Return an input, converted to the declared types. A state may be given in part.

        Raises:
            BadRequestError: If it does not fit. The message names the fields.
        """
        return self._input.check(value, "input", partial=True)

    def check_context(self, value: object) -> Any:
        """Return a context, converted to the type of the graph's ``context_schema``.

        Raises:
            BadRequestError: If it does not fit, or the graph has no context.
        """
        if self._context is None:
            raise BadRequestError("context: this graph has no context_schema")
        return self._context.check(value, "context")

    def check_configurable(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Return ``configurable`` values: only those that the graph declares, in its context or its config.

        Raises:
            BadRequestError: If a key is not declared, or reserved, or its value does not fit.
        """
        checked: dict[str, Any] = {}
        for name, value in values.items():
            declared = self._configurable.get(name)
            if declared is None or name in _RESERVED_KEYS or name.startswith("__"):
                raise BadRequestError(f"config.configurable.{name:.80}: this graph declares no such key")
            checked[name] = declared.check(value, f"config.configurable.{name}")
        return checked

    def describe(self) -> dict[str, Any]:
        """Return the JSON schemas of input and context; null for an absent one."""
        context = self._context.json_schema() if self._context is not None else None
        required = sorted(_needed_fields(self.graph.context_schema))
        return {
            "input_schema": self._input.json_schema(),
            "context_schema": {**context, "required": required} if context and required else context,
        }


class _Type:
    """A declared type. A type that pydantic cannot describe accepts every value: the graph checks it itself.

    Args:
        declared: The type.
        fields: The types of its fields; by default those of a TypedDict, a dataclass or a pydantic model.
        by_field: Whether each field has a validator, because a state may be given in part.
    """

    def __init__(self, declared: Any, *, fields: Mapping[str, Any] | None = None, by_field: bool = False) -> None:
        self._declared = declared = _unqualified(declared)
        self._messages: bool = _is_list_of_messages(declared)
        self._adapter = None if self._messages else _adapter(declared)
        if fields is None and by_field:
            fields = _fields_of(declared)
        self.fields: dict[str, _Type] | None = (
            {name: _Type(each) for name, each in fields.items()} if fields is not None else None
        )
        """Types of the fields; None for a type that is checked as a whole."""

    def check(self, value: object, name: str, *, partial: bool = False) -> Any:
        """Return the value, converted. ``partial``: required fields may be missing.

        Raises:
            BadRequestError: If it does not fit.
        """
        if self._messages:
            return _messages(value, name)
        if self.fields is None:
            return self._convert(value, name)
        converted = self._check_fields(value, name, self.fields)
        if partial:
            return converted
        if _is_object(self._declared):
            return self._convert(value, name)
        if missing := sorted(_required_fields(self._declared) - converted.keys()):
            raise BadRequestError(f"{name}.{missing[0]}: this field is required")
        return converted

    def _check_fields(self, value: object, name: str, fields: Mapping[str, _Type]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise BadRequestError(f"{name}: a JSON object is needed, with some of the fields {_names(fields)}")
        given = cast("dict[str, object]", value)
        unknown = [each for each in given if each not in fields]
        if unknown:
            raise BadRequestError(f"{name}.{unknown[0]:.80}: there is no such field; there are {_names(fields)}")
        return {each: fields[each].check(content, f"{name}.{each}") for each, content in given.items()}

    def _convert(self, value: object, name: str) -> Any:
        if self._adapter is None:
            return value
        try:
            return self._adapter.validate_json(orjson.dumps(value), strict=True)
        except ValidationError as error:
            raise _refusal(name, error) from None
        except Exception as error:  # noqa: BLE001 (a validator of the application may raise anything)
            raise BadRequestError(f"{name}: {_short(error)}") from None

    def json_schema(self) -> dict[str, Any] | None:
        """Return the JSON schema; None for a type without one."""
        if self._messages:
            return dict(_MESSAGES_SCHEMA)
        if self.fields is not None:
            properties = {name: each.json_schema() or {} for name, each in self.fields.items()}
            return {"type": "object", "properties": properties, "additionalProperties": False}
        try:
            return self._adapter.json_schema() if self._adapter is not None else None
        except Exception:  # noqa: BLE001 (a type without a JSON form)
            return None


def _input_type(graph: AnyGraph) -> _Type:
    if isinstance(graph.input_channels, str):
        return _Type(graph.InputType, by_field=True)
    channels = cast("Mapping[str, object]", graph.channels)
    found = {name: channels[name] for name in graph.input_channels}
    return _Type(dict, fields={name: each.UpdateType for name, each in found.items() if isinstance(each, BaseChannel)})


def _is_object(declared: Any) -> bool:
    """Return whether the type is a class whose objects pydantic makes: a dataclass or a pydantic model."""
    return inspect.isclass(declared) and (issubclass(declared, BaseModel) or dataclasses.is_dataclass(declared))


def _fields_of(declared: Any) -> dict[str, Any] | None:
    """Return the fields of a TypedDict, a dataclass or a pydantic model; None for other classes."""
    if not (_is_object(declared) or typing_extensions.is_typeddict(declared)):
        return None
    try:
        hints = typing_extensions.get_type_hints(declared, include_extras=True)
    except Exception:  # noqa: BLE001 (names that cannot be resolved)
        return None
    if typing_extensions.is_typeddict(declared):
        return hints
    names: list[str] = (
        list(declared.model_fields)
        if issubclass(declared, BaseModel)
        else [each.name for each in dataclasses.fields(declared) if each.init]
    )
    return {name: hints.get(name, Any) for name in names}


def _required_fields(declared: Any) -> set[str]:
    """Return the required fields of a TypedDict. ``__required_keys__`` misses ``Required`` in text annotations."""
    hints = typing_extensions.get_type_hints(declared, include_extras=True)
    marks = {name: typing.get_origin(each) for name, each in hints.items()}
    known: frozenset[str] = declared.__required_keys__
    optional = {typing.NotRequired, typing_extensions.NotRequired}
    required = {typing.Required, typing_extensions.Required}
    return {name for name, mark in marks.items() if mark in required or (name in known and mark not in optional)}


def _needed_fields(declared: Any) -> set[str]:
    """Return the fields of a context that have to be given."""
    if inspect.isclass(declared) and issubclass(declared, BaseModel):
        return {name for name, field in declared.model_fields.items() if field.is_required()}
    if dataclasses.is_dataclass(declared):
        found = cast("Sequence[dataclasses.Field[object]]", dataclasses.fields(declared))
        missing = dataclasses.MISSING
        return {each.name for each in found if each.init and each.default is missing is each.default_factory}
    return _required_fields(declared) if typing_extensions.is_typeddict(declared) else set()


def _adapter(declared: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(declared)
    except Exception:  # noqa: BLE001 (pydantic cannot describe every type)
        return None


def _unqualified(declared: Any) -> Any:
    while typing.get_origin(declared) in _QUALIFIERS:
        declared = typing.get_args(declared)[0]
    return declared


def _is_list_of_messages(declared: Any) -> bool:
    """Return whether the type is a list of LangChain messages, possibly with a reducer."""
    if hasattr(declared, "__metadata__"):
        return _is_list_of_messages(typing.get_args(declared)[0])
    origin = typing.get_origin(declared)
    if not (inspect.isclass(origin) and issubclass(origin, Sequence)):
        return False
    return any(issubclass(each, BaseMessage) for each in _classes_in(declared))


def _classes_in(declared: Any) -> Iterator[type]:
    """Return the classes that a list holds, through unions and annotations."""
    if inspect.isclass(declared) and typing.get_origin(declared) is None:
        yield declared
        return
    arguments = typing.get_args(declared)
    for each in arguments[:1] if hasattr(declared, "__metadata__") else arguments:
        yield from _classes_in(each)


def _messages(value: object, name: str) -> list[BaseMessage]:
    given: Any = cast("object", value) if isinstance(value, list) else [value]
    try:
        return convert_to_messages(given)
    except Exception as error:  # noqa: BLE001 (of several types, by the kind of message)
        raise BadRequestError(f"{name}: these are no messages: {_short(error)}") from None


def _refusal(name: str, error: ValidationError) -> BadRequestError:
    found = [
        {"field": ".".join([name, *(str(part) for part in each["loc"])]), "message": each["msg"][:_LONGEST_MESSAGE]}
        for each in error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_ERRORS]
    ]
    text = "; ".join(f"{each['field']}: {each['message']}" for each in found[:_SHOWN_ERRORS])
    return BadRequestError(text, details={"errors": found})


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:_LONGEST_MESSAGE] or type(error).__name__


def _names(fields: Mapping[str, object]) -> str:
    return ", ".join(sorted(fields)[:20])
