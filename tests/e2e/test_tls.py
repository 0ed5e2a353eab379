"""HTTPS: plaintext from TLS libraries, joined with the sockets that carry it."""

from __future__ import annotations

import ctypes.util
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import clients
import load
import pytest
import servers
from agent import PROGRAM, Agent
from certificates import certificates, client_context, trusting
from clients import CLIENTS
from load import Connection, Plan
from ports import free_port
from servers import GRPC_SERVERS, SERVERS, Running, Server
from truth import CLIENT, Expected, compare

StartAgent = Callable[..., Agent]
AT_ONCE = 64  # connections
ROUNDS = 5  # requests on each
SOON_OVER = int(os.environ.get("TEST_SOON_OVER", "100"))  # programs
LIBSSL_IS_PROBED = re.compile(r"libssl\S*: probed for openssl")  # in the agent's log
WAITED_FOR = 3  # the thread was in a call of the library at that moment: its return tells nothing
SHORT_LIVED = {"curl": ("-sS", "-o", "/dev/null"), "wget": ("-q", "-O", "/dev/null", "--ca-certificate={authority}")}
OVER_TLS = [server for server in SERVERS if server.transport == "https"]


def server_named(name: str) -> Server:
    return servers.by_name(name, SERVERS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Server], Running]]:
    with ExitStack() as stack:

        def run(server: Server, **words: object) -> Running:
            if lacking := servers.missing(server):
                pytest.skip(f"{server.name} needs {', '.join(lacking)}")
            running = servers.launch(server, tmp_path / server.name, **words)
            stack.callback(running.stop)
            return servers.wait_up(running)

        yield run


def shuffled(running: Running, connections: list[Connection], name: str) -> list[Expected]:
    """Requests on all connections at once, over and over: all are sent before any answer is read."""
    truth = []
    for round_ in range(ROUNDS):
        sent = []
        for number, connection in enumerate(connections):
            size = number + round_
            plan = Plan(f"/s/200/d/0/b/{size}/c/0/{name}-{round_}-{number}", "POST", b"u" * number)
            connection.request(plan.method, plan.path, plan.body)
            sent.append((connection, plan))
        for connection, plan in sent:
            size = len(connection.getresponse().read())
            truth.append(
                Expected(
                    plan.path,
                    method=plan.method,
                    request_size=len(plan.body),
                    response_size=size,
                    server_port=running.port,
                    peer_port=connection.port_here(),
                )
            )
    return truth


def open_all(running: Running) -> list[Connection]:
    connections = [Connection(lambda: servers.connect(running), "127.0.0.1") for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(Connection.connect, connections))
    return connections


@pytest.mark.parametrize("server", OVER_TLS, ids=lambda server: server.name)
def test_each_request_is_told_on_its_own_connection(
    agent: StartAgent, start: Callable[[Server], Running], server: Server
) -> None:
    running = start(server)
    older = open_all(running)
    shuffled(running, older, "before")
    started = agent("--port", running.port)
    newer = open_all(running)
    late = shuffled(running, older, "older")
    if server.waits_in_tls:
        # each thread was within a call of the library already: nothing is seen of what that call returns
        late[:AT_ONCE] = [replace(truth, optional=True) for truth in late[:AT_ONCE]]
    truth = [*shuffled(running, newer, "newer"), *late]
    for connection in (*older, *newer):
        connection.close()
    spans = started.stop()
    complaints = compare(truth, spans)
    assert not complaints, "\n".join(complaints[:20])
    assert {span["attributes"]["url.scheme"] for span in spans} == {"https"}


def plain(path: str, running: Running, **fields: Any) -> Expected:
    return Expected(path, response_size=3, server_port=running.port, **fields)


@pytest.mark.parametrize("program", SHORT_LIVED)
def test_programs_that_are_soon_over(
    agent: StartAgent, start: Callable[[Server], Running], tmp_path: Path, program: str
) -> None:
    """One after the other, TEST_SOON_OVER of them; a copy has a name of its own, so that others are not counted."""
    if not (original := shutil.which(program)):
        pytest.skip(f"needs {program}")
    copy = tmp_path / f"{program}-{os.getpid()}"
    shutil.copy(original, copy)
    options = [option.format(**certificates()._asdict()) for option in SHORT_LIVED[program]]
    running = start(server_named("http-server-tls"))
    started = agent("--exe", f"*/{copy.name}")
    truth = []
    for number in range(SOON_OVER):
        path = f"/s/200/d/0/b/3/c/0/{program}-{number}"
        url = f"https://127.0.0.1:{running.port}{path}"
        subprocess.run([copy, *options, url], check=True, timeout=20, env={**os.environ, **trusting()})
        truth.append(plain(path, running, kind=CLIENT, server_address="127.0.0.1", peer_port=running.port))
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints[:20])


def test_program_with_the_library_built_in(
    agent: StartAgent, start: Callable[[Server], Running], tmp_path: Path
) -> None:
    """Started after the agent: its first request is told, too."""
    fetch = servers.by_name("fetch", CLIENTS)
    if lacking := clients.missing(fetch):
        pytest.skip(f"needs {', '.join(lacking)}")
    running = start(server_named("aiohttp-tls"))
    started = agent("--cmd", f"*{tmp_path}/client*")
    truth = []
    for run in range(3):
        paths = [f"/s/200/d/0/b/3/c/0/built-in-{run}-{number}" for number in range(3)]
        lines = "".join(f"GET https://127.0.0.1:{running.port}{path} 0 length\n" for path in paths)
        client = clients.Running(fetch, tmp_path / f"client-{run}", lines)
        client.wait_up()
        client.run()
        truth += [
            plain(path, running, kind=CLIENT, server_address="127.0.0.1", peer_port=running.port) for path in paths
        ]
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


LATE = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.accept()  # only to see whether it is up
connection, _ = listener.accept()
import ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[2:])
connection.sendall(b"!")
connection = context.wrap_socket(connection, server_side=True)
while connection.recv(10000):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nabc")
"""


def test_library_that_is_loaded_later(agent: StartAgent, start: Callable[[Server], Running]) -> None:
    """TLS comes into the process, and at once onto a connection that was there before: seen from when it is probed."""
    server = Server("late", ("{python}", "-c", LATE, "{port}", "{certificate}", "{key}"))
    running = start(server, **certificates()._asdict())
    node = start(server_named("node-tls"))  # has TLS of its own: the agent is ready when it has loaded what that needs
    started = agent("--port", f"{running.port},{node.port}")
    truth = []
    with socket.create_connection(running.address) as sock:
        assert sock.recv(1) == b"!"
        probed = 0  # requests since
        with client_context().wrap_socket(sock, server_hostname="127.0.0.1") as secret:
            for number in range(1000):
                probed += any(map(LIBSSL_IS_PROBED.search, started.errors))
                path = f"/late-{number}"
                truth.append(plain(path, running, peer_port=secret.getsockname()[1], optional=probed < WAITED_FOR))
                secret.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert secret.recv(1000)
                if probed == 20:
                    break
                time.sleep(0.01)
    spans = started.stop()
    complaints = compare(truth, spans)
    assert not complaints, "\n".join(complaints)
    assert probed == 20


def test_processes_that_start_later(agent: StartAgent, start: Callable[[Server], Running], tmp_path: Path) -> None:
    """Started after the agent, with workers that are forked before and while they are asked."""
    started = agent("--cmd", f"*{tmp_path}/*")
    running = start(server_named("gunicorn-gevent-tls"))
    work = [Plan(f"/s/200/d/0/b/3/c/0/forked-{number}") for number in range(120)]
    truth = []
    for part in (work[:40], work[40:80], work[80:]):
        truth += load.run(lambda: servers.connect(running), part)
        running.process.send_signal(running.server.forks)
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints[:20])


def talk_with_commands(running: Running, started: Agent, version: str, command: str, answer: bytes) -> None:
    """Three requests on a connection; after each s_client is told something, and says that it does."""
    where = ("-connect", f"127.0.0.1:{running.port}", version, "-quiet", "-no_ign_eof")
    client = subprocess.Popen(
        ["openssl", "s_client", *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert client.stdin
    paths = [f"/s/200/d/0/b/3/c/0/command-{number}" for number in range(3)]
    for path in paths:
        client.stdin.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.stdin.flush()
        assert started.wait_for_path(path)
        client.stdin.write(f"{command}\n".encode())
        client.stdin.flush()
        time.sleep(0.1)
    _, said = client.communicate(timeout=10)
    assert said.count(answer) == len(paths), said
    complaints = compare([plain(path, running) for path in paths], started.stop())
    assert not complaints, "\n".join(complaints)


def test_keys_that_change(agent: StartAgent, start: Callable[[Server], Running]) -> None:
    """TLS 1.3 changes its keys between two requests (RFC 8446, 4.6.3): `K` tells s_client to."""
    running = start(server_named("http-server-tls"))
    talk_with_commands(running, agent("--port", running.port), "-tls1_3", "K", b"KEYUPDATE")


def test_early_data(agent: StartAgent, start: Callable[[Server], Running], tmp_path: Path) -> None:
    """A request that comes with the client's first flight, when a session is resumed (RFC 8446, 2.3)."""
    server = Server(
        "early", ("nginx", "-c", "{folder}/nginx_early.conf"), needs=("nginx",), files=("nginx_early.conf",)
    )
    running = start(server, **certificates()._asdict())
    client = tmp_path / "openssl"
    shutil.copy(shutil.which("openssl") or "", client)
    started = agent("--port", running.port, "--exe", f"*{client}")

    def ask(path: str, early: bool) -> bytes:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        (tmp_path / "request").write_bytes(request)
        session = f"{tmp_path}/session"
        how = ("-sess_in", session, "-early_data", f"{tmp_path}/request") if early else ("-sess_out", session)
        where = ("-connect", f"127.0.0.1:{running.port}", "-tls1_3", "-quiet", "-no_ign_eof")
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [client, "s_client", *where, *how], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        ) as asking:
            assert asking.stdin and asking.stdout
            if not early:
                asking.stdin.write(request)
                asking.stdin.flush()
            said = b""
            while not said.endswith(b"abc") and (more := asking.stdout.read1()):
                said += more
        return said

    ask("/before", early=False)
    for number in range(3):
        assert ask(f"/early-{number}", early=True)  # was taken: s_client does not send it again
    served = [plain(path, running) for path in ("/before", *(f"/early-{number}" for number in range(3)))]
    called = [replace(one, kind=CLIENT, server_port=None, peer_port=running.port) for one in served]
    complaints = compare([*served, *called], started.stop())
    assert not complaints, "\n".join(complaints)


RENEGOTIATING = """
import ctypes, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.accept()  # only to see whether it is up
tls = ctypes.CDLL("libssl.so.3")
for name in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
    getattr(tls, name).restype = ctypes.c_void_p
context = ctypes.c_void_p(tls.SSL_CTX_new(ctypes.c_void_p(tls.TLS_server_method())))
tls.SSL_CTX_set_options(context, ctypes.c_uint64(1 << 8))  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION
assert tls.SSL_CTX_use_certificate_chain_file(context, sys.argv[2].encode()) == 1
assert tls.SSL_CTX_use_PrivateKey_file(context, sys.argv[3].encode(), 1) == 1
session = ctypes.c_void_p(tls.SSL_new(context))
connection, _ = listener.accept()
tls.SSL_set_fd(session, connection.fileno())
assert tls.SSL_accept(session) == 1
buffer, answer = ctypes.create_string_buffer(4096), b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nabc"
while tls.SSL_read(session, buffer, 4096) > 0:
    tls.SSL_write(session, answer, len(answer))
"""


def test_handshakes_within_a_connection(agent: StartAgent, start: Callable[[Server], Running]) -> None:
    """TLS 1.2 negotiates anew between two requests: `R` tells s_client to."""
    server = Server("renegotiating", ("{python}", "-c", RENEGOTIATING, "{port}", "{certificate}", "{key}"))
    running = start(server, **certificates()._asdict())
    started = agent("--pid", running.pid)
    talk_with_commands(running, started, "-tls1_2", "R", b"RENEGOTIATING")


def test_answers_that_nobody_can_get(agent: StartAgent, start: Callable[[Server], Running]) -> None:
    """A client leaves in the middle of a head: Node writes a 400 into the session, though its socket is reset."""
    running = start(server_named("node-tls"))
    started = agent("--port", running.port)
    for number in range(200):
        sock = servers.connect(running)
        sock.sendall(f"GET /s/200/d/0/b/3/c/0/left-{number} HTTP/1.1\r\nHost: x\r\n".encode())
        time.sleep(0.0005 * (number % 8))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    truth = load.run(lambda: servers.connect(running), [Plan("/s/200/d/0/b/3/c/0/whole-1")])
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


POSTPONING = """
import socket, ssl, sys
from concurrent.futures import ThreadPoolExecutor

class End:
    def __init__(self, port):
        self.port, self.unread, self.unsent = port, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.sock = socket.create_connection(("127.0.0.1", int(port)))
        self.tls = context.wrap_bio(self.unread, self.unsent, server_hostname="127.0.0.1")

    def went_on(self, step):
        try:
            return step(self)
        except ssl.SSLWantReadError:
            return False
        finally:
            self.sock.sendall(self.unsent.read())

def shake_hands(end):
    end.tls.do_handshake()
    return True

def take_answer(end):
    while not end.tls.read(1000).endswith(b"xxx"):
        pass
    return True

def all_go_on(step):
    left = [end for end in ends if not end.went_on(step)]
    while left:
        for number, end in enumerate(left):
            data = other_thread.submit(end.sock.recv, 65536).result() if number % 2 else end.sock.recv(65536)
            for other in left[number + 1 : number + 2]:
                assert not other.went_on(step)
            end.unread.write(data)
        left = [end for end in left if not end.went_on(step)]

context, other_thread = ssl.create_default_context(cafile=sys.argv[1]), ThreadPoolExecutor(1)
ends = [End(port) for port in sys.argv[3:]]
if sys.argv[2] == "older":
    all_go_on(shake_hands)
print("up", flush=True)
sys.stdin.readline()
all_go_on(shake_hands)
for number in range(3):
    for end in ends:
        end.tls.write(f"GET /s/200/d/0/b/3/c/0/{end.port}-{number} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    all_go_on(take_answer)
"""


@pytest.mark.parametrize("when", ["older", "newer"])
def test_sessions_that_go_on_later_than_their_sockets_are_read(
    agent: StartAgent, start: Callable[[Server], Running], when: str
) -> None:
    """As in anyio and Trio: whose socket was read is not who goes on next. Another thread reads every other one."""
    server = server_named("http-server-tls")
    ports = [start(replace(server, name=f"{server.name}-{number}")).port for number in range(4)]
    pipe, authority = subprocess.PIPE, certificates().authority
    command = [sys.executable, "-c", POSTPONING, authority, when, *map(str, ports)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as client:
        try:
            assert client.stdout and client.stdout.readline()
            started = agent("--pid", client.pid)
            client.communicate(b"go\n", timeout=20)
        finally:
            client.kill()
    truth = [
        Expected(f"/s/200/d/0/b/3/c/0/{port}-{number}", CLIENT, response_size=3, peer_port=port)
        for port in ports
        for number in range(3)
    ]
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


GNUTLS = """
import ctypes, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.accept()  # only to see whether it is up
tls, credentials, session = ctypes.CDLL("libgnutls.so.30"), ctypes.c_void_p(), ctypes.c_void_p()
tls.gnutls_certificate_allocate_credentials(ctypes.byref(credentials))
assert tls.gnutls_certificate_set_x509_key_file(credentials, sys.argv[2].encode(), sys.argv[3].encode(), 1) == 0
assert tls.gnutls_init(ctypes.byref(session), 1) == 0
tls.gnutls_set_default_priority(session)
tls.gnutls_credentials_set(session, 1, credentials)
connection, _ = listener.accept()
tls.gnutls_transport_set_int2(session, connection.fileno(), connection.fileno())
while tls.gnutls_handshake(session) < 0:
    pass
buffer = ctypes.create_string_buffer(4096)
head, body = b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\n", b"corks"
while (size := tls.gnutls_record_recv(session, buffer, 4096)) > 0:
    said = buffer.raw[:size]
    if b"send2" in said:
        tls.gnutls_record_send2(session, head + body, len(head + body), 0, 0)
    elif b"cork" in said:
        tls.gnutls_record_cork(session)
        tls.gnutls_record_send(session, head, len(head))
        tls.gnutls_record_send(session, body, len(body))
        tls.gnutls_record_uncork(session, 1)
    elif b"range" in said:
        size = len(head + body)
        tls.gnutls_record_send_range(session, head + body, size, (ctypes.c_size_t * 2)(size, size))
    else:
        tls.gnutls_record_send(session, head + body, len(head + body))
"""


def test_ways_of_gnutls_to_send(agent: StartAgent, start: Callable[[Server], Running]) -> None:
    if not ctypes.util.find_library("gnutls"):
        pytest.skip("needs libgnutls")
    server = Server("gnutls", ("{python}", "-c", GNUTLS, "{port}", "{certificate}", "{key}"))
    running = start(server, **certificates()._asdict())
    started = agent("--pid", running.pid)
    truth = []
    context = client_context()
    with context.wrap_socket(socket.create_connection(running.address), server_hostname="127.0.0.1") as secret:
        for number, how in enumerate(("send", "send2", "cork", "range") * 2):
            path = f"/{how}-{number}"
            secret.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            got = b""
            while not got.endswith(b"corks"):
                got += secret.recv(1000)
            truth.append(replace(plain(path, running, peer_port=secret.getsockname()[1]), response_size=5))
    spans = started.stop()
    complaints = compare(truth, spans)
    assert not complaints, "\n".join(complaints)
    assert "lost" not in started.stderr


WAITING = """
import socket, ssl, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.accept()  # only to see whether it is up
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[3:])
secret = context.wrap_socket(listener.accept()[0], server_side=True)
def serve():
    while secret.recv(10000):
        secret.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nabc")
serving = threading.Thread(target=serve)
serving.start()
control, _ = listener.accept()
control.recv(1)
asked_for = socket.create_server(("127.0.0.1", int(sys.argv[2])))
control.sendall(b"!")
serving.join()
"""


def said_within(seconds: float, page: int, text: str) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=10) as response:
            if re.search(text, response.read().decode()):
                return True
        time.sleep(0.2)
    return False


def test_calls_that_began_before_their_process_was_watched_are_counted(
    agent: StartAgent, start: Callable[[Server], Running]
) -> None:
    """What they bring can't be known; another process has the library probed by then."""
    probed = start(server_named("http-server-tls"))
    watched, page = free_port(), free_port()
    ports = ("--port", f"{probed.port},{watched}")
    started = agent(*ports, "--prometheus-port", page, exports=("console", "prometheus"))
    command = ("{python}", "-c", WAITING, "{port}", str(watched), "{certificate}", "{key}")
    waiting = start(Server("waiting", command), **certificates()._asdict())
    secret = client_context().wrap_socket(socket.create_connection(waiting.address), server_hostname="127.0.0.1")
    with secret, socket.create_connection(waiting.address) as control:
        time.sleep(1)  # until it waits in its first call
        control.sendall(b"l")
        assert control.recv(1)
        time.sleep(2)  # until the agent has looked at it, on a busy machine
        for path in ("/within", "/next"):
            secret.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert secret.recv(1000)
        truth = [plain("/next", waiting, peer_port=secret.getsockname()[1])]
        assert said_within(30, page, r'autoinstr_lost_total\{loss="orphan_response"\} 1')
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


FORKING = """
import os, signal, socket, ssl, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[2:])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
while True:
    connection, _ = listener.accept()
    if not os.fork():
        try:
            secret = context.wrap_socket(connection, server_side=True)
            while secret.recv(10000):
                secret.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nabc")
        finally:
            os._exit(0)
    connection.close()
"""


def test_first_request_of_each_worker(agent: StartAgent, start: Callable[[Server], Running]) -> None:
    """A process for each connection: its first call of the library comes right after it was forked."""
    server = Server("forking", ("{python}", "-c", FORKING, "{port}", "{certificate}", "{key}"))
    running = start(server, **certificates()._asdict())
    started = agent("--port", running.port)

    def ask(number: int) -> Expected:
        sock = socket.create_connection(running.address)
        with client_context().wrap_socket(sock, server_hostname="127.0.0.1") as secret:
            secret.sendall(f"GET /worker-{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert secret.recv(1000)
            return plain(f"/worker-{number}", running, peer_port=secret.getsockname()[1])

    with ThreadPoolExecutor(8) as pool:
        truth = list(pool.map(ask, range(SOON_OVER)))
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints[:20])


@pytest.mark.parametrize(
    ("name", "libraries"),
    [
        ("grpcio-tls", ["OpenSSL or BoringSSL in cygrpc"]),
        ("grpc-java-tls", ["JSSE"]),  # that it may use beside the library that it brings, which is read
        ("tonic-tls", ["rustls in grpc-tonic"]),
    ],
)
def test_a_library_that_cant_be_read_is_named(
    agent: StartAgent, start: Callable[[Server], Running], name: str, libraries: list[str]
) -> None:
    """By `targets`, and once in the log; for what is encrypted there is not seen."""
    running = start(servers.by_name(name, GRPC_SERVERS))
    flags = ("--port", str(running.port))
    said = subprocess.run([PROGRAM, "targets", "--json", *flags], check=True, capture_output=True, text=True).stdout
    (target,) = [one for one in json.loads(said)["targets"] if one["pid"] == running.pid]
    (reason,) = [one for one in target["unseen"] if one.startswith("tls: ")]
    assert all(library in reason for library in libraries)
    watching = agent(*flags)
    watching.stop()
    assert [reason in line for line in watching.errors].count(True) == 1
