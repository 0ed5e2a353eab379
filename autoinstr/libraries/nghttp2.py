"""nghttp2: calls that are handed to it, which it writes later, among others'. In a shared library, and inside Node."""

from autoinstr.libraries.base import Function, Library

NGHTTP2 = Library(
    name="nghttp2",
    functions=(
        Function("nghttp2_submit_request", "nghttp2_submits", on_return="nghttp2_submitted"),
        Function("nghttp2_submit_request2", "nghttp2_submits", on_return="nghttp2_submitted"),
    ),
    flag=0,
    group="tasks",
)
