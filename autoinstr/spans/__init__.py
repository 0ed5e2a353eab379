"""What leaves about single requests, and the bytes of metrics: OTLP messages, and plain records for the console."""

from autoinstr.spans.encoder import EncodedSpans, SpanEncoder, encode_spans
from autoinstr.spans.metrics import encode_metrics
from autoinstr.spans.records import span_records
from autoinstr.spans.request_logs import RequestLogEncoder

__all__ = ["EncodedSpans", "RequestLogEncoder", "SpanEncoder", "encode_metrics", "encode_spans", "span_records"]
