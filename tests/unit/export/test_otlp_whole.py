"""From columns and series to what a backend decodes: the real encoders behind the real exporter."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from e2e.otlp_receiver import OtlpReceiver, attributes
from unit.export.support import CLIENT, SERVER, SERVICE, START, make_context, make_traced, soon

from autoinstr.export.base import create
from autoinstr.model import Series, Snapshot
from autoinstr.spans import SpanEncoder, encode_metrics


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
