"""Print the types of updates for TypeScript, made from the schemas of the wire: JSON Schema and OpenAPI.

    tools/update-types

The schemas have the shapes, and docstrings have the comments. The script `tools/update-types` puts the output in its
place.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final

from lg_streaming import payloads
from lg_streaming.events import StreamEventType, types
from lg_streaming.gateway.http.openapi import openapi_schema
from lg_streaming.gateway.protocol import http_models, outbound, state_models
from lg_streaming.gateway.protocol.registry import json_schema

Schema = Mapping[str, Any]

_WIDTH: Final = 118
_INDENT: Final = "  "
_HEAD: Final = """\
// The types of updates, of the other messages of the server, and of its answers. Made by tools/update-types from the
// schemas of the wire: a change belongs there.

import type { TypedUpdate, Update } from "../lg-streaming.js";
"""
_SIMPLE: Final[Mapping[str | None, str]] = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
_ANSWERS: Final = ("ExecutionInfo", "Executions", "ExecutionGraphInfo", "States")
"""Answers to HTTP requests, by the names of their models."""

_NEVER_NULL: Final = frozenset({"Metadata"})
"""Definitions whose fields are absent in place of null."""


def render() -> str:
    """Return the text of `updates.d.ts`."""
    schema = json_schema()
    definitions = {**openapi_schema()["components"]["schemas"], **schema["$defs"]}
    data: dict[str, Schema] = {name: schema["data"].get(name, {}) for name in [*StreamEventType, *schema["data"]]}
    messages: dict[str, Schema] = schema["server_to_client"]
    answers = [{"$ref": f"#/$defs/{name}"} for name in _ANSWERS]
    shapes = _reachable([*data.values(), *messages.values(), *answers], definitions)
    comments = {
        owner: fields
        for module in (payloads, outbound, http_models, state_models)
        for owner, fields in _comments(module).items()
    }
    parts = [
        _HEAD,
        *(_definition(name, shapes[name], comments) for name in sorted(shapes) if name != "Update"),
        _interface(
            "UpdateData",
            "Data of updates, by type. A program adds its types by merging of declarations.",
            ((name, _type(shape)) for name, shape in data.items()),
            {name.value: text for name, text in _members(StreamEventType).items()},
        ),
        _interface(
            "ServerMessages",
            "Messages of the server over Socket.IO and WebSocket, by name.",
            ((name, _type(shape)) for name, shape in messages.items()),
            {},
        ),
        "\n".join(f'export type {_alias(name)} = TypedUpdate<"{name}">;' for name in data) + "\n",
    ]
    return "\n".join(parts)


def _reachable(roots: Iterable[Schema], definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the definitions to which these schemas refer, and those to which the definitions refer."""
    found: dict[str, Schema] = {}
    waiting = list(roots)
    while waiting:
        for name in re.findall(r'"\$ref": "#/[$\w/]+/(\w+)"', json.dumps(waiting.pop())):
            if name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
    return found


# ---------------------------------------------------------------- shapes
def _definition(name: str, shape: Schema, comments: Mapping[str, Mapping[str, str]]) -> str:
    if "properties" not in shape:
        return f"{_comment(shape['description'])}export type {name} = {_type(shape)};\n"
    required = shape.get("required", ())
    fields = [
        (
            field if field in required else f"{field}?",
            _type(inner if name not in _NEVER_NULL else _without_null(inner)),
        )
        for field, inner in shape["properties"].items()
    ]
    if shape.get("additionalProperties") is True:
        fields.append(("[field: string]", "unknown"))
    return _interface(name, shape["description"], fields, comments.get(name, {}))


def _interface(name: str, description: str, fields: Iterable[tuple[str, str]], comments: Mapping[str, str]) -> str:
    lines = [f"{_comment(description)}export interface {name} {{"]
    for field, type_ in fields:
        bare = field.removesuffix("?")
        quoted = field if re.fullmatch(r"\w+\??|\[.*\]", field) else f'"{field}"'
        lines.append(f"{_comment(comments.get(bare, ''), _INDENT)}{_INDENT}{quoted}: {type_};")
    return "\n".join([*lines, "}\n"])


def _type(shape: Schema) -> str:
    """Return a JSON Schema as a type of TypeScript."""
    if "$ref" in shape:
        return shape["$ref"].rpartition("/")[2]
    if "anyOf" in shape:
        return " | ".join(map(_type, shape["anyOf"]))
    if literals := shape.get("enum", [shape["const"]] if "const" in shape else []):
        return " | ".join(map(json.dumps, literals))
    kind = shape.get("type")
    if kind == "array":
        return _list(_type(shape.get("items", {})))
    if kind == "object":
        values = shape.get("additionalProperties", True)
        return f"Record<string, {'unknown' if values is True else _type(values)}>"
    return _SIMPLE.get(kind, "unknown")


def _list(item: str) -> str:
    return f"({item})[]" if "|" in item else f"{item}[]"


def _without_null(shape: Schema) -> Schema:
    choices = [choice for choice in shape.get("anyOf", ()) if choice != {"type": "null"}]
    return {"anyOf": choices} if choices else shape


def _alias(type_: str) -> str:
    """Return the name of a type of updates: `ToolStartUpdate` for `tool_start`."""
    return "".join(word.capitalize() for word in re.split(r"[_:]", type_)) + "Update"


# ---------------------------------------------------------------- comments
def _comments(module: ModuleType) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of a module's classes, by class and name on the wire."""
    tree = ast.parse(inspect.getsource(module))
    return {node.name: dict(_documented(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _members(enum: type[StreamEventType]) -> dict[StreamEventType, str]:
    """Return the docstrings of the members of an enumeration."""
    (tree,) = (
        node
        for node in ast.parse(inspect.getsource(types)).body
        if isinstance(node, ast.ClassDef) and node.name == enum.__name__
    )
    return {enum[name]: text for name, text in _documented(tree)}


def _documented(owner: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node, after in zip(owner.body, owner.body[1:], strict=False):
        match node, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name.removesuffix("_"), text
            case _:
                pass


def _comment(text: str, indent: str = "") -> str:
    """Return a docstring as a comment with the end of its line; nothing for an empty one."""
    if not text:
        return ""
    paragraphs = [" ".join(each.split()) for each in text.replace("``", "`").split("\n\n")]
    line = f"{indent}/** {' '.join(paragraphs)} */"
    if len(line) <= _WIDTH:
        return f"{line}\n"
    wrapped = textwrap.wrap(" ".join(paragraphs), _WIDTH - len(indent) - 3)
    return "\n".join([f"{indent}/**", *(f"{indent} * {each}" for each in wrapped), f"{indent} */"]) + "\n"


if __name__ == "__main__":
    print(render(), end="")
