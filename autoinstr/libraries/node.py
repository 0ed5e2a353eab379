"""Node: what its event loop does beside reading, which has nothing to do with what was read last; and what it gives to
libuv's thread pool, and goes on with later.

The former are static methods of node::Environment, exported by the executable; the latter are libuv's own, whose names
the executable has as Node's project builds it.
"""

from autoinstr.libraries.base import HAS_NODE, Function, Library

# Work that is done: of libuv itself, and of Node (zlib, crypto, and addons by way of napi_create_async_work).
DONE = ("uv__fs_done", "uv__getaddrinfo_done", "uv__getnameinfo_done")
_LAMBDA = "_ZZN4node14ThreadPoolWork12ScheduleWorkEvENUlP9uv_work_siE"
REQUEST_DONE = (f"{_LAMBDA}0_4_FUNES2_i", f"{_LAMBDA}_8__invokeES2_i")  # as gcc, and as clang calls it

NODE = Library(
    name="node",
    functions=(
        Function("_ZN4node11Environment9RunTimersEP10uv_timer_s", "event_loop_turns"),
        Function("_ZN4node11Environment14CheckImmediateEP10uv_check_s", "event_loop_turns"),
        Function("_ZN4node15LibuvStreamWrap12AfterUvWriteEP10uv_write_si", "event_loop_turns"),
        *(Function(name, "pool_work_ends", on_return="event_loop_turns") for name in DONE),
        *(Function(name, "pool_request_ends", on_return="event_loop_turns") for name in REQUEST_DONE),
        Function("uv__work_submit", "pool_work_begins"),
        Function("uv_queue_work", "pool_request_begins"),
    ),
    flag=HAS_NODE,
    group="tasks",
    hits=1,
    per="turn of the event loop",
)
