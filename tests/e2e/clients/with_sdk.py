"""A program with an OpenTelemetry SDK of its own: a span for each call, whose context goes along.

Arguments: port, number of calls. Asks for `/sdk/0`, `/sdk/1` ... and prints trace id and span id of each.
"""

from __future__ import annotations

import http.client
import sys

from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider

tracer = TracerProvider().get_tracer("test")
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with tracer.start_as_current_span("call") as span:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
        connection.request("GET", f"/sdk/{number}", headers=headers)
        connection.getresponse().read()
        connection.close()
        context = span.get_span_context()
        print(f"{context.trace_id:032x} {context.span_id:016x}", flush=True)
