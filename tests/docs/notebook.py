"""Run a file as a notebook runs its cells: `await` is allowed at the top level.

The arguments are the file, and the name that tracebacks show for it.
"""

import ast
import asyncio
import inspect
import sys
import types
from pathlib import Path


def run(program: str, shown: str) -> None:
    """Run `program` as `__main__`; tracebacks name the file `shown`."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(Path(program).read_text(encoding="utf-8"), shown, "exec", flags=flags, dont_inherit=True)
    module = types.ModuleType("__main__")
    module.__file__ = shown
    sys.modules["__main__"] = module
    sys.argv = [shown]
    sys.path[0] = ""
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(types.FunctionType(code, module.__dict__)())
    else:
        exec(code, module.__dict__)


if __name__ == "__main__":
    run(*sys.argv[1:])
