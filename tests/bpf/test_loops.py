"""Event loops of which nothing is known: for whom they make calls, while that is certain."""

from __future__ import annotations

from harness import Connection

from autoinstr.capture.abi import TRACE_ORPHAN_MASK, TRACE_ORPHAN_SHIFT, Role
from autoinstr.health import ORPHANS, Orphan

GET, OK = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
ALICE, BOB, CAROL = 7, 8, 9  # spans of requests that are served


class Loop:
    """With a connection that it has made calls over before."""

    def __init__(self) -> None:
        self.connection = Connection(Role.CLIENT)
        self.kernel = self.connection.library
        self.calls()

    def reads(self, span: int) -> None:
        self.kernel.some_loop_reads(span)

    def waits(self) -> None:
        self.kernel.loop_waits()

    def calls(self) -> int | Orphan:
        """Whom it is for, or why that is not known."""
        self.connection.request(GET)
        self.connection.response(OK)
        trace = self.connection.told[-1]["trace"]
        why = ORPHANS[(int(trace["flags"]) & TRACE_ORPHAN_MASK) >> TRACE_ORPHAN_SHIFT]
        return int.from_bytes(trace["parent"].tobytes(), "little") or why


def test_one_that_acts_at_once() -> None:
    loop = Loop()
    for served in (ALICE, BOB):
        loop.reads(served)
        assert loop.calls() == served
        loop.waits()


def test_one_that_puts_off_what_it_is_asked_for() -> None:
    """As Twisted, which writes when it is told that there is room."""
    loop = Loop()
    loop.reads(ALICE)
    loop.waits()
    assert loop.calls() == Orphan.TURN
    loop.reads(BOB)
    assert loop.calls() == Orphan.SEVERAL


def test_several_that_hand_it_to_each_other() -> None:
    """As Netty's: a call is made by any of them."""
    loop = Loop()
    loop.reads(ALICE)
    assert loop.calls() == ALICE
    loop.kernel.go_on_in_thread(44)
    loop.reads(BOB)
    assert loop.calls() == Orphan.SEVERAL
    loop.kernel.go_on_in_thread(43)
    loop.reads(CAROL)
    assert loop.calls() == Orphan.SEVERAL
