"""From columns and series to what a backend decodes: the real encoders behind the real exporter."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from e2e.otlp_receiver import OtlpReceiver, attributes
from unit.export.support import CLIENT, SERVER, SERVICE, START, make_context, make_traced, soon

from autoinstr.export.base import create
from autoinstr.health import Loss
from autoinstr.model import Series, Snapshot
from autoinstr.spans import RequestLogEncoder, SpanEncoder, encode_metrics


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_was_seen_is_what_arrives(protocol: str, compression: str) -> None:
    with OtlpReceiver(protocol) as backend:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": backend.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        }
        encode = SpanEncoder("1.2.3").encode
        context = make_context(
            environ=environ, encode_spans=encode, encode_metrics=partial(encode_metrics, version="1.2.3")
        )
        exporter = create("otlp", context)
        batches = [make_traced(2000), make_traced(7, group=1, text="/stock/7"), make_traced(3, sampled=False)]
        for batch in batches:
            exporter.spans(batch, [SERVER, CLIENT], [SERVICE])
        series = Series(
            "http.server.request.duration", "s", "", 0, SERVER.metric_attributes, 1, 3, 0.5, (1.0,), np.array([3, 0])
        )
        exporter.metrics(Snapshot(1, 2, False, [series]), [SERVICE])
        exporter.close(soon(10))

        assert sum(context.health.lost.values()) == 0
        found = backend.spans_with_resource()
        assert len(found) == 2007 == context.health.work["spans_exported"]
        assert all(resource["service.name"] == "shop-api" for resource, _ in found)
        assert {span.span_id for _, span in found} == {row.tobytes() for b in batches[:2] for row in b.span_id}
        spans = {span.span_id: span for _, span in found}
        server = spans[batches[0].span_id[5].tobytes()]
        assert (server.name, server.kind, server.start_time_unix_nano) == ("GET /users/*", 2, START + 5000)
        assert attributes(server.attributes)["url.path"] == "/users/7"
        client = spans[batches[1].span_id[0].tobytes()]
        assert (client.kind, attributes(client.attributes)["error.type"]) == (3, "ECONNRESET")
        ((resource, _, point),) = backend.points("http.server.request.duration")
        assert resource["service.instance.id"] == "host:4711"
        assert (point.count, point.sum, list(point.bucket_counts)) == (3, 0.5, [3, 0])
        assert attributes(point.attributes) == SERVER.metric_attributes


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_request_logs(protocol: str) -> None:
    """Of every request, with the ids of its span, whether that was sampled or not; what is refused is counted."""
    with OtlpReceiver(protocol) as backend:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        encode = RequestLogEncoder("1.2.3").encode
        context = make_context(environ=environ, encode_spans=SpanEncoder("1.2.3").encode, encode_request_logs=encode)
        exporter = create("otlp", context)
        batches = [make_traced(200), make_traced(7, group=1, text="/stock/7"), make_traced(3, sampled=False)]
        for batch in batches:
            exporter.spans(batch, [SERVER, CLIENT], [SERVICE])
        exporter.close(soon(10))
        assert sum(context.health.lost.values()) == 0
        found = backend.log_records()
        assert len(found) == 210 == context.health.work["request_logs_exported"]
        assert {record.span_id for _, record in found} == {row.tobytes() for b in batches for row in b.span_id}
        assert all(resource["service.name"] == "shop-api" for resource, _ in found)
        assert {record.body.string_value for _, record in found} == {
            "GET /users/* /users/7 200 1.300 ms",
            "GET /stock/7 ECONNRESET 1.300 ms",
        }


def test_request_logs_that_are_lost_are_counted() -> None:
    with OtlpReceiver("http/protobuf") as backend:
        environ = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{backend.url}/v1/logs", "OTEL_BSP_SCHEDULE_DELAY": "100000"}
        environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://127.0.0.1:9/v1/traces"
        context = make_context(
            environ=environ | {"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, encode_request_logs=RequestLogEncoder("1.2.3").encode
        )
        backend.required = {"authorization": "yes"}
        exporter = create("otlp", context)
        exporter.spans(make_traced(70), [SERVER, CLIENT], [SERVICE])
        exporter.spans(make_traced(60), [SERVER, CLIENT], [SERVICE])
        exporter.close(time.monotonic() + 5)
        assert context.health.lost[Loss.REQUEST_LOG_QUEUE_FULL] == 70
        assert context.health.lost[Loss.REQUEST_LOG_EXPORT_FAILED] == 60
        assert not backend.logs
