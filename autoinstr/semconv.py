"""Names of attributes and metrics: OpenTelemetry's semantic conventions, and our own where there is none.

Constants only. One place, so that no two files spell a name differently and a test can look for each in the README.
"""

from __future__ import annotations

from typing import Final

# Requests of any protocol
CLIENT_ADDRESS: Final = "client.address"
CLIENT_PORT: Final = "client.port"
ERROR_TYPE: Final = "error.type"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
NETWORK_TRANSPORT: Final = "network.transport"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SPAN_KIND: Final = "span.kind"  # of log records, which have no field for it

# HTTP
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
URL_FULL: Final = "url.full"
URL_PATH: Final = "url.path"
URL_QUERY: Final = "url.query"
URL_SCHEME: Final = "url.scheme"

# RPC
RPC_GRPC_STATUS_CODE: Final = "rpc.grpc.status_code"
RPC_METHOD: Final = "rpc.method"
RPC_SERVICE: Final = "rpc.service"
RPC_SYSTEM: Final = "rpc.system"

# Where the protocols put a request's outcome, in the order of preference
OUTCOMES: Final = (RPC_GRPC_STATUS_CODE, HTTP_RESPONSE_STATUS_CODE, ERROR_TYPE)

# Values
METHOD_OTHER: Final = "_OTHER"  # a method that is not one of HTTP's, or of a service's
ERROR_OTHER: Final = "_OTHER"  # an error without a name
ERROR_NO_RESPONSE: Final = "no_response"
ERROR_TRUNCATED: Final = "truncated"
GRPC: Final = "grpc"  # an rpc.system
REDACTED: Final = "REDACTED"  # in place of a secret, as the conventions write it

# Metrics: a group's `metric` is the prefix, these are the rest of the name
HTTP_SERVER: Final = "http.server"
HTTP_CLIENT: Final = "http.client"
RPC_SERVER: Final = "rpc.server"
RPC_CLIENT: Final = "rpc.client"
REQUEST_DURATION: Final = "request.duration"
CALL_DURATION: Final = "call.duration"
CALL_DURATION_OLD: Final = "duration"  # of RPCs, before semantic conventions 1.38
REQUEST_BODY_SIZE: Final = "request.body.size"
RESPONSE_BODY_SIZE: Final = "response.body.size"
OTEL_METRIC_OVERFLOW: Final = "otel.metric.overflow"
TARGET_INFO: Final = "target_info"

# The service graph, as Tempo's metrics generator names it
GRAPH: Final = "traces_service_graph_request"
GRAPH_CLIENT: Final = "client"
GRAPH_SERVER: Final = "server"
GRAPH_CONNECTION_TYPE: Final = "connection_type"
VIRTUAL_NODE: Final = "virtual_node"  # a connection_type: the server is only known by name

# Resource
CONTAINER_ID: Final = "container.id"
HOST_NAME: Final = "host.name"
PROCESS_EXECUTABLE_NAME: Final = "process.executable.name"
PROCESS_PID: Final = "process.pid"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"
TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"
