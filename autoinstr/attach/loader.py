"""Brings an `Image` into the kernel: maps, programs, raw tracepoints. No bcc here: a few bpf(2) calls.

In:  an image. Out: `Attached`. While its descriptors are open the probes are attached; closing them, or the end of this
process for whatever reason, detaches.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import struct
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from autoinstr.attach.image import Image, Map, Program
from autoinstr.attach.limits import Limits
from autoinstr.attach.propagation import PROGRAMS as PROPAGATING
from autoinstr.attach.propagation import attach_way
from autoinstr.attach.uprobes import UPROBE_MULTI, UPROBE_SESSION, FunctionProgram
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
GO_PROBES = ("go_handshake", "go_write", "go_return", "go_read", "go_read_return")
ADDING_PROBES = (  # what only adds something to requests that are told anyway
    *("go_route_pattern", "go_route_gin", "go_route_chi", "go_route_chi_4", "go_route_echo", "go_route_gorilla"),
    *("python_copied", "python_enters", "event_loop_turns", "nghttp2_submits", "nghttp2_submitted"),
    *("go_run_handler", "go_run_handler_x", "go_handle_stream", "go_new_stream", "go_round_trip", "go_look_up"),
    "nghttp2_received",
)
FUNCTION_PROBES = (*TLS_PROBES, RETURN, *GO_PROBES, *ADDING_PROBES)

KPROBE, RAW_TRACEPOINT = 2, 17  # BPF_PROG_TYPE_*; uprobes are of the first
LOAD_AT_ONCE = 2
ATTEMPTS = 5  # a signal interrupts the verifier
LOG_SIZE = 1 << 20
LOG_LINES = 15  # of the verifier's last words
ROLES = (0, 2, 3)
CONTROL = struct.Struct("<20xI")  # struct control in bpf/maps.h: what is known before anything runs


@dataclass(slots=True)
class Attached:
    """Descriptors of what is loaded, by name. `close` detaches."""

    maps: dict[str, int] = field(default_factory=dict)
    programs: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)
    loading: threading.Thread | None = None  # of the programs for functions
    refused: AutoinstrError | None = None  # why there are none
    sessions: bool = False  # programs for functions of TLS libraries run on entry and on return

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

    def wait(self) -> None:
        """Until all is loaded."""
        if self.loading:
            self.loading.join()

    def function_program(self, name: str) -> FunctionProgram | None:
        """A program for functions; they are loaded while the agent starts. None: others do what it is for.
        AutoinstrError if refused.
        """
        self.wait()
        if self.refused and name not in self.programs:
            raise self.refused
        if name == RETURN and self.sessions:
            return None
        return FunctionProgram(self.programs[name], session=self.sessions and name in TLS_PROBES)

    def detach(self) -> None:
        """Detach all probes; maps can still be read."""
        for fd in self.probes.values():
            os.close(fd)
        self.probes.clear()

    def close(self) -> None:
        """Detach all probes and release all maps."""
        self.wait()
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
            size = limits.exchange_ring if one.name == "exchanges" else one.max_entries
            attached.maps[one.name] = create_map(one, size)
        all_programs = {one.name: one for one in image.programs}
        kinds = {name: kind for way in PROPAGATING.values() for name, kind in way.items() if name in all_programs}
        wanted = {name: one for name, one in all_programs.items() if name not in (*FUNCTION_PROBES, *kinds)}
        load_programs(attached, wanted, attached.maps, RAW_TRACEPOINT)
        for name, kind in kinds.items():
            load_programs(attached, {name: all_programs[name]}, attached.maps, kind)
        put_steps(attached, "steps", "")
        update(attached.maps["control"], bytes(4), CONTROL.pack(limits.wake_every(EXCHANGE.itemsize)))
        size = next(one.value_size for one in image.maps if one.name == "aggregate")
        for role in ROLES:
            # where exchanges go that find the aggregate full, too
            update(attached.maps["aggregate"], struct.pack("<IIHBB", 0, 0, 0, role, 0), bytes(size))
    except BaseException:
        attached.close()
        raise
    return attached


def begin_function_programs(image: Image, attached: Attached, plain: Callable[[], Image]) -> None:
    """Begin to load what is for functions, in a thread: it takes as long as all the rest, and most starts need none.

    `plain`: makes the image without sessions, for kernels that refuse them.
    """

    def job() -> None:
        try:
            try:
                load_function_programs(image, attached)
            except AutoinstrError as error:
                if not attached.sessions:
                    raise
                log.debug("trying again without sessions: %s", error)
                load_function_programs(plain(), attached)
        except AutoinstrError as error:
            attached.refused = error

    attached.loading = threading.Thread(target=job, name="programs for functions", daemon=True)
    attached.loading.start()


def load_function_programs(image: Image, attached: Attached) -> None:
    """Load what is for functions, and the steps once more, for the kernel lets no program call one of another kind.

    Go's functions can't have sessions, for these may change the return address: they have steps of their own then.
    """
    attached.sessions = all(one.name != RETURN for one in image.programs)
    if attached.sessions:
        load_with_steps(image, attached, TLS_PROBES, "tls_steps", UPROBE_SESSION)
        load_with_steps(image, attached, GO_PROBES, "go_steps", UPROBE_MULTI)
    else:
        load_with_steps(image, attached, (*TLS_PROBES, RETURN, *GO_PROBES), "tls_steps", UPROBE_MULTI)
    adding = {one.name: one for one in image.programs if one.name in ADDING_PROBES}
    load_programs(attached, adding, attached.maps, KPROBE, UPROBE_MULTI)


def load_with_steps(image: Image, attached: Attached, names: Collection[str], steps: str, purpose: int) -> None:
    """Load these programs, and the steps that they go on with into the map `steps`."""
    maps = attached.maps | {"works": attached.maps["tls_works"]}
    maps |= dict.fromkeys(("steps", "tls_steps", "go_steps"), attached.maps[steps])
    prefix = steps.removesuffix("steps")
    wanted = {one.name: one for one in image.programs if one.name in names}
    wanted |= {prefix + one.name: one for one in image.programs if one.name in STEPS}
    load_programs(attached, wanted, maps, KPROBE, purpose)
    put_steps(attached, steps, prefix)


def put_steps(attached: Attached, steps: str, prefix: str) -> None:
    """Put loaded programs into a map of steps."""
    for index, name in enumerate(STEPS):
        program = attached.programs[prefix + name]
        update(attached.maps[steps], struct.pack("<I", index), struct.pack("<I", program))


def load_programs(
    attached: Attached, wanted: dict[str, Program], maps: dict[str, int], kind: int, purpose: int = 0
) -> None:
    """Load programs, several at a time: the verifier takes a good part of a second for the large ones."""
    with ThreadPoolExecutor(LOAD_AT_ONCE) as pool:
        loading = {name: pool.submit(load_program, program, maps, kind, purpose) for name, program in wanted.items()}
    for name in loading.keys() & attached.programs.keys():  # of an attempt before this one
        os.close(attached.programs.pop(name))
    attached.programs |= {name: one.result() for name, one in loading.items() if not one.exception()}
    for one in loading.values():
        one.result()  # raises, if it was refused


def attach_probes(attached: Attached, propagate: Sequence[str] = ()) -> None:
    """Attach what is loaded; if one probe can't be, all is released. AutoinstrError if the kernel refuses."""
    try:
        for way in propagate:
            attached.probes[f"propagate {way}"] = attach_way(way, attached.programs, attached.maps)
        for probe, tracepoint in PROBES.items():
            for name in (probe + suffix for suffix in COPIES):  # they run in the order in which they are attached
                if name in attached.programs:
                    attached.probes[name] = attach_raw(tracepoint, attached.programs[name])
    except BaseException:
        attached.close()
        raise


def create_map(one: Map, entries: int) -> int:
    """Its descriptor."""
    sizes = (one.type, one.key_size, one.value_size, entries, one.flags)
    attributes = struct.pack("<IIIII8x16s", *sizes, one.name[:15].encode())
    try:
        return bpf(BpfCommand.MAP_CREATE, attributes)
    except OSError as error:
        raise AutoinstrError(f"can't create the eBPF map {one.name}: {error.strerror}{hint(error)}") from error


def load_program(program: Program, maps: dict[str, int], kind: int, purpose: int) -> int:
    """Its descriptor. `kind`: BPF_PROG_TYPE_*; `purpose`: enum bpf_attach_type, where the kernel asks for it."""
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
