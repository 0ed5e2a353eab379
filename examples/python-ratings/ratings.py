"""Ratings, by gRPC: [HOST=0.0.0.0] PORT=8085 python3 ratings.py. Needs grpcio and nothing generated."""

import os
import random
from concurrent import futures

import grpc


def product_id(message: bytes) -> str:
    """Of a Product in ratings.proto: field 1, a short string."""
    return message[2 : 2 + message[1]].decode() if message else ""


def rating(answer: tuple[str, int]) -> bytes:
    """A Rating: fields 1 and 2."""
    number = answer[0].encode()
    return b"\x0a" + bytes([len(number)]) + number + b"\x10" + bytes([answer[1]])


def get(product: str, context: grpc.ServicerContext) -> tuple[str, int]:
    if product.endswith("13"):  # the unlucky ones
        context.abort(grpc.StatusCode.NOT_FOUND, "nobody rated that")
    if random.random() < 0.01:
        context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
    return product, random.randrange(1, 6)


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(8))
    method = grpc.unary_unary_rpc_method_handler(get, request_deserializer=product_id, response_serializer=rating)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Ratings", {"Get": method})])
    server.add_insecure_port(f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ['PORT']}")
    server.start()
    server.wait_for_termination()
