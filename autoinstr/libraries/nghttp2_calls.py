"""nghttp2: calls that are handed to it, which it writes later, among others'. In a shared library, and inside Node."""

from autoinstr.libraries.base import Function, Library

NGHTTP2_CALLS = Library(
    name="nghttp2's calls",
    functions=(
        Function("nghttp2_submit_request", "nghttp2_submits", on_return="nghttp2_submitted"),
        Function("nghttp2_submit_request2", "nghttp2_submits", on_return="nghttp2_submitted"),
    ),
    flag=0,
    group="tasks",
    hits=2,
    per="call",
)
