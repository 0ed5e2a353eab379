"""An OTLP backend over gRPC that says yes to all. Usage: sink_grpc.py PORT."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


class Yes(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(2), (Yes(),), options=[("grpc.max_receive_message_length", -1)])
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


main()
