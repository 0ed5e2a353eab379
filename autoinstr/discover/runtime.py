"""In which language a process is written, which TLS and HTTP libraries it has, and what of it can't be seen.

In: a process. Out: `Runtime`. What depends on the executable's file alone is kept by (device, inode), since a
hundred workers share one file.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from dataclasses import dataclass

from autoinstr.discover.process import Process
from autoinstr.discover.rings import carry_traffic
from autoinstr.elf import Binary, read_binary
from autoinstr.libraries import LIBRARIES, Unread, mapped_files

MAX_BINARIES = 1024  # executables remembered: more than a busy host runs at a time

# By the executable's base name; the first that matches.
_INTERPRETERS = (
    (re.compile(r"(python|pypy)[\d.]*[a-z]*\Z"), "python"),
    (re.compile(r"(java|javaw)\Z"), "java"),
    (re.compile(r"(node|nodejs|node-?\d+|bun(\.exe)?|deno|electron)\Z"), "nodejs"),
    (re.compile(r"(ruby|jruby|truffleruby)[\d.]*\Z"), "ruby"),
    (re.compile(r"php(-fpm|-cgi)?[\d.]*\Z"), "php"),
    (re.compile(r"perl[\d.]*\Z"), "perl"),
    (re.compile(r"dotnet\Z"), "dotnet"),
    (re.compile(r"beam(\.smp)?\Z"), "erlang"),
    (re.compile(r"R\Z"), "r"),
    (re.compile(r"julia\Z"), "julia"),
    (re.compile(r"lua(jit)?[\d.]*(-.*)?\Z"), "lua"),
    (re.compile(r"(sbcl|clisp|ecl|lx86cl64)\Z"), "lisp"),
    (re.compile(r"racket\Z"), "racket"),
    (re.compile(r"tclsh[\d.]*\Z"), "tcl"),
)
# By a library that only an embedded interpreter maps: uwsgi with Python, a launcher with a JVM.
_EMBEDDED = (
    ("libjvm.so", "java"),
    ("libcoreclr.so", "dotnet"),
    ("libpython", "python"),
    ("libnode.so", "nodejs"),
    ("libruby", "ruby"),
    ("libphp", "php"),
    ("libperl.so", "perl"),
)
_LIBRARIES = re.compile(
    rb"/((?:libssl|libcrypto|libgnutls|libnss3|libssl3|libnspr4|libmbedtls|libwolfssl|libs2n|libboringssl|librustls"
    rb"|libnghttp2|libnghttp3|libcurl|libgrpc|libpython|libjvm|libcoreclr|libnode|libruby|libphp|libperl"
    rb"|System\.Security\.Cryptography\.Native\.OpenSsl)[^/\n]*?\.so[^/\n]*?)(?: \(deleted\))?\n"
)
# Linked into the executable itself, where no shared library shows it.
_STATIC = {
    "node": ("openssl (static)", "nghttp2 (static)"),
    "bun": ("boringssl (static)",),
    "bun.exe": ("boringssl (static)",),  # as npm's package calls it, on every system
    "deno": ("rustls (static)",),
    "envoy": ("boringssl (static)", "nghttp2 (static)"),
}
_BUILT_IN_TLS = {"java": "JSSE", "erlang": "Erlang's ssl"}


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs in a process."""

    language: str
    libraries: tuple[str, ...]
    unseen: tuple[str, ...]  # "io_uring: why ..."
    go_path: str = ""


class Runtimes:
    """Looks at processes, and remembers executables."""

    def __init__(self) -> None:
        self._binaries: OrderedDict[tuple[int, int, int], Binary] = OrderedDict()
        self._unread = Unread(LIBRARIES)

    def look(self, process: Process) -> Runtime:
        """Everything, with the process's mappings and descriptors as they are now."""
        binary = self.binary(process)
        language = _language(process, binary)
        libraries = find_libraries(process)
        tls = [name for file in mapped_files(process.pid, process.maps) if (name := self._unread.tls_in(file))]
        if language in _BUILT_IN_TLS:
            tls.append(_BUILT_IN_TLS[language])
        return Runtime(language, libraries, tuple(_unseen(process, binary, tls)), binary.go_path)

    def binary(self, process: Process) -> Binary:
        """The headers of its executable, by way of /proc: right for deleted files and other mount namespaces too."""
        try:
            descriptor = os.open(f"/proc/{process.pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            process.denied = True
            return Binary()
        except OSError:
            return Binary()
        try:
            status = os.fstat(descriptor)
            key = (status.st_dev, status.st_ino, status.st_mtime_ns)
            if key not in self._binaries:
                self._binaries[key] = read_binary(descriptor)
                if len(self._binaries) > MAX_BINARIES:
                    self._binaries.popitem(last=False)
            return self._binaries[key]
        finally:
            os.close(descriptor)


def find_libraries(process: Process) -> tuple[str, ...]:
    """File names of the TLS, HTTP and interpreter libraries that it has mapped or built in, sorted."""
    names = {found.decode(errors="replace") for found in set(_LIBRARIES.findall(process.maps))}
    static: tuple[str, ...] = ()
    if not any(name.startswith("libnode") for name in names):
        static = _STATIC.get(process.exe.rpartition("/")[2], ())
    return (*sorted(names), *static)


def interpreter(exe: str) -> str:
    """The language whose interpreter this executable is; empty if it is none."""
    name = exe.rpartition("/")[2]
    return next((language for pattern, language in _INTERPRETERS if pattern.match(name)), "")


def _language(process: Process, binary: Binary) -> str:
    found = interpreter(process.exe) or binary.language
    if found:
        return found
    for library, language in _EMBEDDED:
        if f"/{library}".encode() in process.maps:
            return language
    return "cpp" if binary.bits else "unknown"


def _unseen(process: Process, binary: Binary, tls: list[str]) -> list[str]:
    """What the capture can't see of it, each with the reason and what follows. `tls`: libraries that can't be read."""
    reasons: list[str] = []
    if carry_traffic(process):
        reasons.append("io_uring: it has a ring open; what it sends or receives through that is not seen")
    if binary.bits == 32:
        reasons.append("32-bit: system calls of 32-bit programs are not seen")
    if tls:
        names = ", ".join(sorted(set(tls)))
        reasons.append(f"tls: {names} has no functions that are known; TLS connections by it are not seen")
    return reasons
