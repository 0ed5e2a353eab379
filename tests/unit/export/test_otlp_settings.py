"""The standard variables, one by one: what they come to, and what is said when they can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoinstr.errors import UsageError
from autoinstr.export.otlp.settings import Endpoint, read_batching, read_endpoint

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


def traces(**variables: str) -> Endpoint:
    return read_endpoint("traces", {f"OTEL_EXPORTER_OTLP_{key}": value for key, value in variables.items()})


def test_nothing_set_is_http_on_localhost() -> None:
    endpoint = read_endpoint("metrics", {})
    assert endpoint == Endpoint(
        signal="metrics",
        protocol="http/protobuf",
        target="http://localhost:4318/v1/metrics",
        secure=False,
        headers=(),
        certificate=None,
        client_certificate=None,
        client_key=None,
        gzip=False,
        timeout=10.0,
    )


@pytest.mark.parametrize(
    ("url", "target", "secure"),
    [
        ("http://alloy:4318", "http://alloy:4318/v1/traces", False),
        ("http://alloy:4318/", "http://alloy:4318/v1/traces", False),
        ("https://otlp.example.com/otlp", "https://otlp.example.com/otlp/v1/traces", True),
        ("https://otlp.example.com/otlp/?key=1", "https://otlp.example.com/otlp/v1/traces?key=1", True),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces", False),
    ],
)
def test_general_http_endpoint_gets_the_signals_path(url: str, target: str, secure: bool) -> None:
    endpoint = traces(ENDPOINT=url)
    assert (endpoint.protocol, endpoint.target, endpoint.secure) == ("http/protobuf", target, secure)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://tempo:4318/v1/traces", "http://tempo:4318/v1/traces"),
        ("http://tempo:4318/own/path", "http://tempo:4318/own/path"),
        ("http://tempo:4318", "http://tempo:4318/"),
    ],
)
def test_own_http_endpoint_is_used_as_it_is(url: str, target: str) -> None:
    assert traces(ENDPOINT="http://other:1", TRACES_ENDPOINT=url).target == target


@pytest.mark.parametrize(
    ("url", "insecure", "target", "secure"),
    [
        ("", "", "localhost:4317", False),
        ("http://alloy:4317", "", "alloy:4317", False),
        ("http://alloy:4317/ignored", "", "alloy:4317", False),
        ("https://alloy:4317", "true", "alloy:4317", True),  # the scheme wins over INSECURE
        ("https://otlp.example.com", "", "otlp.example.com:443", True),
        ("http://alloy", "", "alloy:4317", False),
        ("alloy:4317", "", "alloy:4317", True),
        ("alloy:4317", "true", "alloy:4317", False),
        ("alloy", "TRUE", "alloy:4317", False),
        ("http://[::1]:4317", "", "[::1]:4317", False),
        ("unix:///run/otlp.sock", "", "unix:///run/otlp.sock", False),
        ("dns:///alloy:4317", "true", "dns:///alloy:4317", False),
    ],
)
def test_grpc_targets(url: str, insecure: str, target: str, secure: bool) -> None:
    endpoint = traces(PROTOCOL="grpc", ENDPOINT=url, INSECURE=insecure)
    assert (endpoint.protocol, endpoint.target, endpoint.secure) == ("grpc", target, secure)


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("http://alloy:4317", "grpc"),
        ("alloy:4317", "grpc"),
        ("https://alloy:4317/", "grpc"),
        ("http://alloy:4318", "http/protobuf"),
        ("https://alloy", "http/protobuf"),
        ("http://alloy:14317", "http/protobuf"),
    ],
)
def test_protocol_that_nobody_set_goes_by_the_port(url: str, protocol: str) -> None:
    assert traces(ENDPOINT=url).protocol == protocol
    assert traces(ENDPOINT=url, PROTOCOL="http/protobuf" if "://" in url else "grpc").protocol != ""


def test_a_set_protocol_wins_over_the_port() -> None:
    assert traces(ENDPOINT="http://alloy:4317", PROTOCOL="http/protobuf").target == "http://alloy:4317/v1/traces"


def test_a_signals_own_variables_win() -> None:
    environ = {
        ENDPOINT: "http://alloy:4318",
        PROTOCOL: "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1,b=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5000",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://mimir:9000",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "c=3",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "250",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "gzip",
    }
    spans, metrics = read_endpoint("traces", environ), read_endpoint("metrics", environ)
    assert (spans.protocol, spans.target, spans.headers) == (
        "http/protobuf",
        "http://alloy:4318/v1/traces",
        (("a", "1"), ("b", "2")),
    )
    assert (spans.timeout, spans.gzip) == (5.0, False)
    assert (metrics.protocol, metrics.target, metrics.headers) == ("grpc", "mimir:9000", (("c", "3"),))
    assert (metrics.timeout, metrics.gzip) == (0.25, True)


def test_an_empty_variable_is_an_unset_one() -> None:
    assert traces(ENDPOINT="http://alloy:4318", TRACES_ENDPOINT="", PROTOCOL="", TIMEOUT=" ") == traces(
        ENDPOINT="http://alloy:4318"
    )


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("Api-Key=abc", (("api-key", "abc"),)),
        ("Authorization=Basic%20dXNlcjpwYXNz==", (("authorization", "Basic dXNlcjpwYXNz=="),)),
        ("authorization=Basic abc=, x-scope-orgid = 7 ,", (("authorization", "Basic abc="), ("x-scope-orgid", "7"))),
        ("empty=", (("empty", ""),)),
    ],
)
def test_headers(text: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert traces(HEADERS=text).headers == headers


def test_user_and_password_in_the_url_become_a_header() -> None:
    endpoint = traces(ENDPOINT="https://me:p%40ss@otlp.example.com")
    assert endpoint.target == "https://otlp.example.com/v1/traces"
    assert endpoint.headers == (("authorization", "Basic bWU6cEBzcw=="),)


@pytest.mark.parametrize(
    ("variables", "named", "said"),
    [
        ({"ENDPOINT": "alloy:4318"}, ENDPOINT, "http://host:4318"),
        ({"TRACES_ENDPOINT": "ftp://alloy"}, TRACES_ENDPOINT, "not a URL"),
        ({"ENDPOINT": "http://alloy:notaport"}, ENDPOINT, "notaport"),
        ({"ENDPOINT": "ftp://alloy:4317", "PROTOCOL": "grpc"}, ENDPOINT, "not an endpoint"),
        ({"PROTOCOL": "http"}, PROTOCOL, "http/protobuf"),
        ({"PROTOCOL": "http/json"}, PROTOCOL, "not supported"),
        ({"COMPRESSION": "zstd"}, "OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ({"TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT", "milliseconds"),
        ({"TRACES_TIMEOUT": "0"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "at least 1"),
        ({"ENDPOINT": "a:4317", "INSECURE": "yes"}, "OTEL_EXPORTER_OTLP_INSECURE", "true, false"),
        ({"HEADERS": "s3cret"}, "OTEL_EXPORTER_OTLP_HEADERS", "name=value"),
        ({"HEADERS": "bad name=s3cret"}, "OTEL_EXPORTER_OTLP_HEADERS", "name=value"),
        ({"HEADERS": "a=s3cret%0d%0aX: y"}, "OTEL_EXPORTER_OTLP_HEADERS", "value of a"),
        ({"CERTIFICATE": "/nowhere/ca.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE", "No such file"),
        ({"CERTIFICATE": __file__.replace(".py", "")}, "OTEL_EXPORTER_OTLP_CERTIFICATE", "can't be read"),
    ],
)
def test_mistakes_name_the_variable(variables: dict[str, str], named: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        traces(**variables)
    assert named in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_files_must_be_pem_and_a_key_needs_its_certificate(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no certificate")
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match=r"OTEL_EXPORTER_OTLP_CERTIFICATE=.*not a PEM file"):
        traces(CERTIFICATE=str(text))
    with pytest.raises(UsageError, match=r"OTLP_CLIENT_KEY is set, but OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not"):
        traces(CLIENT_KEY=str(key))


def test_batching_defaults_and_the_standard_sizes() -> None:
    assert read_batching({}).queue_spans is None
    batching = read_batching(
        {
            "OTEL_BSP_MAX_QUEUE_SIZE": "4096",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "512",
            "OTEL_BSP_SCHEDULE_DELAY": "0",
        }
    )
    assert (batching.queue_spans, batching.request_spans, batching.delay) == (4096, 512, 0)
    with pytest.raises(UsageError, match="OTEL_BSP_MAX_QUEUE_SIZE=many"):
        read_batching({"OTEL_BSP_MAX_QUEUE_SIZE": "many"})
