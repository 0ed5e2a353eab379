"""Listening ports from /proc/<pid>/net."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from autoinstr.discover.listeners import Listeners, parse_table, read_table
from autoinstr.discover.process import Process

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   {n}: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0\n"


def row(number: int, port: int, state: str, inode: int) -> str:
    return ROW.format(n=number, port=port, state=state, inode=inode)


def test_listening_sockets_come_first() -> None:
    text = HEAD + row(0, 8080, "0A", 11) + row(1, 22, "0A", 12) + row(2, 8080, "01", 13)
    assert parse_table(text.encode()) == ({11: 8080, 12: 22}, True)


def test_long_table_is_read_to_the_first_connection_only(tmp_path: Path) -> None:
    listening = "".join(row(n, 1000 + n, "0A", 100 + n) for n in range(500))
    connections = "".join(row(n, 80, "01", 10_000 + n) for n in range(50_000))
    (tmp_path / "tcp").write_text(HEAD + listening + connections)
    found = read_table(str(tmp_path / "tcp"))
    assert len(found) == 500
    assert found[599] == 1499


def test_own_sockets() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        ports = Listeners().ports(Process(os.getpid()))
        assert {four.getsockname()[1], six.getsockname()[1]} <= set(ports)


def test_nothing_of_a_process_that_ended() -> None:
    assert Listeners().ports(Process(4_000_000)) == ()
