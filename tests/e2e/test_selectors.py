"""Selectors of different kinds at the same time: none may hide a process from another."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

from agent import Agent

SERVER = """
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
print("listens", flush=True)
server.serve_forever()
"""


def test_who_listens_while_its_program_is_looked_at(agent: Callable[..., Agent]) -> None:
    """With a selector of command lines every program that starts is watched for a moment, and then let go."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    watching = agent("--port", port, "--cmd", "*nothing that there is*")
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline()
        urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
        assert watching.wait_for_path("/", 10)
        # and it stays a target after that moment
        time.sleep(1.5)
        urllib.request.urlopen(f"http://127.0.0.1:{port}/?later").read()
        assert watching.wait_for(lambda spans: len(spans) == 2, 10)
    finally:
        process.kill()
        process.wait()
