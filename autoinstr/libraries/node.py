"""Node: what its event loop does beside reading, which has nothing to do with what was read last.

The functions are static methods of node::Environment, exported by the executable.
"""

from autoinstr.libraries.base import HAS_NODE, Function, Library

NODE = Library(
    name="node",
    functions=(
        Function("_ZN4node11Environment9RunTimersEP10uv_timer_s", "event_loop_turns"),
        Function("_ZN4node11Environment14CheckImmediateEP10uv_check_s", "event_loop_turns"),
        Function("_ZN4node15LibuvStreamWrap12AfterUvWriteEP10uv_write_si", "event_loop_turns"),
    ),
    flag=HAS_NODE,
    group="tasks",
    hits=1,
    per="turn of the event loop",
)
