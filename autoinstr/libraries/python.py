"""Python: contexts of execution (PEP 567), of which tasks of asyncio and its callbacks have one each.

PyContext_CopyCurrent makes a new one from the current one. `_asyncio` and `_contextvars` call it by name, so it is seen
in shared interpreters and in those that are one file.
"""

from autoinstr.libraries.base import HAS_PYTHON, Function, Library

PYTHON = Library(
    name="python",
    functions=(Function("PyContext_CopyCurrent", "", "python_copied"),),
    flag=HAS_PYTHON,
    group="tasks",
    hits=2,
    per="task or callback that is made",
)
