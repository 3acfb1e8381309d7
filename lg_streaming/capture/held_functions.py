"""Replace the function inside an object that holds one: the copy has the same class.

Such objects are ``staticmethod``, ``classmethod`` and ``functools.partialmethod`` objects, LangGraph's ``@task``
objects and LangChain's tools.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, Final

from langchain_core.tools import BaseTool, StructuredTool, Tool
from langgraph.func import task

__all__ = ["Change", "get_held_function", "replace_held_function"]

Change = Callable[[Any, str | None], Any]
"""Function ``change(function, name) -> function``. ``name`` is that of the holder, if it has one."""

_CHANGES: Final = "__lg_streaming_changes__"
_RUN: Final = "_run"
_ARUN: Final = "_arun"
"""Method that a class of tools defines, as ``_run`` is; LangChain documents both."""


@task
def _task() -> None:
    """Show the class of tasks, which LangGraph does not export."""


_Task: Final[type] = type(_task)


def get_held_function(target: object) -> object | None:
    """Return the function that ``target`` holds; None if it is no holder."""
    found: Any = target
    match target:
        case staticmethod() | classmethod():
            return found.__func__
        case functools.partialmethod():
            return found.func
        case BaseTool():
            return _held_by_tool(target)
        case _:
            return found.func if isinstance(target, _Task) else None


def replace_held_function(target: object, change: Change) -> Any | None:
    """Return a copy of ``target`` that holds ``change`` of its functions; None if it is no holder."""
    found: Any = target
    match target:
        case staticmethod() | classmethod():
            return type(found)(change(found.__func__, None))
        case functools.partialmethod():
            return functools.partialmethod(change(found.func, None), *found.args, **found.keywords)
        case BaseTool():
            return _change_tool(target, change)
        case _:
            return _change_task(found, change) if isinstance(target, _Task) else None


def _change_task(original: Any, change: Change) -> Any:
    changed = copy.copy(original)
    changed.func = change(original.func, getattr(original, "__name__", None))
    return functools.update_wrapper(changed, changed.func)


def _tool_functions(tool: BaseTool) -> dict[str, Any]:
    """Return the functions that a tool was made of, by field; empty for a tool class that defines its own code."""
    if not isinstance(tool, (StructuredTool, Tool)) or any(
        getattr(type(tool), name) not in (getattr(StructuredTool, name), getattr(Tool, name)) for name in (_RUN, _ARUN)
    ):
        return {}
    functions: dict[str, Any] = {"coroutine": tool.coroutine, "func": tool.func}
    return {field: function for field, function in functions.items() if function is not None}


def _original_class(tool: BaseTool) -> Any:
    kind = type(tool)
    return kind.__mro__[1] if _CHANGES in vars(kind) else kind


def _held_by_tool(tool: BaseTool) -> object:
    functions = _tool_functions(tool)
    if functions:
        return next(iter(functions.values()))
    return _changed(getattr(_original_class(tool), _RUN), tool.name, vars(type(tool)).get(_CHANGES, ()))


def _change_tool(tool: BaseTool, change: Change) -> BaseTool:
    functions = _tool_functions(tool)
    if functions:
        return tool.model_copy(update={field: change(each, tool.name) for field, each in functions.items()})
    original = _original_class(tool)
    changes = (*vars(type(tool)).get(_CHANGES, ()), change)
    # A class that defines no `_arun` runs `_run` in a thread, and `_run` is wrapped.
    names = (_RUN,) if getattr(original, _ARUN) is getattr(BaseTool, _ARUN) else (_RUN, _ARUN)
    members: dict[str, Any] = {name: _method(getattr(original, name), tool.name, changes) for name in names}
    members |= {"__module__": original.__module__, "__qualname__": original.__qualname__, _CHANGES: changes}
    changed = tool.model_copy()
    object.__setattr__(changed, "__class__", type(original)(original.__name__, (original,), members))
    return changed


def _method(run: Any, name: str, changes: tuple[Change, ...]) -> Any:
    """Return a tool's method with the changes applied to the bound method, which does not take the tool itself."""

    @functools.wraps(run)
    def method(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        return _changed(functools.partial(run, self), name, changes)(*args, **kwargs)

    return method


def _changed(function: Any, name: str, changes: tuple[Change, ...]) -> Any:
    for change in changes:
        function = change(function, name)
    return function
