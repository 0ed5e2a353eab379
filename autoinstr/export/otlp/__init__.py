"""OTLP over gRPC and HTTP: encode (given) | queue | client | transport, with one sender thread a signal."""

from __future__ import annotations

from dataclasses import replace

from autoinstr.export.base import Context, Exporter
from autoinstr.export.otlp.exporter import OtlpExporter
from autoinstr.export.otlp.settings import read_batching, read_endpoint


def create(context: Context) -> Exporter:
    """An exporter by the OTEL_EXPORTER_OTLP_* variables. UsageError: one of them can't be used."""
    traces = read_endpoint("traces", context.environ)
    metrics = read_endpoint("metrics", context.environ)
    own_log = context.environ.get("OTEL_LOGS_EXPORTER", "").strip() == "otlp"
    logs = read_endpoint("logs", context.environ) if own_log or context.encode_request_logs else None
    batching = read_batching(context.environ)
    traces = replace(traces, timeout=min(traces.timeout, batching.timeout))
    return OtlpExporter(traces, metrics, logs, batching, context, own_log=own_log)
