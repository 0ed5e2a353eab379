"""A cumulative snapshot in, the page that Prometheus reads out. Pure.

Names and labels follow OpenTelemetry's "Prometheus and OpenMetrics Compatibility": dots become underscores, units and
`_total` become suffixes, a resource becomes `job` and `instance` on each series and a `target_info` with the rest.
Written here rather than with prometheus_client, whose sample objects take several times as long for the tens of
thousands of lines that a busy host has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from autoinstr.model import Attributes, AttributeValue, Exemplar, SelfMetric, Series, Service, Snapshot
from autoinstr.semconv import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_NAMESPACE

LINES_AT_ONCE = 500
# "1" becomes _ratio, for gauges only.
UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "%": "percent", "1": ""}
IDENTITY = (SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID)
NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_:]+|__+")
ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def render(snapshot: Snapshot, services: Sequence[Service], *, open_metrics: bool) -> Iterator[bytes]:
    """The page, piece by piece: a busy host's has 20 MB. OpenMetrics adds units and exemplars."""
    lines = _lines(snapshot, services, open_metrics)
    while piece := list(islice(lines, LINES_AT_ONCE)):
        yield ("\n".join(piece) + "\n").encode()


def _lines(snapshot: Snapshot, services: Sequence[Service], open_metrics: bool) -> Iterator[str]:
    families: dict[str, list[Series]] = {}
    for series in snapshot.series:
        families.setdefault(series.name, []).append(series)
    own: dict[str, list[SelfMetric]] = {}
    for figure in snapshot.own:
        own.setdefault(figure.name, []).append(figure)
    identities = {number: _identity(services[number]) for number in {series.service for series in snapshot.series}}
    yield from _target_info(services, identities, open_metrics)
    for family in families.values():
        tell = _counter if family[0].is_counter else _histogram
        yield from tell(family, identities, open_metrics)
    for figures in own.values():
        yield from _own(figures, open_metrics)
    if open_metrics:
        yield "# EOF"


def metric_name(name: str, unit: str) -> str:
    """`http.server.request.duration`, `s` -> `http_server_request_duration_seconds`."""
    plain = NOT_IN_NAMES.sub("_", name).strip("_")
    plain = f"_{plain}" if plain[:1].isdigit() else plain
    suffix = "" if unit.startswith("{") else UNITS.get(unit, NOT_IN_NAMES.sub("_", unit).strip("_"))
    return plain if not suffix or plain.endswith(f"_{suffix}") else f"{plain}_{suffix}"


def labels(attributes: Attributes) -> str:
    """`http.request.method: "GET"` -> `http_request_method="GET"`; keys that become the same share one label."""
    found: dict[str, str] = {}
    for key, value in sorted(attributes.items()):
        name = NOT_IN_LABELS.sub("_", key)
        name = f"key_{name}" if name[:1].isdigit() else name
        found[name] = f"{found[name]};{_text(value)}" if name in found else _text(value)
    return ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in found.items())


def _text(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _identity(service: Service) -> str:
    """`job` and `instance` of a resource, as labels."""
    known = service.attributes
    namespace, name = known.get(SERVICE_NAMESPACE), _text(known.get(SERVICE_NAME, service.name))
    identity: Attributes = {"job": f"{_text(namespace)}/{name}" if namespace else name}
    if SERVICE_INSTANCE_ID in known:
        identity["instance"] = _text(known[SERVICE_INSTANCE_ID])
    return labels(identity)


def _target_info(services: Sequence[Service], identities: dict[int, str], open_metrics: bool) -> Iterator[str]:
    if not identities:
        return
    yield "# TYPE target info" if open_metrics else "# TYPE target_info gauge"
    yield f"# HELP {'target' if open_metrics else 'target_info'} Target metadata"
    for number, identity in identities.items():
        rest = {key: value for key, value in services[number].attributes.items() if key not in IDENTITY}
        yield f"target_info{{{_joined(identity, labels(rest))}}} 1"


def _head(name: str, kind: str, unit: str, description: str, open_metrics: bool) -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if open_metrics and UNITS.get(unit) and name.endswith(f"_{UNITS[unit]}"):
        yield f"# UNIT {name} {UNITS[unit]}"
    yield f"# HELP {name} {description.translate(ESCAPES if open_metrics else HELP_ESCAPES)}"


def _histogram(family: list[Series], identities: dict[int, str], open_metrics: bool) -> Iterator[str]:
    name = metric_name(family[0].name, family[0].unit)
    yield from _head(name, "histogram", family[0].unit, family[0].description, open_metrics)
    for series in family:
        base = _joined(identities[series.service], labels(series.attributes))
        bounds, counts = _buckets(series)
        exemplars = _by_bucket(series.exemplars, bounds) if open_metrics else {}
        start = f'{name}_bucket{{{base},le="'
        total = 0
        for number, (bound, count) in enumerate(zip(_bound_texts(bounds), counts, strict=True)):
            total += count
            yield f'{start}{bound}"}} {total}{exemplars.get(number, "")}'
        yield f"{name}_sum{{{base}}} {float(series.sum)!r}"
        yield f"{name}_count{{{base}}} {series.count}"


def _counter(family: list[Series], identities: dict[int, str], open_metrics: bool) -> Iterator[str]:
    name = metric_name(family[0].name, family[0].unit).removesuffix("_total")
    yield from _head(name if open_metrics else f"{name}_total", "counter", "", family[0].description, open_metrics)
    for series in family:
        yield f"{name}_total{{{_joined(identities[series.service], labels(series.attributes))}}} {series.count}"


@lru_cache(maxsize=8)
def _bound_texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(repr(float(bound)) for bound in bounds), "+Inf")


def _buckets(series: Series) -> tuple[tuple[float, ...], list[int]]:
    """Upper bounds, and counts with one more for those above."""
    if series.buckets is not None:
        return series.bounds, series.buckets.tolist()
    if series.exponential is None:
        return (), [series.count]
    exponential = series.exponential
    powers = (np.arange(len(exponential.counts) + 1) + exponential.offset) * 2.0**-exponential.scale
    return tuple(np.exp2(powers).tolist()), [exponential.zero_count, *exponential.counts.tolist(), 0]


def _by_bucket(exemplars: Iterable[Exemplar], bounds: Sequence[float]) -> dict[int, str]:
    """The last exemplar of each bucket, as it stands behind the bucket's line."""
    edges = np.asarray(bounds, np.float64)
    return {
        int(np.searchsorted(edges, exemplar.value)): (
            f' # {{trace_id="{exemplar.trace_id.hex()}",span_id="{exemplar.span_id.hex()}"}}'
            f" {float(exemplar.value)!r} {exemplar.time / 1e9:.3f}"
        )
        for exemplar in exemplars
    }


def _own(figures: list[SelfMetric], open_metrics: bool) -> Iterator[str]:
    first = figures[0]
    family = metric_name(first.name, first.unit)
    if first.monotonic:
        family = family.removesuffix("_total")
    elif first.unit == "1" and not family.endswith("_ratio"):
        family = f"{family}_ratio"
    sample = f"{family}_total" if first.monotonic else family
    kind = "counter" if first.monotonic else "gauge"
    # In the older format the name in the head is that of the sample, with its suffix.
    yield from _head(family if open_metrics else sample, kind, first.unit, first.description, open_metrics)
    for figure in figures:
        text = labels(figure.attributes)
        yield f"{sample}{f'{{{text}}}' if text else ''} {_number(figure.value)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _joined(*parts: str) -> str:
    return ",".join(filter(None, parts))
