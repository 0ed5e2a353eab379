"""What this host allows: one function a question, each an entry of `QUESTIONS`.

In: /proc, /sys, bpf(2) tried for an instant, bcc imported in a process of its own (it costs 100 MB). Out: `Finding`s.
Must never change anything, and never raise: an answer that can't be had is an answer.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from autoinstr.cli import bpf_trial
from autoinstr.errors import AutoinstrError

if TYPE_CHECKING:
    from autoinstr.attach.btf import Btf

KERNEL = (5, 10)
TRACEPOINTS = (
    "sys_enter",
    "sys_exit",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "inet_sock_set_state",
    "tcp_destroy_sock",
)
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO
_BCC_TIMEOUT = 60

_CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_AS_ROOT = (
    "run it as root; in a container with --privileged, or --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE"
    " --cap-add DAC_READ_SEARCH and a seccomp profile that allows bpf(2)"
)
_BCC_PACKAGES = {
    "debian": "apt-get install python3-bpfcc",
    "ubuntu": "apt-get install python3-bpfcc",
    "fedora": "dnf install python3-bcc",
    "rhel": "dnf install python3-bcc",
    "centos": "dnf install python3-bcc",
    "amzn": "dnf install python3-bcc",
    "arch": "pacman -S python-bcc",
    "alpine": "apk add py3-bcc",
    "suse": "zypper install python3-bcc",
    "opensuse": "zypper install python3-bcc",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `state`: "ok", "missing", or "info" (nothing is lost, but good to know)."""

    name: str
    state: str
    detail: str
    required: bool = False  # `run` can't work without it
    cost: str = ""  # what is lost
    remedy: str = ""  # how to get it

    @property
    def fatal(self) -> bool:
        return self.required and self.state == "missing"


def read_text(path: str) -> str:
    """A small file; empty if it can't be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def check_kernel(release: str = "") -> Finding:
    """Linux 5.10: ring buffers, and reads of user memory that say whether they failed."""
    release = release or platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    detail = f"Linux {release} on {platform.machine()}"
    if platform.system() == "Linux" and found and (int(found[1]), int(found[2])) >= KERNEL:
        return Finding("kernel", "ok", detail, required=True)
    return Finding(
        "kernel",
        "missing",
        detail,
        True,
        "the eBPF programs do not load",
        "use Linux 5.10 or newer (Debian 11, RHEL 9)",
    )


def check_bpf() -> Finding:
    """Is bpf(2) there, and allowed?"""
    try:
        bpf_trial.try_map()
    except OSError as error:
        return _refused("bpf", "a map can't be made", error)
    return Finding("bpf", "ok", "bpf(2) works", required=True)


def check_ring_buffer() -> Finding:
    """The map type that records travel in."""
    try:
        bpf_trial.try_ring()
    except OSError as error:
        return _refused("ring buffer", "a ring buffer can't be made", error)
    return Finding("ring buffer", "ok", "a ring buffer can be made", required=True)


def check_tracepoints() -> Finding:
    """Every raw tracepoint that the capture attaches to."""
    for name in TRACEPOINTS:
        try:
            bpf_trial.try_raw_tracepoint(name)
        except OSError as error:
            return _refused("tracepoints", f"raw tracepoint {name} can't be attached", error)
    return Finding("tracepoints", "ok", f"raw tracepoints attach: {', '.join(TRACEPOINTS)}", required=True)


def _refused(name: str, what: str, error: OSError) -> Finding:
    remedy = {
        errno.EPERM: _AS_ROOT,
        errno.EACCES: _AS_ROOT,
        errno.ENOSYS: "use a kernel with CONFIG_BPF_SYSCALL",
        errno.ENOENT: "use a kernel with CONFIG_FTRACE_SYSCALLS and CONFIG_TRACEPOINTS",
        errno.EINVAL: "use Linux 5.10 or newer",
    }.get(error.errno or 0, "see dmesg")
    return Finding(name, "missing", f"{what}: {error.strerror}", True, "nothing can be captured", remedy)


def check_programs() -> Finding:
    """Our own programs, compiled for this kernel, before its verifier; not attached."""
    from autoinstr.attach import Limits, rehearse  # noqa: PLC0415 - numpy and more, which other questions don't need

    try:
        count = rehearse(Limits())
    except AutoinstrError as error:
        return Finding("programs", "missing", str(error), True, "nothing can be captured", "see the lines above")
    return Finding("programs", "ok", f"{count} eBPF programs load, and are compiled for the next start", required=True)


def check_btf() -> Finding:
    """The kernel's own description of its structures."""
    path = "/sys/kernel/btf/vmlinux"
    if os.access(path, os.R_OK):
        return Finding("BTF", "ok", path, required=True)
    why = "is not readable" if Path(path).exists() else "is not there"
    return Finding(
        "BTF",
        "missing",
        f"{path} {why}",
        True,
        "where the kernel keeps addresses and states of sockets is not known",
        "use a kernel with CONFIG_DEBUG_INFO_BTF (all large distributions since 2021); in a container mount /sys",
    )


@cache
def kernel_types() -> Btf | None:
    """The kernel's BTF; None if it can't be had, which `check_btf` tells."""
    from autoinstr.attach.btf import VMLINUX, Btf  # noqa: PLC0415 - its package imports numpy

    try:
        return Btf(VMLINUX.read_bytes())
    except (OSError, ValueError):
        return None


def kernel_has(struct: str, member: str = "") -> bool:
    """Does the kernel know this structure, with this member? No if that can't be told."""
    types = kernel_types()
    try:
        found = types and (types.offset(struct, member) if member else types.size(struct))
    except KeyError:
        return False
    return found is not None


def check_skipped_runs() -> Finding:
    """Linux 5.12: how often a program was not run, since one of its own was being run there."""
    if kernel_has("bpf_prog_info", "recursion_misses"):
        return Finding("skipped runs", "ok", "runs of eBPF programs that the kernel skips are counted")
    return Finding(
        "skipped runs",
        "missing",
        "this kernel does not count runs of eBPF programs that it skips",
        cost="autoinstr.lost has no probe_missed; nothing goes missing, since kernels before 6.2 skip none of ours",
        remedy="use Linux 5.12 or newer",
    )


def check_map_memory() -> Finding:
    """Linux 5.11: memory of maps belongs to the control group, before that to what a user may lock."""
    if not kernel_has("bpf_map_memory"):
        return Finding("map memory", "ok", "eBPF maps count for the control group")
    return Finding(
        "map memory",
        "missing",
        "eBPF maps count as locked memory (RLIMIT_MEMLOCK), not for the control group",
        cost="`run` lifts that limit, which takes root or CAP_SYS_RESOURCE; a control group's memory limit does not"
        " see the maps",
        remedy="use Linux 5.11 or newer; without CAP_SYS_RESOURCE set `ulimit -l 65536` before",
    )


def check_bcc() -> Finding:
    """Can this interpreter import bcc? Asked in a process of its own."""
    answer = _python(sys.executable, "import bcc; print(getattr(bcc, '__version__', 'of unknown version'))")
    if answer.returncode == 0:
        return Finding("bcc", "ok", f"bcc {answer.stdout.strip()} for {sys.executable}", required=True)
    last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
    return Finding(
        "bcc", "missing", f"{sys.executable}: {last}", True, "the eBPF programs can't be compiled", bcc_remedy()
    )


def bcc_remedy() -> str:
    """How to get bcc on this distribution, and into this interpreter."""
    system = "/usr/bin/python3"
    if Path(system).exists() and _python(system, "import bcc").returncode == 0:
        return (
            f"bcc is installed for {system} but not seen by {sys.executable}: make the virtual environment with"
            f" `{system} -m venv --system-site-packages`"
        )
    release = dict(re.findall(r'^(ID|ID_LIKE)="?(.*?)"?$', read_text("/etc/os-release"), re.MULTILINE))
    for name in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]:
        if command := _BCC_PACKAGES.get(name.partition("-")[0]):
            return f"{command} (it belongs to {system}; a virtual environment needs --system-site-packages)"
    return "install your distribution's bcc for Python: python3-bpfcc, python3-bcc or python-bcc"


def _python(interpreter: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [interpreter, "-c", code]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_BCC_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def check_privileges(status: str = "") -> Finding:
    """Effective capabilities."""
    has = capabilities(status or read_text("/proc/self/status"))
    missing = [] if "CAP_SYS_ADMIN" in has else [name for name in ("CAP_BPF", "CAP_PERFMON") if name not in has]
    if missing:
        detail = f"without {' and '.join(missing)} (or CAP_SYS_ADMIN), as user {os.geteuid()}"
        return Finding("privileges", "missing", detail, True, "eBPF programs can't be loaded", _AS_ROOT)
    return Finding("privileges", "ok", ", ".join(sorted(has)), required=True)


def check_other_processes(status: str = "") -> Finding:
    """May other users' processes be looked at?"""
    has = capabilities(status or read_text("/proc/self/status"))
    missing = [name for name in ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH") if name not in has]
    if missing:
        cost = "processes of other users are not matched by port or executable, nor named by their environment"
        return Finding("other users' processes", "missing", f"without {' and '.join(missing)}", False, cost, _AS_ROOT)
    return Finding("other users' processes", "ok", "can be looked at")


def capabilities(status: str) -> set[str]:
    """Those of the effective set that matter here."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return {name for name, bit in _CAPABILITIES.items() if mask >> bit & 1}


def check_uprobes() -> Finding:
    """For TLS libraries; before Linux 6.6 the kernel wants more than CAP_PERFMON for them."""
    path = "/sys/bus/event_source/devices/uprobe/type"
    if Path(path).exists():
        return Finding("uprobes", "ok", "available, for TLS; before Linux 6.6 they need CAP_SYS_ADMIN")
    return Finding(
        "uprobes",
        "missing",
        f"{path} is not there",
        cost="TLS is not seen",
        remedy="use a kernel with CONFIG_UPROBES and CONFIG_UPROBE_EVENTS",
    )


def check_cgroup() -> Finding:
    """Unified control groups."""
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if Path(path, "cgroup.controllers").exists():
            return Finding("cgroup v2", "ok", path)
    return Finding(
        "cgroup v2",
        "missing",
        "no unified hierarchy is mounted",
        cost="--propagate; container ids are also found in cgroup v1",
        remedy="boot with systemd.unified_cgroup_hierarchy=1; in a container mount /sys/fs/cgroup",
    )


def check_propagation(way: str) -> Finding:
    """May trace contexts be carried to other hosts in this way? Tried, but on no process that is watched."""
    from autoinstr.attach.propagation import why_not  # noqa: PLC0415 - its package imports numpy

    name = f"--propagate {way}"
    reason = why_not(way)
    if not reason:
        return Finding(name, "ok", "trace contexts can be carried to other hosts, if that is asked for")
    remedy = {
        "headers": "use `--propagate tcp`, which does without",
        "go": "CAP_SYS_ADMIN, and no lockdown; or another way",
    }.get(way, "as for bpf and cgroup v2")
    return Finding(name, "missing", reason, cost="`run` refuses it", remedy=remedy)


def check_pid_namespace() -> Finding:
    """Whose processes /proc shows."""
    if read_link("/proc/self") != str(os.getpid()):
        return Finding(
            "PID namespace",
            "missing",
            "/proc is that of another PID namespace",
            True,
            "processes can't be told apart",
            "mount /proc in the agent's namespace (unshare --pid --fork --mount-proc)",
        )
    namespace = read_link("/proc/self/ns/pid")
    if namespace == _INITIAL_PID_NAMESPACE:
        return Finding("PID namespace", "ok", "the host's: every process is seen", required=True)
    return Finding(
        "PID namespace",
        "info",
        f"its own ({namespace}): processes outside of it are not seen",
        True,
        remedy="to see the whole host use its namespace (docker run --pid=host, hostPID: true)",
    )


def read_link(path: str) -> str:
    """Where a link leads; empty if that can't be said."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def check_lockdown(text: str = "") -> Finding:
    """Kernel lockdown: its strictest form forbids eBPF to read memory."""
    text = text or read_text("/sys/kernel/security/lockdown")
    if not text and not any(Path("/sys/kernel/security").glob("*")):
        remedy = "mount -t securityfs securityfs /sys/kernel/security"
        return Finding("lockdown", "info", "not told: securityfs is not mounted here", required=True, remedy=remedy)
    found = re.search(r"\[(\w+)\]", text)
    mode = found[1] if found else "none"
    if mode == "confidentiality":
        cost = "eBPF programs may not read what processes send"
        remedy = "boot with lockdown=integrity, or without"
        return Finding("lockdown", "missing", "mode is confidentiality", True, cost, remedy)
    return Finding("lockdown", "ok", f"mode is {mode}" if found else "not in use", required=True)


def check_unprivileged() -> Finding:
    """Only told: autoinstr does not rely on it, and it is better off."""
    value = read_text("/proc/sys/kernel/unprivileged_bpf_disabled")
    if value == "0":
        return Finding("unprivileged eBPF", "info", "allowed to every user; autoinstr does not need that")
    return Finding("unprivileged eBPF", "ok", "off, as it should be; autoinstr does not need it")


QUESTIONS: tuple[Callable[[], Finding], ...] = (
    check_kernel,
    check_privileges,
    check_bpf,
    check_ring_buffer,
    check_tracepoints,
    check_btf,
    check_bcc,
    check_programs,
    check_lockdown,
    check_pid_namespace,
    check_other_processes,
    check_skipped_runs,
    check_map_memory,
    check_uprobes,
    check_cgroup,
    partial(check_propagation, "tcp"),
    partial(check_propagation, "headers"),
    partial(check_propagation, "go"),
    check_unprivileged,
)


def ask_all() -> list[Finding]:
    """Every question, in the order in which a user should read the answers."""
    return [question() for question in QUESTIONS]
