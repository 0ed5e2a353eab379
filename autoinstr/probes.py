"""What probes on functions are for: groups, each of which can be switched off."""

GROUPS = {
    "tls": "plaintext of TLS",
    "routes": "names that a program's own router gives to requests",
    "goroutines": "which goroutine serves what, for parents",
    "tasks": "which task of Python's asyncio makes a call, what Node's event loop does, and what nghttp2 is handed",
    "tables": "header fields that HTTP/2 connections older than the agent refer to",
}
# Not there unless `--propagate` asks for it: no group to be switched off.
PROPAGATE_GO = "propagate go"
