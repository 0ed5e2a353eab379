"""Loads the kernel side and attaches it.

In:  limits (`Limits`). Out: file descriptors of maps and probes (`Attached`), which stay alive with them.
`source.py` is the text and its macros, `compiler.py` makes an `Image` of it (in processes of their own, for bcc and
LLVM take 100 MB), `cache.py` keeps it, `loader.py` brings it into the kernel. `functions.py` sees to the probes on
functions of libraries, `plan.py` tells what there would be of them, `tally.py` measures how often probes are hit.
"""

from autoinstr.attach.attach import attach, rehearse
from autoinstr.attach.functions import Functions
from autoinstr.attach.limits import Limits
from autoinstr.attach.loader import Attached
from autoinstr.attach.plan import Hit, Planned, hit, planned
from autoinstr.attach.tally import Price, price, tally, way

__all__ = [
    "Attached",
    "Functions",
    "Hit",
    "Limits",
    "Planned",
    "Price",
    "attach",
    "hit",
    "planned",
    "price",
    "rehearse",
    "tally",
    "way",
]
