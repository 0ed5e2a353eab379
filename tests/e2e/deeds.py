"""Ways in which real servers hand connections about: to children, to threads, to other numbers, to other processes.

In: an accepted connection (or the listener) and the steps to play on it. Each function plays them, in its own way.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial

from certificates import Certificates
from conversation import CLIENT, SERVER, Handler, Step, Turn, blocking, duplicate, play


def in_child(job: Callable[[], None]) -> None:
    """Fork; the child does the job and ends."""
    child = os.fork()
    if child == 0:
        status = 0
        try:
            job()
        except BaseException:  # a child must never return into the parent's code
            traceback.print_exc()
            status = 1
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"child ended with {status}"


def forked(sock: socket.socket, steps: Sequence[Step]) -> None:
    """As an old inetd-like server does: a child for each connection."""
    in_child(lambda: play(sock, SERVER, steps))
    sock.close()


def forked_killed(sock: socket.socket, steps: Sequence[Step]) -> None:
    """The child is the only one that has the connection, and is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        play(sock, SERVER, steps)
        os._exit(1)
    sock.close()
    os.write(writing, b"x")
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)


def turns(steps: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    """The steps before and after the first turn."""
    for number, step in enumerate(steps):
        if isinstance(step, Turn):
            return steps[:number], steps[number + 1 :]
    return steps, ()


def handed_to_child(sock: socket.socket, steps: Sequence[Step]) -> None:
    """The process that began goes on no more: at each turn a child of it does."""
    mine, rest = turns(steps)
    play(sock, SERVER, mine)
    if rest:
        in_child(lambda: handed_to_child(sock, rest))
    sock.close()


def child_accepts(listener: socket.socket, steps: Sequence[Step], handler: Handler) -> None:
    """As prefork servers do: the children accept."""
    in_child(lambda: handler(blocking(listener.accept()[0]), steps))


def passed_over(sock: socket.socket, steps: Sequence[Step]) -> None:
    """The connection travels over a Unix socket to a process that was there before it, and is closed here at once."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        sock.close()
        ours.close()
        _, (number,), _, _ = socket.recv_fds(theirs, 16, 1)
        passed = socket.socket(fileno=number)
        passed.settimeout(None)
        play(passed, SERVER, steps)
        os._exit(0)
    theirs.close()
    socket.send_fds(ours, [b"take this"], [sock.fileno()])
    sock.close()
    _, status = os.waitpid(child, 0)
    ours.close()
    assert status == 0


def on_stdio(sock: socket.socket, steps: Sequence[Step]) -> None:
    """As inetd does: the connection becomes 0 and 1 of a child; steps read from 0 and write to 1."""

    def job() -> None:
        os.dup2(sock.fileno(), 0)
        os.dup2(sock.fileno(), 1)
        sock.close()
        sides = socket.socket(fileno=0), socket.socket(fileno=1)
        for side in sides:
            side.settimeout(None)
        for step in steps:
            step.act(sides[1]) if step.who == SERVER else step.answer(sides[0])

    in_child(job)
    sock.close()


SHELL_SERVER = """
while IFS= read -r line; do
    line=${line%"$(printf '\\r')"}
    [ -z "$line" ] && printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\n' && printf 'shell'
done
"""


def shell_on_stdio(sock: socket.socket, steps: Sequence[Step]) -> None:
    """A shell script behind inetd: reads byte by byte from 0, writes to 1, knows nothing of sockets."""
    subprocess.run(["/bin/sh", "-c", SHELL_SERVER], stdin=sock, stdout=sock, check=True)
    sock.close()


def duplicated(way: str, sock: socket.socket, steps: Sequence[Step]) -> None:
    """Each step happens on a new number of the connection; the old one is closed."""
    for step in steps:
        copy = duplicate(sock, way)
        sock.close()
        sock = copy
        play(sock, SERVER, [step])
    sock.close()


dup_each, dup2_each, fcntl_each = (partial(duplicated, way) for way in ("dup", "dup2", "fcntl"))


def over_another(sock: socket.socket, steps: Sequence[Step]) -> None:
    """dup2 puts the connection over the number of one that carried something else and is closed by it."""
    left, right = socket.socketpair()
    left.sendall(b"GET /invented/pair HTTP/1.1\r\n")
    right.recv(100)
    number = left.detach()
    os.dup2(sock.fileno(), number)
    sock.close()
    copy = socket.socket(fileno=number)
    copy.settimeout(None)
    with copy, right:
        play(copy, SERVER, steps)


def thread_each(sock: socket.socket, steps: Sequence[Step]) -> None:
    """Every step in a thread of its own: none reads what it answers."""
    errors: list[Exception] = []

    def run(step: Step) -> None:
        try:
            play(sock, SERVER, [step])
        except Exception as error:  # raised again below
            errors.append(error)

    with sock:
        for step in steps:
            thread = threading.Thread(target=run, args=(step,))
            thread.start()
            thread.join()
            if errors:
                raise errors[0]


# TLS: the connection goes on as an encrypted one, in any of the ways above that leave the socket to Python


def over_tls(
    handler: Handler, version: ssl.TLSVersion, files: Certificates, sock: socket.socket, steps: Sequence[Step]
) -> None:
    """The server's side; it asks for the client's certificate, too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = context.minimum_version = version
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # an end is told as it is without TLS: by no more bytes
    handler(context.wrap_socket(sock, server_side=True), steps)


def visit_over_tls(files: Certificates, sock: socket.socket, steps: Sequence[Step]) -> None:
    context = ssl.create_default_context(cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    with context.wrap_socket(sock, server_hostname="puppet.test") as secret:
        play(secret, CLIENT, steps)
