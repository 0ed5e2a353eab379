"""What programs remember to be there, or not to be, is right as soon as that changes."""

from __future__ import annotations

import pytest
from harness import Connection

GET, OK = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
CLIENT = 99  # its pid
PLAIN, OTHER = 7, 8  # pids
IN_ORDER = 2


@pytest.mark.parametrize("forked", [False, True])
def test_how_a_process_works_may_come_to_be_known_late(forked: bool) -> None:
    kernel = Connection().library
    assert [kernel.runtime_seen(pid) for pid in (PLAIN, PLAIN, OTHER, PLAIN)] == [0] * 4
    kernel.tell_runtime(PLAIN, IN_ORDER, forked)
    assert [kernel.runtime_seen(pid) for pid in (PLAIN, OTHER, PLAIN, OTHER)] == [IN_ORDER, 0, IN_ORDER, 0]
    kernel.tell_runtime(OTHER, IN_ORDER, forked)
    assert [kernel.runtime_seen(pid) for pid in (OTHER, PLAIN)] == [IN_ORDER] * 2


@pytest.mark.parametrize("pids", [(PLAIN,), (PLAIN, OTHER)])
def test_who_gets_the_pid_of_one_that_has_ended_is_not_taken_for_it(pids: tuple[int, ...]) -> None:
    kernel = Connection().library
    for pid in pids:
        kernel.tell_runtime(pid, IN_ORDER, True)
    assert [kernel.runtime_seen(pid) for pid in (*pids, *pids)] == [IN_ORDER] * 2 * len(pids)
    kernel.end_process(PLAIN)
    assert kernel.runtime_seen(PLAIN) == 0


def test_a_client_may_become_a_target_late() -> None:
    """Requests of before and after, on the same connection."""
    server = Connection()
    server.library.know_it_by(77)
    for number in range(6):
        if number >= 3:
            server.library.other_end_calls(number)
        server.request(GET)
        server.response(OK)
    assert [int(exchange["trace"]["peer"]) for exchange in server.told] == [0, 0, 0, CLIENT, CLIENT, CLIENT]
