"""Real servers that answer the same little protocol, so that the truth is the same for all.

A path says what the answer has to be: `/s/<status>/d/<delay in ms>/b/<bytes>/c/<1: chunked>/<id>`. Bodies of
requests are read to their end. An answer has a field `Clock: <begin> <ready>`, by CLOCK_MONOTONIC in nanoseconds: when
the handler was called and when it had its answer, so that a duration can be held against the server's own clock. A
server is one small file here and one line in `SERVERS`, which is also its row in the score; nginx has its prefixes.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from certificates import certificates, client_context
from ports import free_port

HERE = Path(__file__).resolve().parent
STOP_WITHIN = 3.0
Address = str | tuple[str, int]
SECURE = ("https", "h2", "grpcs")
RPC = ("grpc", "grpcs")
MULTIPLEXED = ("h2c", "h2", *RPC)
START_WITHIN = 60.0  # Java compiles its source first, on a busy machine


@dataclass(frozen=True)
class Server:
    """`{here}`, `{folder}` (its own, empty), `{python}`, `{bin}` and `{port}` are filled in; over TLS `{certificate}`
    and `{key}`, too.
    """

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()  # programs (and files, by their path) without which it is skipped
    build: Sequence[str] = ()
    build_in: str = "{folder}"
    files: Sequence[str] = ()  # copied to its folder, with the same words filled in
    unseen: str = ""  # why nothing of it can be seen
    waits_in_tls: bool = False  # its threads wait within the TLS library for the next request
    words: Mapping[str, str] = field(default_factory=dict)  # more of them
    transport: str = "http"  # one of `TRANSPORTS`; unix: listens at {folder}/socket
    row: str = ""  # the name of the server that this one is but for its transport
    forks: int = 0  # signal that makes it fork another worker
    chunked_up: bool = True
    chunked_down: bool = True
    always: int = 0  # the status that it answers everything with, at once, if it does not know the little protocol
    keeps: bool = False  # connections that its client has left stay open until it ends, with the requests on them
    log: Callable[[Path], Counter[tuple[str, str, int]]] | None = None  # (method, path, status) of its access log
    here: Path = HERE  # of its own files

    @property
    def unix(self) -> bool:
        return self.transport == "unix"

    @property
    def secure(self) -> bool:
        return self.transport in SECURE


class Named(Protocol):
    @property
    def name(self) -> str: ...


Known = TypeVar("Known", bound=Named)


def by_name(name: str, known: Iterable[Known]) -> Known:
    """The one that is called so, of servers, clients, hops ..."""
    return next(one for one in known if one.name == name)


@dataclass
class Running:
    server: Server
    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> Address:
        return str(self.folder / "socket") if self.server.unix else ("127.0.0.1", self.port)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def access_log(folder: Path) -> Counter[tuple[str, str, int]]:
    """Lines that end with `METHOD TARGET STATUS`."""
    lines = (line.split()[-3:] for line in (folder / "access.log").read_text().splitlines())
    return Counter((method, path.split("?")[0], int(status)) for method, path, status in lines)


GUNICORN = (
    *("{bin}/gunicorn", "--chdir", "{here}", "--access-logfile", "{folder}/access.log"),
    *("--access-logformat", "%(m)s %(U)s %(s)s", "--log-level", "warning", "--no-control-socket"),
    *("--keep-alive", "30"),  # longer than an agent takes to start
)
LASTING = ("--timeout-keep-alive", "30")


def gunicorn(name: str, *options: str, **traits: Any) -> Server:
    bind = "unix:{folder}/socket" if traits.get("transport") == "unix" else "127.0.0.1:{port}"
    return Server(name, (*GUNICORN, "-b", bind, *options, "wsgi:app"), log=access_log, forks=signal.SIGTTIN, **traits)


def puma(address: str) -> tuple[str, ...]:
    return "puma", "-q", "-t", "64:64", "-b", address, "{here}/config.ru"


# Its threads are handed what to read and answer by one that waits for all connections.
PUMA = Server("puma", puma("tcp://127.0.0.1:{port}"), needs=("puma",))
PLAIN_SERVERS = (
    Server("http-server", ("{python}", "{here}/threading_http.py", "{port}")),
    gunicorn("gunicorn-sync", "-w", "2"),
    gunicorn("gunicorn-threads", "-w", "2", "--threads", "4"),
    gunicorn("gunicorn-gevent", "-w", "2", "-k", "gevent"),
    gunicorn("gunicorn-unix", "-w", "2", transport="unix", row="gunicorn-sync"),
    Server(
        "uvicorn",
        ("{bin}/uvicorn", "--app-dir", "{here}", "--port", "{port}", "--log-level", "warning", *LASTING, "asgi:app"),
    ),
    Server("aiohttp", ("{python}", "{here}/aiohttp_app.py", "{port}")),
    Server("node", ("node", "{here}/plain_http.js", "{port}"), needs=("node",)),
    Server(
        "go",
        ("{folder}/go-server", "{port}"),
        needs=("go",),
        build=("go", "build", "-o", "{folder}/go-server", "{here}/go_server.go"),
    ),
    Server("java", ("java", "{here}/Server.java", "{port}"), needs=("java", "javac")),
    Server("php", ("php", "-S", "127.0.0.1:{port}", "{here}/router.php"), needs=("php",)),
    Server("webrick", ("ruby", "{here}/webrick.rb", "{port}"), needs=("ruby",)),
    PUMA,
    Server(
        "rust",
        ("{folder}/rust-server", "{port}"),
        needs=("rustc",),
        build=("rustc", "-O", "-o", "{folder}/rust-server", "{here}/std_http.rs"),
    ),
)


def over_tls(name: str, *options: str, waits_in_tls: bool = False) -> Server:
    """The server of that name, with options that make it speak TLS."""
    server = by_name(name, PLAIN_SERVERS)
    return replace(
        server,
        name=f"{name}-tls",
        command=(*server.command, *options),
        transport="https",
        row=server.row or name,
        waits_in_tls=waits_in_tls,
    )


SERVERS = (
    *PLAIN_SERVERS,
    over_tls("http-server", "{certificate}", "{key}", waits_in_tls=True),
    over_tls("gunicorn-gevent", "--certfile", "{certificate}", "--keyfile", "{key}"),
    over_tls("uvicorn", "--ssl-certfile", "{certificate}", "--ssl-keyfile", "{key}"),
    over_tls("aiohttp", "{certificate}", "{key}"),
    over_tls("node", "{certificate}", "{key}"),
    over_tls("go", "{certificate}", "{key}"),
    # OpenSSL in memory, by several threads
    replace(
        PUMA,
        name="puma-tls",
        command=puma("ssl://127.0.0.1:{port}?key={key}&cert={certificate}"),
        transport="https",
        row="puma",
        chunked_up=False,  # Puma 5 answers large ones over TLS with 400
    ),
)
# Stands before two of the others: their addresses are `{node}` (port) and `{gunicorn-unix}` (folder).
NGINX = Server(
    "nginx",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx.conf"),
    needs=("nginx",),
    files=("nginx.conf",),
    log=access_log,
)
# Answers `b/3` itself and hands the rest to {node}: a server and a client at once.
FRONT = Server(
    "nginx",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx_front.conf"),
    needs=("nginx", "node"),
    files=("nginx_front.conf",),
    words={"tls": ""},
    forks=signal.SIGHUP,
)
NGINX_TLS = "ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
FRONT_TLS = replace(FRONT, name="nginx-tls", transport="https", row="nginx", words={"tls": NGINX_TLS})

# HTTP/2


def both(server: Server, name: str, row: str = "") -> tuple[Server, Server]:
    """By prior knowledge, and over TLS with ALPN."""
    secure = (*server.command, "{certificate}", "{key}")
    plain = replace(server, name=f"{name}-h2c", transport="h2c", row=row or name)
    return plain, replace(plain, name=f"{name}-h2", command=secure, transport="h2")


def front(name: str, command: Sequence[str], file: str, plain: str, secure: str, **traits: Any) -> tuple[Server, ...]:
    """One that hands all it gets to {node}, or to whom its file says; what differs is `{tls}`."""
    server = Server(name, command, needs=(command[0], "node"), files=(file,), row=name, **traits)
    return (
        replace(server, name=f"{name}-h2c", transport="h2c", words={"tls": plain}),
        replace(server, name=f"{name}-h2", transport="h2", words={"tls": secure}),
    )


HYPERCORN = (
    *("{bin}/hypercorn", "--config", "{here}/hypercorn.toml", "--bind", "127.0.0.1:{port}", "--keep-alive", "60"),
    *("--access-logfile", "{folder}/access.log", "--access-logformat", "%(m)s %(U)s %(s)s", "{here}/asgi.py:app"),
)
APACHE = ("apache2", "-d", "{folder}", "-f", "{folder}/apache.conf", "-DFOREGROUND")
NGHTTPX = ("nghttpx", "--conf", "{folder}/nghttpx.conf")
H2O_TLS = "ssl:\n    certificate-file: {certificate}\n    key-file: {key}"
NGINX_H2 = NGINX_TLS.replace("ssl;", "ssl http2;")
FRONTS = (
    replace(FRONT, name="nginx-h2c", transport="h2c", row="nginx", words={"tls": "http2"}),
    replace(FRONT, name="nginx-h2", transport="h2", row="nginx", words={"tls": NGINX_H2}),
    *front(
        "apache",
        APACHE,
        "apache.conf",
        "Protocols h2c",
        "Protocols h2\nSSLEngine on\nSSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}",
    ),
    *front(
        "nghttpx",
        NGHTTPX,
        "nghttpx.conf",
        "frontend=127.0.0.1,{port};no-tls",
        "frontend=127.0.0.1,{port}\nprivate-key-file={key}\ncertificate-file={certificate}",
    ),
    *front("h2o", ("h2o", "-c", "{folder}/h2o.conf"), "h2o.conf", "", H2O_TLS),
)
HAPROXY = Server(
    "haproxy", ("haproxy", "-db", "-f", "{folder}/haproxy.conf"), needs=("haproxy", "node"), files=("haproxy.conf",)
)
# Those with one thread or several, in the order of events or not, that hand all they get to {node}
PROXIES = (
    FRONT,
    FRONT_TLS,
    *(server for server in FRONTS if server.row != "apache"),
    HAPROXY,
    replace(HAPROXY, name="haproxy-h2c", transport="h2c", words={"tls": "proto h2"}),
    Server(
        *("lighttpd", ("lighttpd", "-D", "-f", "{folder}/lighttpd.conf")),
        needs=("lighttpd", "node"),
        files=("lighttpd.conf",),
    ),
)
# Serves files and has none
NGHTTPD = Server(
    "nghttpd-h2c",
    ("nghttpd", "-a", "127.0.0.1", "-d", "{folder}", "--no-tls", "{port}"),
    needs=("nghttpd",),
    transport="h2c",
    row="nghttpd",
    always=404,
)
HTTP2_SERVERS = (
    *both(Server("node", ("node", "{here}/http2.js", "{port}"), needs=("node",)), "node"),
    *both(by_name("go", PLAIN_SERVERS), "go"),
    Server("hypercorn-h2c", HYPERCORN, transport="h2c", row="hypercorn", keeps=True, log=access_log),
    Server(
        "hypercorn-h2",
        (*HYPERCORN, "--certfile", "{certificate}", "--keyfile", "{key}"),
        transport="h2",
        row="hypercorn",
        log=access_log,
    ),
    NGHTTPD,
    replace(
        NGHTTPD,
        name="nghttpd-h2",
        command=("nghttpd", "-a", "127.0.0.1", "-d", "{folder}", "{port}", "{key}", "{certificate}"),
        transport="h2",
    ),
)
CACHE = HERE.parents[2] / ".cache"
GRPC_JS = str(CACHE / "node/node_modules/@grpc/grpc-js")
# `make score` sees to these
GRPC_JAVA = str(CACHE / "grpc-java")
TONIC = str(CACHE / "grpc-tonic/release/grpc-tonic")
GRPC_GO: dict[str, Any] = {
    "needs": ("go",),
    "build": ("go", "build", "-o", "{folder}/grpc-go", "."),
    "build_in": str(HERE.parent / "grpc_go"),
}

BORINGSSL = "brings a TLS library without symbols: what it encrypts can't be seen"
UNSEEN = {
    **dict.fromkeys(("grpcio", "grpcio-aio"), BORINGSSL),
    "tonic": "has rustls built in, without symbols: what it encrypts can't be seen",
}


def grpc(name: str, *command: str, **traits: Any) -> tuple[Server, Server]:
    command = (*command, "{port}", "{folder}/access.log")
    plain = Server(name, command, transport="grpc", row=name, log=access_log, **traits)
    secure = (*command, "{certificate}", "{key}")
    return plain, replace(plain, name=f"{name}-tls", command=secure, transport="grpcs", unseen=UNSEEN.get(name, ""))


GRPC_SERVERS = (
    *grpc("grpc-go", "{folder}/grpc-go", "serve", **GRPC_GO),
    *grpc("grpcio", "{python}", "{here}/grpc_echo.py", "sync"),
    *grpc("grpcio-aio", "{python}", "{here}/grpc_echo.py", "aio"),
    *grpc("grpc-js", "node", "{here}/grpc_echo.js", needs=("node", GRPC_JS)),
    *grpc(
        *("grpc-java", "java", "-cp", f"{GRPC_JAVA}/*", "{here}/../grpc_java/GrpcEcho.java"),
        needs=("java", "javac", GRPC_JAVA),
    ),
    *grpc("tonic", TONIC, needs=(TONIC,)),
)


def understood(always: int, plans: list[Any]) -> list[Any]:
    """Without what a server that only knows errors gets wrong: nghttpd sends a body for HEAD then."""
    return [plan for plan in plans if not always or plan.method != "HEAD"]


def missing(server: Server) -> list[str]:
    return lacking(server.needs)


def lacking(needs: Sequence[str]) -> list[str]:
    """Of these programs, and files by their path, those that are not here."""
    return [name for name in needs if not (Path(name).exists() if "/" in name else shutil.which(name))]


def launch(
    server: Server, folder: Path, port: int = 0, environment: dict[str, str] | None = None, **words: object
) -> Running:
    """Start it, with more in its environment and more words to fill in; `wait_up` says when it answers.

    What has to be built is built once in a folder.
    """
    port = port or free_port()
    python = Path(sys.executable)
    own = {"here": server.here, "folder": folder, "python": python, "bin": python.parent, "port": port}
    known: dict[str, object] = {"tls": "", "workers": 2, **server.words, **words, **own}
    if server.secure:
        known |= certificates()._asdict()

    def fill(text: str) -> str:
        for word, value in known.items():
            text = text.replace(f"{{{word}}}", str(value))
        return text

    folder.mkdir(parents=True, exist_ok=True)
    for name in server.files:
        (folder / name).write_text(fill((server.here / name).read_text()))
    if server.build and not (folder / "output").exists():
        subprocess.run([fill(part) for part in server.build], check=True, cwd=fill(server.build_in), timeout=240)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [fill(part) for part in server.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
    return Running(server, process, folder, port)


def connect_tcp(address: Address, timeout: float) -> socket.socket:
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def connect_unix(address: Address, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(address)
    return sock


def connect_tls(address: Address, timeout: float) -> socket.socket:
    return client_context().wrap_socket(connect_tcp(address, timeout), server_hostname=str(address[0]))


def connect_h2(address: Address, timeout: float) -> socket.socket:
    sock = client_context("h2").wrap_socket(connect_tcp(address, timeout), server_hostname=str(address[0]))
    assert sock.selected_alpn_protocol() == "h2"
    return sock


# How to reach a server, by its transport.
TRANSPORTS: dict[str, Callable[[Address, float], socket.socket]] = {
    "http": connect_tcp,
    "unix": connect_unix,
    "https": connect_tls,
    "h2c": connect_tcp,
    "h2": connect_h2,
    "grpc": connect_tcp,
    "grpcs": connect_h2,
}


def connect(running: Running, timeout: float = 20.0) -> socket.socket:
    return TRANSPORTS[running.server.transport](running.address, timeout)


def wait_up(running: Running) -> Running:
    """Until it accepts connections."""
    end = time.monotonic() + START_WITHIN
    while True:
        try:
            connect(running).close()
        except OSError:
            output = (running.folder / "output").read_text()
            assert running.process.poll() is None, f"{running.server.name} ended: {output}"
            assert time.monotonic() < end, f"{running.server.name} is not up: {output}"
            time.sleep(0.05)
        else:
            return running
