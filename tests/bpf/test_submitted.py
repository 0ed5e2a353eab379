"""Calls that are handed to a library, which writes them later: whom they were handed in for, and never anybody else."""

from __future__ import annotations

import pytest
from e2e import http2_frames as h2
from harness import Connection

from autoinstr.capture.abi import HTTP2_ENDED, HTTP2_PART, TRACE_ORPHAN_MASK, TRACE_ORPHAN_SHIFT, Role
from autoinstr.health import ORPHANS, Orphan

OWN, OTHER = 0x1000, 0x2000  # sessions
ALICE, BOB, CAROL = 7, 8, 9  # spans of requests that are served


class Client:
    """A connection on which a session of nghttp2 writes."""

    def __init__(self) -> None:
        self.connection = Connection(Role.CLIENT)
        self.tables = h2.Tables()
        self.connection.loop_reads(0)
        self.connection.write(h2.PREFACE + h2.settings())
        self.connection.read(h2.settings() + h2.SETTINGS_ACK)

    def hands_in(self, stream: int, served: int, session: int = OWN) -> None:
        self.connection.loop_reads(served)
        self.connection.submit(session, stream)

    def writes(self, *streams: int, served: int = 0) -> None:
        """In one write, when the loop serves somebody, or nobody."""
        self.connection.loop_reads(served)
        self.connection.write(
            b"".join(h2.headers(one, self.tables.request("/", "GET", "host"), end=True) for one in streams)
        )

    def reads(self, *streams: int) -> None:
        """All of their responses, at once."""
        self.connection.loop_reads(0)
        self.connection.read(b"".join(h2.headers(one, self.tables.response(200), end=True) for one in streams))

    def parents(self) -> dict[int, int | Orphan]:
        """By stream, of those that are over."""
        found: dict[int, int | Orphan] = {}
        for exchange in self.connection.told:
            part = exchange["head"].view(HTTP2_PART)[0]
            if part["flags"] & HTTP2_ENDED:
                trace = exchange["trace"]
                why = ORPHANS[(int(trace["flags"]) & TRACE_ORPHAN_MASK) >> TRACE_ORPHAN_SHIFT]
                found[int(part["stream"])] = int.from_bytes(trace["parent"].tobytes(), "little") or why
        return found


def test_who_hands_in_is_the_parent_and_not_who_is_served_when_it_is_written() -> None:
    client = Client()
    client.hands_in(1, ALICE)
    client.hands_in(3, BOB)
    client.hands_in(5, 0)
    client.writes(1, 3, 5, served=BOB)
    client.reads(1)
    client.reads(3, 5)
    assert client.parents() == {1: ALICE, 3: BOB, 5: Orphan.TURN}


def test_two_sessions_that_have_the_same_stream_wait_for_one_that_tells_them_apart() -> None:
    client = Client()
    client.hands_in(1, ALICE, OTHER)
    client.hands_in(1, BOB)
    client.writes(1, served=ALICE)
    client.hands_in(3, BOB)
    client.writes(3)
    client.hands_in(5, ALICE, OTHER)
    client.hands_in(5, BOB)
    client.hands_in(7, BOB, OTHER)
    client.hands_in(7, ALICE)
    client.writes(5, 7)
    client.reads(1)
    client.reads(3)
    client.reads(5)
    client.reads(7)
    assert client.parents() == {1: Orphan.SHARED, 3: BOB, 5: BOB, 7: ALICE}


@pytest.mark.parametrize(("streams", "served"), [((1,), ALICE), ((3,), BOB), ((1, 3), 0)])
def test_a_response_brings_the_loop_back_to_what_its_call_was_made_for(streams: tuple[int, ...], served: int) -> None:
    client = Client()
    client.hands_in(1, ALICE)
    client.hands_in(3, BOB)
    client.writes(1, 3)
    client.reads(*streams)
    assert client.connection.serves_now == served


def test_what_was_written_and_never_handed_in_is_nobodys() -> None:
    client = Client()
    client.hands_in(1, ALICE)
    client.writes(1)
    client.writes(3, served=BOB)
    client.reads(1)
    client.reads(3)
    assert client.parents() == {1: ALICE, 3: Orphan.SHARED}


def test_who_has_called_over_a_connection_may_write_for_others_on_it() -> None:
    """Tasks that share a connection, each of which writes whatever is there."""
    client = Client()
    for served in (ALICE, BOB):
        client.connection.task_reads(served)
    for stream, served in ((1, ALICE), (3, ALICE), (5, BOB), (7, CAROL)):
        client.connection.task_reads(served)
        client.connection.write(h2.headers(stream, client.tables.request("/", "GET", "host"), end=True))
        client.reads(stream)
    # the second one may be Bob's, who then may write for others, too; Carol has come later
    assert client.parents() == {1: ALICE, 3: Orphan.SHARED, 5: Orphan.SHARED, 7: CAROL}
