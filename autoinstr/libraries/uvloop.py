"""uvloop: which execution context (PEP 567) it enters with what it has read, since it reads outside of all.

The function is its own, around CPython's, and exported.
"""

from autoinstr.libraries.base import HAS_UVLOOP, Function, Library

UVLOOP = Library(
    name="uvloop",
    functions=(Function("Context_Enter", "python_enters"),),
    flag=HAS_UVLOOP,
    group="tasks",
    hits=1,
    per="task or callback that is run",
)
