"""TCP Fast Open: a request leaves with its SYN, or when that is answered; in both cases its server knows who asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fast_open
import pytest
from agent import Agent
from puppet import Puppet
from truth import CLIENT, SERVER, kind_of, path_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from link import Link

COUNT = 12
WITH_SERVERS, CLIENTS_ONLY = "net.ipv4.tcp_fastopen=3", "net.ipv4.tcp_fastopen=1"
# What answers a SYN takes some 40 ms, in which the thread of the client sleeps.
SLOW = "tc qdisc add dev eth0 root tbf rate 16kbit burst 200 latency 5s"


@pytest.mark.parametrize("server_takes_part", [True, False], ids=["with the SYN", "behind it"])
def test_the_server_knows_who_asked(
    server_takes_part: bool, agent: Callable[..., Agent], puppets: Callable[[], Puppet]
) -> None:
    with Link() as link:
        server, client = puppets(), puppets()
        subprocess.run(link.inside("sysctl", "-qw", WITH_SERVERS), check=True)
        port = server.call(fast_open.serve, str(link.file), link.there).result(10)
        client.call(fast_open.call, link.there, port, ["/before"]).result(10)  # the next ones have a cookie
        if not server_takes_part:
            subprocess.run(link.inside("sysctl", "-qw", CLIENTS_ONLY), check=True)
        subprocess.run(link.inside(*SLOW.split()), check=True)
        watching = agent("--pid", server.pid, "--pid", client.pid)
        paths = [f"/early/{n}" for n in range(COUNT)]
        client.call(fast_open.call_late, link.there, port, paths).result(60)
        spans = watching.stop()
    called = {path_of(span): span["spanId"] for span in spans if kind_of(span) == CLIENT}
    served = {path_of(span): span["parentSpanId"] for span in spans if kind_of(span) == SERVER}
    assert served.keys() == set(paths)
    assert served == called
