"""Reads what the kernel side has to tell, and tells it what to watch.

In:  file descriptors of maps (`attach.Attached.maps`). Out: numpy arrays of records (`abi.EXCHANGE`, `abi.PROCESS`),
counters, and what was only counted. No bcc here, and no system call per record: rings and counters are mapped memory.
"""

from autoinstr.capture.control import Control
from autoinstr.capture.counted import Aggregate
from autoinstr.capture.names import Names
from autoinstr.capture.ring import Ring

__all__ = ["Aggregate", "Control", "Names", "Ring"]
