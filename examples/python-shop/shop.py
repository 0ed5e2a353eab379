"""A shop in plain Python: products, orders, a slow search. Prices and reviews come from other services.

[HOST=0.0.0.0] PORT=8081 PRICING_URL=http://127.0.0.1:8082 [REVIEWS_URL=http://127.0.0.1:8084] python3 shop.py
"""

import json
import os
import random
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRICING_URL = os.environ["PRICING_URL"]
REVIEWS_URL = os.environ.get("REVIEWS_URL")


def fetch(url: str) -> object:
    """What another service answers, as JSON."""
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep connections open
    wbufsize = -1  # head and body of an answer leave in one piece

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        match path.strip("/").split("/"):
            case ["health"]:
                self.answer(200, "ok")
            case ["products", number]:
                self.product(number)
            case ["users", user, "orders"]:
                self.answer(200, {"user": user, "orders": [random.randrange(10**6) for _ in range(3)]})
            case ["search"]:
                time.sleep(random.uniform(0.05, 0.3))  # the slow route
                self.answer(200, {"found": []})
            case _:
                self.answer(404, "no such page")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/orders":
            self.answer(404, "no such page")
        elif random.random() < 0.1:  # the unreliable route
            self.answer(500, "payment failed")
        else:
            self.answer(201, {"items": len(body)})

    def product(self, number: str) -> None:
        try:
            product = {"id": number, "price": fetch(f"{PRICING_URL}/prices/{number}")}
            if REVIEWS_URL:
                product["reviews"] = fetch(f"{REVIEWS_URL}/reviews/{number}")
        except urllib.error.URLError as error:
            self.answer(502, f"no answer from a service behind: {error}")
        else:
            self.answer(200, product)

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    server = ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Shop)
    server.daemon_threads = True
    server.serve_forever()
