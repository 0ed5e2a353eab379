"""store: keeps spans and counts of the recent past in memory, in arrays, for the page and `autoinstr top`."""

from autoinstr.store.chunks import Wanted
from autoinstr.store.counts import Counted
from autoinstr.store.series import Series
from autoinstr.store.store import Store

__all__ = ["Counted", "Series", "Store", "Wanted"]
