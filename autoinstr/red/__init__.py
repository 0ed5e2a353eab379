"""RED metrics (rate, errors, duration) and sizes of requests, as arrays: one row a series."""

from autoinstr.red.red import Reader, Red

__all__ = ["Reader", "Red"]
