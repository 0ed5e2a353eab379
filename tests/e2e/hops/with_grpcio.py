"""grpcio, by threads: serves and calls gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import grpc
import hop

channel = grpc.insecure_channel(urlsplit(hop.NEXT).netloc)


def serve(served: str) -> bytes:
    channel.unary_unary(hop.make(served, "/chain.Hop/"))(b"x", timeout=20)
    return b"x"


class Handlers(grpc.GenericRpcHandler):
    def service(self, details: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda _message, _context: serve(details.method))


server = grpc.server(ThreadPoolExecutor(32), handlers=(Handlers(),))
server.add_insecure_port(f"127.0.0.1:{hop.PORT}")
server.start()
Event().wait()
