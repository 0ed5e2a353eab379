"""Serves by asking somebody else: in the thread that serves, in a new one, or through a process of its own.

Arguments: own port, port of who is asked. `/thread/7` asks for `/asked/thread/7`, and so on. Meanwhile a thread that
serves nobody asks for `/alone/0`, `/alone/1` ...
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

OWN, OTHER = int(sys.argv[1]), int(sys.argv[2])


def ask(path: str, trace: str | None = None) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", OTHER)
    connection.request("GET", path, headers={"traceparent": trace} if trace else {})
    connection.getresponse().read()
    connection.close()


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        asked = f"/asked{self.path}"
        if how in ("thread", "passed-on"):
            ask(asked, self.headers.get("traceparent"))
        elif how == "new-thread":
            thread = threading.Thread(target=ask, args=(asked,))
            thread.start()
            thread.join()
        elif how == "process":
            subprocess.run(["curl", "-s", f"http://127.0.0.1:{OTHER}{asked}"], check=True, capture_output=True)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")

    def log_message(self, *_args: object) -> None:
        pass


def alone() -> None:
    for number in count():
        ask(f"/alone/{number}")
        time.sleep(0.01)


if OTHER:
    threading.Thread(target=alone, daemon=True).start()
server = ThreadingHTTPServer(("127.0.0.1", OWN), Relay)
print("listens", flush=True)
server.serve_forever()
