"""discover: which processes are watched, who they are, and what of them can't be seen. From /proc and kernel events."""

from autoinstr.discover.discovery import Changes, Discovery
from autoinstr.discover.process import Process
from autoinstr.discover.record import target_record
from autoinstr.selection import Selection, Selector, parse_ports

__all__ = ["Changes", "Discovery", "Process", "Selection", "Selector", "parse_ports", "target_record"]
