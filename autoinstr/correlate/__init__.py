"""Trace ids and head sampling: which trace a request belongs to, and whether its span is kept."""

from autoinstr.correlate.correlator import Correlator
from autoinstr.correlate.samplers import SAMPLERS, make_sampler

__all__ = ["SAMPLERS", "Correlator", "make_sampler"]
