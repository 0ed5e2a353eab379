"""Head sampling as array work: which rows of a batch become spans.

In: columns of a batch (`Candidates`). Out: one truth value a row. Names and arguments are those of OpenTelemetry's
OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, plus `keep_errors_slow`. Must never change what metrics count.
A sampler is a function that makes one from its argument, and one line in `SAMPLERS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoinstr.errors import UsageError

DEFAULT_SAMPLER = "parentbased_always_on"
# `keep_errors_slow` without an argument: what most people call slow, and enough of the rest to compare with.
DEFAULT_SLOW = 500_000_000
DEFAULT_RATIO = 0.01

_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_W3C_SAMPLED = 1


@dataclass(slots=True)
class Candidates:
    """What a sampler may look at: columns of equal length."""

    trace_id: NDArray[np.uint8]  # (n, 16), contiguous
    has_parent: NDArray[np.bool_]
    parent_flags: NDArray[np.uint8]
    failed: NDArray[np.bool_]
    duration: NDArray[np.int64]  # ns

    def __len__(self) -> int:
        return len(self.trace_id)


class Sampler(Protocol):
    def __call__(self, rows: Candidates, /) -> NDArray[np.bool_]: ...


def always_on(rows: Candidates) -> NDArray[np.bool_]:
    return np.ones(len(rows), np.bool_)


def always_off(rows: Candidates) -> NDArray[np.bool_]:
    return np.zeros(len(rows), np.bool_)


def trace_id_ratio(ratio: float) -> Sampler:
    """A share of all traces, by the low 8 bytes of the trace id, as the SDKs for Python and Go compare them.

    Whoever has the same ratio keeps the same traces; whoever has a larger one keeps them too.
    """
    bound = round(ratio * 2**64)
    if bound == 0:
        return always_off
    if bound == 2**64:
        return always_on
    limit = np.uint64(bound)

    def sample(rows: Candidates) -> NDArray[np.bool_]:
        low: NDArray[np.uint64] = rows.trace_id.view(">u8")[:, 1].astype(np.uint64)
        return low < limit

    return sample


def parent_based(root: Sampler) -> Sampler:
    """As the caller decided; `root` decides for requests that came without a traceparent."""

    def sample(rows: Candidates) -> NDArray[np.bool_]:
        chosen = (rows.parent_flags & _W3C_SAMPLED).astype(np.bool_)
        return chosen if rows.has_parent.all() else np.where(rows.has_parent, chosen, root(rows))

    return sample


def keep_errors_slow(slow: int, ratio: float) -> Sampler:
    """All failed requests, all that took longer than `slow` nanoseconds, a ratio of the rest.

    The caller's sampled flag does not count here: behind a gateway that samples everything there would be no rest. The
    rest is chosen by trace id, so that services with the same ratio keep the same traces whole.
    """
    rest = trace_id_ratio(ratio)

    def sample(rows: Candidates) -> NDArray[np.bool_]:
        return rows.failed | (rows.duration > slow) | rest(rows)

    return sample


def read_ratio(text: str) -> float:
    """A number from 0 to 1."""
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise UsageError(f"{text!r} is not a ratio: a number from 0 to 1, such as 0.01")
    return ratio


def read_duration(text: str) -> int:
    """`500ms`, `1.5s`: nanoseconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m)", text, re.ASCII)
    if not found:
        raise UsageError(f"{text!r} is not a duration: a number with one of the units {', '.join(_NANOSECONDS)}")
    return round(float(found[1]) * _NANOSECONDS[found[2]])


def _without_argument(sampler: Sampler) -> Callable[[str], Sampler]:
    # The specification lets each sampler define its argument, and these define none: a leftover one does no harm.
    return lambda _argument: sampler


def _make_ratio(argument: str) -> Sampler:
    return trace_id_ratio(read_ratio(argument) if argument else 1.0)


def _make_keep_errors_slow(argument: str) -> Sampler:
    slow, ratio = DEFAULT_SLOW, DEFAULT_RATIO
    for part in filter(None, (part.strip() for part in argument.split(","))):
        key, _, value = part.partition("=")
        match key.strip():
            case "slow":
                slow = read_duration(value.strip())
            case "ratio":
                ratio = read_ratio(value.strip())
            case _:
                raise UsageError(f"{part!r} is not known: write slow=500ms,ratio=0.01")
    return keep_errors_slow(slow, ratio)


# Name -> how to make it of its argument.
SAMPLERS: dict[str, Callable[[str], Sampler]] = {
    "always_on": _without_argument(always_on),
    "always_off": _without_argument(always_off),
    "traceidratio": _make_ratio,
    "parentbased_always_on": _without_argument(parent_based(always_on)),
    "parentbased_always_off": _without_argument(parent_based(always_off)),
    "parentbased_traceidratio": lambda argument: parent_based(_make_ratio(argument)),
    "keep_errors_slow": _make_keep_errors_slow,
}


def make_sampler(name: str = DEFAULT_SAMPLER, argument: str = "") -> Sampler:
    """The sampler of that name. UsageError: no such sampler, or an argument it can't use."""
    make = SAMPLERS.get(name.strip().lower())
    if make is None:
        raise UsageError(f"sampler {name!r} is not known; known are {', '.join(SAMPLERS)}")
    try:
        return make(argument.strip())
    except UsageError as error:
        raise UsageError(f"argument of sampler {name}: {error}") from None
