"""Loads the kernel side and attaches it.

In:  limits (`Limits`). Out: file descriptors of maps and probes (`Attached`), which stay alive with them.
`source.py` is the text and its macros, `compiler.py` makes an `Image` of it (in processes of their own, for bcc and
LLVM take 100 MB), `cache.py` keeps it, `loader.py` brings it into the kernel. `functions.py` sees to the probes on
functions of libraries.
"""

from autoinstr.attach.attach import attach, rehearse
from autoinstr.attach.functions import Functions
from autoinstr.attach.limits import Limits
from autoinstr.attach.loader import Attached

__all__ = ["Attached", "Functions", "Limits", "attach", "rehearse"]
