"""Loads the kernel side and attaches it.

In:  limits (`Limits`). Out: file descriptors of maps and probes (`Attached`), which stay alive with them.
bcc and LLVM live in a child process that exits when it has handed the descriptors over (`prober.py`).
"""

from autoinstr.attach.handover import Attached, attach
from autoinstr.attach.limits import Limits

__all__ = ["Attached", "Limits", "attach"]
