"""The notebook or terminal in which code runs. IPython is used only where the program has loaded it."""

from __future__ import annotations

import sys
from typing import Any, Protocol

__all__ = ["Output", "open_output", "present_cell", "show"]


class Output(Protocol):
    """Output of a cell that can be replaced."""

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        """Replace the output by another one: a text for each MIME type."""
        ...


def _shell() -> Any:
    ipython: Any = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _kernel() -> Any:
    """Return IPython's shell if a notebook's kernel runs it; else None."""
    shell = _shell()
    return shell if getattr(shell, "kernel", None) is not None else None


def present_cell() -> int | None:
    """Return the number of the cell that runs; None outside of a notebook."""
    shell = _kernel()
    return shell.execution_count if shell is not None else None


def show(bundle: dict[str, str]) -> None:
    """Show an output: a text for each MIME type. IPython has called."""
    sys.modules["IPython"].display.display(bundle, raw=True)


def open_output(bundle: dict[str, str]) -> Output | None:
    """Show an output in the cell that runs, and return it; None outside of a notebook."""
    if _kernel() is None:
        return None
    output: Output = sys.modules["IPython"].display.display(bundle, raw=True, display_id=True)
    return output
