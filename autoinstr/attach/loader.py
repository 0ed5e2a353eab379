"""Brings an `Image` into the kernel: maps, programs, raw tracepoints. No bcc here: a few bpf(2) calls.

In:  an image. Out: `Attached`. While its descriptors are open the probes are attached; closing them, or the end of this
process for whatever reason, detaches.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import re
import resource
import struct
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from autoinstr.attach.image import Image, Map, Program
from autoinstr.attach.limits import Limits
from autoinstr.attach.private_stack import NO_PROGRAMS, gives_private_stacks, without_private_stack
from autoinstr.attach.propagation import MESSAGE_STEPS, PLACES, attach_way
from autoinstr.attach.propagation import PROGRAMS as PROPAGATING
from autoinstr.attach.uprobes import KPROBE, UPROBE_MULTI, UPROBE_SESSION, FunctionProgram
from autoinstr.bpf_call import BpfCommand, bpf, update
from autoinstr.capture.abi import EXCHANGE
from autoinstr.errors import AutoinstrError

log = logging.getLogger(__name__)

# program -> raw tracepoint; the system calls last, when all is in place
PROBES: dict[str, str] = {
    "sched_process_fork": "sched_process_fork",
    "sched_process_exec": "sched_process_exec",
    "sched_process_exit": "sched_process_exit",
    "inet_sock_set_state": "inet_sock_set_state",
    "tcp_destroy_sock": "tcp_destroy_sock",
    "sys_enter": "sys_enter",
    "sys_exit": "sys_exit",
}
# called by others, in the order of enum STEP_* (bpf/maps.h)
STEPS = ("step", "chunks", "lost", "frames", "only_count", "finish", "place", "place_streams")
COUNTING = "count_calls"  # attached while somebody wants to know: see tally.py
COPIES = ("", "_2", "_3")  # of a probe, by the suffix of its name, where one is not enough (bpf/lib/probe.h)

# by uprobes, as libraries/ says; RETURN is not there where the others run on return, too (bpf/probes/tls.h)
TLS_PROBES = ("tls_handshake", "tls_flush", "tls_read", "tls_read_ex", "tls_write", "tls_write_ex", "tls_free")
RETURN = "tls_return"
GO_PROBES = ("go_handshake", "go_write", "go_written", "go_return", "go_read_copy", "go_read", "go_read_return")
ADDING_PROBES = (  # what only adds something to requests that are told anyway
    *("go_route_pattern", "go_route_gin", "go_route_chi", "go_route_chi_4", "go_route_echo", "go_route_gorilla"),
    *("python_copied", "python_enters", "nghttp2_submits", "nghttp2_submitted"),
    *("event_loop_turns", "pool_work_begins", "pool_work_ends", "pool_request_begins", "pool_request_ends"),
    *("go_run_handler", "go_run_handler_x", "go_handle_stream", "go_round_trip", "go_look_up"),
    *("go_new_stream", "go_new_stream_made", "nghttp2_received"),
)
FUNCTION_PROBES = (*TLS_PROBES, RETURN, *GO_PROBES, *ADDING_PROBES)
# groups that are loaded together, when the first of one is needed
GROUPS = {"tls": (*TLS_PROBES, RETURN), "go": GO_PROBES, "adding": ADDING_PROBES}

RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
LRU_HASH = 9  # BPF_MAP_TYPE_LRU_HASH
KEPT_FREE = 128
LRU_SHARES = (6, 16)
# What the verifier works longest on, which the number of instructions does not tell: first, else all wait for one.
LONG = ("frames", "sys_exit", "place_streams", "step")
MOST_AT_ONCE = 4  # programs that are loaded: what the verifier keeps of one may be tens of MB
ATTEMPTS = 5  # a signal interrupts the verifier
LOG_SIZE = 1 << 20
LOG_LINES = 15  # of the verifier's last words
ROLES = (0, 2, 3)
CONTROL = struct.Struct("<20xI8x")  # struct control in bpf/maps.h: what is known before anything runs


@dataclass(slots=True)
class Attached:
    """Descriptors of what is loaded, by name. `close` detaches."""

    maps: dict[str, int] = field(default_factory=dict)
    programs: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)
    functions: FunctionPrograms | None = None

    def by_probe(self) -> list[list[int]]:
        """Descriptors of the programs that are attached, a list a probe: its copies."""
        return list(self.named_probes().values())

    def named_probes(self) -> dict[str, list[int]]:
        """The same, by the name of the probe."""
        names = {probe: [probe + suffix for suffix in COPIES] for probe in PROBES}
        names |= {name: [name] for name in (*FUNCTION_PROBES, *(name for way in PROPAGATING.values() for name in way))}
        found = {
            probe: [self.programs[name] for name in copies if name in self.programs] for probe, copies in names.items()
        }
        return {probe: programs for probe, programs in found.items() if programs}

    def load_rest(self) -> None:
        """Begin to load what was not needed so far, so that nobody waits for it later; from any thread."""
        if self.functions:
            for group in GROUPS:
                self.functions.begin(group)

    def wait(self) -> None:
        """Until all is loaded that is being loaded. AutoinstrError if some of it was refused."""
        if self.functions:
            self.functions.wait()

    def function_program(self, name: str) -> FunctionProgram | None:
        """A program for functions; they are loaded when they are needed. None: others do what it is for.
        AutoinstrError if refused.
        """
        if name in PROPAGATING["go"]:
            return FunctionProgram(self.programs[name])
        assert self.functions
        self.functions.begin(next(group for group, names in GROUPS.items() if name in names)).result()
        if name == RETURN and self.functions.sessions:
            return None
        return FunctionProgram(self.programs[name], session=self.functions.sessions and name in TLS_PROBES)

    def detach(self) -> None:
        """Detach all probes; maps can still be read."""
        for fd in self.probes.values():
            os.close(fd)
        self.probes.clear()

    def close(self) -> None:
        """Detach all probes and release all maps."""
        if self.functions:
            self.functions.close()
        self.detach()
        for group in (self.programs, self.maps):
            for fd in group.values():
                os.close(fd)
            group.clear()


def programs(copies: int, propagate: Sequence[str] = (), *, sessions: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of all programs, with so many copies of each probe, and what these ways to propagate take.

    In two parts that take as long to compile.

    `sessions`: as in `Attached`.
    """
    functions = [name for name in FUNCTION_PROBES if name != RETURN or not sessions]
    copied = (name + suffix for name in PROBES for suffix in COPIES[:copies])
    return STEPS, (COUNTING, *functions, *copied, *(name for way in propagate for name in PROPAGATING[way]))


def load(image: Image, limits: Limits) -> Attached:
    """Create maps and load programs; nothing is attached yet. AutoinstrError if the kernel refuses."""
    # Linux before 5.11 counts maps as locked memory
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    attached = Attached()
    try:
        for one in image.maps:
            size = limits.exchange_ring if one.name == "exchanges" else entries(one)
            attached.maps[one.name] = create_map(one, size)
        all_programs = {one.name: one for one in image.programs}
        kinds = {name: kind for way in PROPAGATING.values() for name, kind in way.items() if name in all_programs}
        wanted = {name: one for name, one in all_programs.items() if name not in (*FUNCTION_PROBES, *kinds)}
        load_programs(attached, wanted, attached.maps, RAW_TRACEPOINT)
        for name, kind in kinds.items():
            purpose = UPROBE_MULTI if kind == KPROBE else PLACES.get(kind, 0)
            load_programs(attached, {name: all_programs[name]}, attached.maps, kind, purpose)
        put_steps(attached, "steps", STEPS)
        if "message_steps" in attached.maps:
            put_steps(attached, "message_steps", MESSAGE_STEPS)
        update(attached.maps["control"], bytes(4), CONTROL.pack(limits.wake_every(EXCHANGE.itemsize)))
        size = next(one.value_size for one in image.maps if one.name == "aggregate")
        for role in ROLES:
            # where exchanges go that find the aggregate full, too
            update(attached.maps["aggregate"], struct.pack("<IIHBB", 0, 0, 0, role, 0), bytes(size))
    except BaseException:
        attached.close()
        raise
    return attached


class FunctionPrograms:
    """Loads what is for functions, in a thread, a group after the other: each takes as long as all the rest, and most
    runs need one of them before they are ready.

    `plain`: makes the image without sessions, for kernels that refuse them.
    """

    def __init__(self, image: Image, attached: Attached, plain: Callable[[], Image]) -> None:
        self.sessions = all(one.name != RETURN for one in image.programs)  # of functions of TLS libraries
        self._image = image
        self._attached = attached
        self._plain = plain
        self._pool = ThreadPoolExecutor(1, "programs for functions")
        self._lock = threading.Lock()
        self._groups: dict[str, Future[None]] = {}

    def begin(self, group: str) -> Future[None]:
        """Load a group, if nobody has begun to; raises AutoinstrError if it is refused."""
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._pool.submit(self._load, group)
            return self._groups[group]

    def wait(self) -> None:
        """Until nothing is being loaded. AutoinstrError if something was refused."""
        with self._lock:
            groups = list(self._groups.values())
        for one in groups:
            one.exception()
        for one in groups:
            one.result()

    def close(self) -> None:
        """What has not begun is not loaded any more."""
        self._pool.shutdown(cancel_futures=True)

    def _load(self, group: str) -> None:
        try:
            self._load_group(group)
        except AutoinstrError as error:
            if not (self.sessions and group == "tls"):
                raise
            log.debug("trying again without sessions: %s", error)
            self._image, self.sessions = self._plain(), False
            self._load_group(group)

    def _load_group(self, group: str) -> None:
        """Steps have to be there once more, for the kernel lets no program call one of another kind.

        Go's functions can't have sessions, for these may change the return address: they have steps of their own then.
        """
        if group == "adding":
            adding = {one.name: one for one in self._image.programs if one.name in ADDING_PROBES}
            load_programs(self._attached, adding, self._attached.maps, KPROBE, UPROBE_MULTI)
        elif self.sessions and group == "tls":
            load_with_steps(self._image, self._attached, TLS_PROBES, "tls_steps", UPROBE_SESSION)
        elif self.sessions:
            load_with_steps(self._image, self._attached, GO_PROBES, "go_steps", UPROBE_MULTI)
        elif RETURN not in self._attached.programs:
            both = (*GROUPS["tls"], *GROUPS["go"])
            load_with_steps(self._image, self._attached, both, "tls_steps", UPROBE_MULTI)


def load_with_steps(image: Image, attached: Attached, names: Collection[str], steps: str, purpose: int) -> None:
    """Load these programs, and the steps that they go on with into the map `steps`."""
    maps = attached.maps | {"works": attached.maps["tls_works"]}
    maps |= dict.fromkeys(("steps", "tls_steps", "go_steps"), attached.maps[steps])
    prefix = steps.removesuffix("steps")
    wanted = {one.name: one for one in image.programs if one.name in names}
    wanted |= {prefix + one.name: one for one in image.programs if one.name in STEPS}
    load_programs(attached, wanted, maps, KPROBE, purpose)
    put_steps(attached, steps, [prefix + name for name in STEPS])


def put_steps(attached: Attached, steps: str, names: Sequence[str]) -> None:
    """Put loaded programs into a map of steps."""
    for index, name in enumerate(names):
        update(attached.maps[steps], struct.pack("<I", index), struct.pack("<I", attached.programs[name]))


def load_programs(
    attached: Attached, wanted: dict[str, Program], maps: dict[str, int], kind: int, purpose: int = 0
) -> None:
    """Load programs, several at a time, long ones first: the verifier takes a good part of a second for them."""
    order = {name: number for number, name in enumerate(LONG)}
    by_work = sorted(wanted.items(), key=lambda item: (order.get(item[1].name, len(LONG)), -len(item[1].instructions)))
    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        loading = {name: pool.submit(load_program, program, maps, kind, purpose) for name, program in by_work}
    for name in loading.keys() & attached.programs.keys():  # of an attempt before this one
        os.close(attached.programs.pop(name))
    attached.programs |= {name: one.result() for name, one in loading.items() if not one.exception()}
    for one in loading.values():
        one.result()  # raises, if it was refused


def attach_probes(attached: Attached, propagate: Sequence[str] = ()) -> None:
    """Attach what is loaded; if one probe can't be, all is released. AutoinstrError if the kernel refuses."""
    try:
        for way in propagate:
            attached.probes |= attach_way(way, attached.programs, attached.maps)
        for probe, tracepoint in PROBES.items():
            for name in (probe + suffix for suffix in COPIES):  # they run in the order in which they are attached
                if name in attached.programs:
                    attached.probes[name] = attach_raw(tracepoint, attached.programs[name])
    except BaseException:
        attached.close()
        raise


def entries(one: Map, processors: int = 0, release: str = "") -> int:
    """How many a map gets, so that at least half of what it is to hold stays there.

    Before Linux 6.16 each processor keeps free entries of an LRU hash to itself (LOCAL_FREE_TARGET), and one that finds
    none pushes out what is in use. `processors`: possible ones; `release`: as uname(2) says it; both of this host.
    """
    version = re.match(r"(\d+)\.(\d+)", release or platform.release())
    if one.type != LRU_HASH or (version and (int(version[1]), int(version[2])) >= LRU_SHARES):
        return one.max_entries
    return max(one.max_entries, one.max_entries // 2 + KEPT_FREE * ((processors or possible_processors()) + 1))


def possible_processors() -> int:
    """Those that may come to be used, too: their numbers are told as "0-7"."""
    return int(re.split("[-,]", Path("/sys/devices/system/cpu/possible").read_text())[-1]) + 1


def create_map(one: Map, size: int) -> int:
    """Its descriptor. `size`: entries, or bytes of a ring."""
    sizes = (one.type, one.key_size, one.value_size, size, one.flags)
    attributes = struct.pack("<IIIII8x16s", *sizes, one.name[:15].encode())
    try:
        return bpf(BpfCommand.MAP_CREATE, attributes)
    except OSError as error:
        raise AutoinstrError(f"can't create the eBPF map {one.name}: {error.strerror}{hint(error)}") from error


def load_program(program: Program, maps: dict[str, int], kind: int, purpose: int) -> int:
    """Its descriptor. `kind`: BPF_PROG_TYPE_*; `purpose`: enum bpf_attach_type, where the kernel asks for it."""
    may_have_stack = kind in (KPROBE, RAW_TRACEPOINT) and gives_private_stacks()
    safe = without_private_stack(program) if may_have_stack else program
    if safe is program:
        return load_instructions(program, maps, kind, purpose)
    no_programs = create_map(NO_PROGRAMS, NO_PROGRAMS.max_entries)
    try:
        return load_instructions(safe, maps | {NO_PROGRAMS.name: no_programs}, kind, purpose)
    finally:
        os.close(no_programs)


def load_instructions(program: Program, maps: dict[str, int], kind: int, purpose: int) -> int:
    """The same, of the program as it is."""
    code = bytearray(program.instructions)
    for at, name in program.relocations:
        struct.pack_into("<i", code, 8 * at + 4, maps[name])
    instructions = ctypes.create_string_buffer(bytes(code), len(code))
    licence = ctypes.create_string_buffer(b"GPL")

    def attempt(log: ctypes.Array[ctypes.c_char] | None) -> int:
        attributes = struct.pack(
            "<IIQQIIQII16sII",
            kind,
            len(code) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            1 if log else 0,
            len(log) if log else 0,
            ctypes.addressof(log) if log else 0,
            0,
            0,
            program.name[:15].encode(),
            0,
            purpose,
        )
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(BlockingIOError):
                return bpf(BpfCommand.PROG_LOAD, attributes)
        return bpf(BpfCommand.PROG_LOAD, attributes)

    try:
        return attempt(None)
    except OSError as error:
        log = ctypes.create_string_buffer(LOG_SIZE)
        with contextlib.suppress(OSError):
            return attempt(log)  # only to hear why
        words = "\n".join(log.value.decode(errors="replace").splitlines()[-LOG_LINES:])
        said = f"can't load the eBPF program {program.name}: {error.strerror}{hint(error)}\n{words}"
        raise AutoinstrError(said.rstrip()) from error


def attach_raw(tracepoint: str, program: int) -> int:
    """Descriptor of the link."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    try:
        return bpf(BpfCommand.RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name), program))
    except OSError as error:
        said = f"can't attach to the raw tracepoint {tracepoint}: {error.strerror}{hint(error)}"
        raise AutoinstrError(said) from error


def hint(error: OSError) -> str:
    """What a user can do about it."""
    if isinstance(error, PermissionError):
        return ": this needs root, or CAP_BPF and CAP_PERFMON; `autoinstr check` tells what is missing"
    return ""
