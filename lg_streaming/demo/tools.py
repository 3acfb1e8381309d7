"""The researchers' two tools: a search in the built-in library and a calculator. Neither needs a network."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable

from langchain_core.tools import BaseTool, ToolException, tool

from lg_streaming.demo.corpus import search

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: float.__add__,
    ast.Sub: float.__sub__,
    ast.Mult: float.__mul__,
    ast.Div: float.__truediv__,
}
NOTHING_FOUND = "The library holds nothing on this."


def demo_tools(*, pause: float) -> list[BaseTool]:
    """Return the tools. Each call takes `pause` seconds, so that a reader can see the tool run."""

    @tool
    async def search_library(query: str) -> str:
        """Look up passages in the library by a few words."""
        await asyncio.sleep(pause)
        found = search(query)
        return "\n\n".join(f"{passage.title}: {passage.text}" for passage in found) or NOTHING_FOUND

    @tool
    async def calculate(expression: str) -> str:
        """Work out a sum of numbers with + - * / and brackets, such as (3 + 4) / 2."""
        await asyncio.sleep(pause / 2)
        return f"{evaluate(expression):g}"

    return [search_library, calculate]


def evaluate(expression: str) -> float:
    """Evaluate an expression of numbers with ``+ - * /`` and brackets.

    Raises:
        ToolException: If `expression` is something else, or divides by zero.
    """
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ToolException(f"cannot work out {expression!r}: use numbers, + - * / and brackets") from error
    except ArithmeticError as error:
        raise ToolException(f"cannot work out {expression!r}: {error}") from error


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case _:
            raise ValueError(ast.dump(node))
