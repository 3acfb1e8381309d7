"""Check of values against JSON Schemas, and of what the texts name."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from lg_streaming.prompts import schema_errors

CASES: list[tuple[dict[str, Any], Any, str]] = [
    ({"type": "string"}, 1, "the answer is a text, not 1"),
    ({"type": "integer"}, True, "the answer is a whole number, not True"),
    ({"type": "integer"}, 1.5, "the answer is a whole number, not 1.5"),
    ({"type": ["string", "null"]}, 1, "the answer is a text or null, not 1"),
    ({"const": True}, 1, "the answer is True, not 1"),
    ({"enum": ["a", "b"]}, "c", "the answer is one of 'a', 'b', not 'c'"),
    ({"minimum": 2}, 1, "the answer is at least 2"),
    ({"exclusiveMaximum": 2}, 2, "the answer is below 2"),
    ({"multipleOf": 0.1}, 0.35, "the answer is a multiple of 0.1"),
    ({"type": "string", "minLength": 2}, "a", "the answer has at least 2 characters"),
    ({"type": "array", "maxItems": 1}, [1, 2], "the answer has at most 1 items"),
    ({"type": "object", "minProperties": 1}, {}, "the answer has at least 1 fields"),
    ({"type": "string", "pattern": "^a+$"}, "b", "the answer matches '^a+$'"),
    ({"type": "object", "required": ["a"]}, {}, "the answer.a is missing"),
    ({"type": "object", "properties": {"a": {"type": "null"}}}, {"a": 1}, "the answer.a is null, not 1"),
    ({"type": "object", "additionalProperties": False}, {"a": 1}, "the answer.a is unknown"),
    ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, "the answer.a is a whole number, not 'b'"),
    ({"items": {"type": "integer"}}, [1, "b"], "the answer[1] is a whole number, not 'b'"),
    ({"prefixItems": [{"type": "integer"}], "items": False}, [1, 2], "the answer[1] is not allowed"),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, 3, "the answer is at most 2"),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "the answer fits no alternative"),
    ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 3, "the answer fits several alternatives"),
    ({"not": {"type": "string"}}, "a", "the answer is not allowed"),
    ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}}, "a", "the answer is a whole number, not 'a'"),
]


@pytest.mark.parametrize(("schema", "value", "text"), CASES)
def test_what_does_not_fit_is_named(schema: dict[str, Any], value: Any, text: str) -> None:
    assert schema_errors(schema, value)[0].startswith(text)


class Color(Enum):
    RED = "red"


class Part(BaseModel):
    name: str = Field(min_length=1)
    color: Color | None = None


class Order(BaseModel):
    parts: list[Part] = Field(max_length=2)
    kind: Literal["a", "b"] = "a"
    price: float | None = None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.sampled_from(["a", "", "red"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["parts", "kind", "price", "name", "color"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_it_agrees_with_pydantic(value: Any) -> None:
    """Values that fit are accepted by the model."""
    fits = not schema_errors(Order.model_json_schema(), value)
    model: TypeAdapter[Order] = TypeAdapter(Order)
    try:
        model.validate_python(value)
        accepted = True
    except ValidationError:
        accepted = False
    assert not fits or accepted


@given(st.builds(Order, parts=st.lists(st.builds(Part, name=st.text(min_size=1, max_size=3)), max_size=2)))
def test_what_a_model_makes_fits_its_schema(order: Order) -> None:
    assert schema_errors(Order.model_json_schema(), order.model_dump(mode="json")) == []


ODD: list[Any] = [{"$ref": "#"}, {"$ref": "#/no"}, {"$ref": "http://x"}, {"pattern": "("}, {"type": "other"}, {}]


@pytest.mark.parametrize("schema", ODD)
def test_odd_schemas_refuse_nothing(schema: Any) -> None:
    assert schema_errors(schema, "a") == []


NUMBERS: list[tuple[dict[str, Any], Any, bool]] = [
    ({"type": "integer"}, 10**400, True),
    ({"type": "integer"}, float("inf"), False),
    ({"type": "integer"}, float("nan"), False),
    ({"type": "integer"}, 2.0, True),
    ({"multipleOf": 3}, 3 * 10**400, True),
    ({"multipleOf": 0.5}, float("inf"), False),
    ({"multipleOf": 0.5}, 10**400, False),
    ({"multipleOf": 0}, 1, True),
    ({"maximum": 5}, 10**400, False),
]


@pytest.mark.parametrize(("schema", "value", "fits"), NUMBERS)
def test_numbers_of_any_size(schema: dict[str, Any], value: Any, fits: bool) -> None:
    assert (schema_errors(schema, value) == []) is fits


def test_a_recursive_schema_ends() -> None:
    tree = {"$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}, "$ref": "#/$defs/T"}
    value: Any = []
    for _ in range(500):
        value = [value]
    assert schema_errors(tree, value) == []
    assert schema_errors(tree, [[[1]]]) == ["the answer[0][0][0] is a list, not 1"]
