"""Discovery against real processes, and events as the kernel side tells them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoinstr.capture.abi import PROCESS, ProcessKind
from autoinstr.discover import Discovery, Selection, Selector, parse_ports, services
from autoinstr.discover import discovery as module
from autoinstr.discover.process import Process, Stat
from autoinstr.discover.tree import parents_first
from autoinstr.health import Health

from .conftest import LISTEN, PREFORK, Spawner, wait_until

pytestmark = pytest.mark.usefixtures("not_ourselves")


def by_port(*ports: int) -> Selection:
    text = ",".join(map(str, ports))
    return Selection((Selector(f"--port {text}", ports=parse_ports(text)),))


def by_cmd(pattern: str, **more: Any) -> Selection:
    return Selection((Selector(f"--cmd {pattern}", cmd=(pattern,)),), **more)


def make(selection: Selection, **more: Any) -> Discovery:
    return Discovery(selection, Health(), **more)


def event(kind: ProcessKind, pid: int, parent: int = 0, *, port: int = 0, filename: str = "", args: str = "") -> Any:
    record = np.zeros(1, PROCESS)
    record["kind"], record["pid"], record["parent"], record["port"] = kind, pid, parent, port
    record["time"] = time.monotonic_ns()
    record["filename"] = filename.encode() + b"\0of an earlier event"  # the ring's memory is used again and again
    data = args.replace(" ", "\0").encode() + b"\0"
    record["args"][0, : len(data)] = np.frombuffer(data, np.uint8)
    record["args_size"] = len(data)
    return record


def index(discovery: Discovery, *pids: int) -> list[int]:
    return discovery.service_of(np.array(pids, np.uint32)).tolist()


class TestScan:
    def test_by_port(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        spawn.script("other.py", LISTEN)
        discovery = make(by_port(port))
        (target,) = discovery.scan().added
        assert (target.pid, target.ports, target.selected_by) == (process.pid, (port,), f"--port {port}")
        assert (target.service.name, target.name_source, target.language) == ("shop", "script", "python")
        assert discovery.targets == {process.pid: target}

    def test_second_scan_changes_nothing(self, spawn: Spawner) -> None:
        _, (port,) = spawn.script("shop.py", LISTEN)
        discovery = make(by_port(port))
        discovery.scan()
        changes = discovery.scan()
        assert (changes.added, changes.removed) == ([], [])

    def test_later_process(self, spawn: Spawner) -> None:
        process, _ = spawn.script("shop.py", LISTEN)
        discovery = make(Selection((Selector("--port 1024-65535", ports=((1024, 65535),)),)))
        discovery.scan()
        assert process.pid in discovery.targets
        later, _ = spawn.script("later.py", LISTEN)
        assert later.pid in [target.pid for target in discovery.scan().added]

    def test_process_that_listens_late(self, spawn: Spawner) -> None:
        """It was looked at and found to be none: a new listening socket makes it worth another look."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        text = "import sys, time\nprint(1, flush=True)\nsys.stdin.readline()\n" + LISTEN.replace("0)", f"{port})")
        process, _ = spawn.script("late.py", text, stdin=subprocess.PIPE)
        discovery = make(by_port(port))
        discovery.scan()
        assert process.pid not in discovery.targets
        assert process.stdin and process.stdout
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert process.pid in [target.pid for target in discovery.scan().added]

    def test_end_is_noticed(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        discovery = make(by_port(port))
        discovery.scan()
        process.kill()
        process.wait()
        assert discovery.scan().removed == [process.pid]
        assert discovery.targets == {}

    def test_workers_share_the_service(self, spawn: Spawner) -> None:
        process, (port, child) = spawn.script("shop.py", PREFORK)
        discovery = make(by_port(port))
        assert {target.pid for target in discovery.scan().added} == {process.pid, child}
        assert discovery.targets[child].service is discovery.targets[process.pid].service
        assert index(discovery, process.pid, child) == [0, 0]
        assert len(discovery.services) == 1

    def test_children_are_targets(self, spawn: Spawner) -> None:
        text = "import subprocess, sys\np = subprocess.Popen(['sleep', '61'])\nprint(p.pid, flush=True)\np.wait()"
        process, (child,) = spawn.script("parent.py", text)
        discovery = make(by_cmd("*parent.py"))
        discovery.scan()
        assert discovery.targets[child].selected_by == f"child of {process.pid}"
        assert discovery.targets[child].service.name == "sleep", "it is another program"

    def test_entry_names_workers_and_what_a_shell_starts(self, spawn: Spawner) -> None:
        process, (_, child) = spawn.script("shop.py", PREFORK)
        entry = Selector("select[0]", pid=(process.pid,), service_name="till")
        discovery = make(Selection((entry,)))
        discovery.scan()
        assert discovery.targets[child].service is discovery.targets[process.pid].service
        assert discovery.targets[child].service.name == "till"
        shell = spawn("sh", "-c", f"{sys.executable} {spawn.directory}/shop.py; true")
        assert shell.stdout
        _, last = map(int, shell.stdout.readline().split())
        discovery = make(Selection((Selector("select[0]", pid=(shell.pid,), service_name="till"),)))
        names = {target.service.name for target in discovery.scan().added}
        assert last in discovery.targets
        assert names == {"till"}

    def test_second_selector_where_the_first_does_not_hold(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        discovery = make(Selection((Selector("--pid", pid=(process.pid,)), *by_port(port).selectors)))
        discovery._pinned.clear()
        (target,) = discovery.scan().added
        assert target.selected_by == f"--port {port}"

    def test_excluded(self, spawn: Spawner) -> None:
        spawn.script("shop.py", LISTEN, "marked-for-exclusion")
        exclude = (Selector("--exclude-exe python3*", exe=("python3*",)),)
        discovery = make(by_cmd("*marked-for-exclusion*", exclude=exclude))
        assert discovery.scan().added == []

    def test_agents_are_left_out(self, spawn: Spawner) -> None:
        process, _ = spawn.script("autoinstr", LISTEN, "marked-as-agent")
        assert make(by_cmd("*marked-as-agent")).scan().added == []
        assert len(make(by_cmd("*marked-as-agent", include_agents=True)).scan().added) == 1
        assert len(make(Selection((Selector("--pid", pid=(process.pid,)),))).scan().added) == 1

    def test_itself_and_what_it_started_never(self, spawn: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "own_pid", os.getpid)
        spawn.script("shop.py", LISTEN, "marked-as-own")
        assert make(by_cmd("*marked-as-own*")).scan().added == []

    def test_by_pid_means_this_process(self, spawn: Spawner, caplog: pytest.LogCaptureFixture) -> None:
        process, _ = spawn.script("shop.py", LISTEN)
        discovery = make(Selection((Selector(f"--pid {process.pid}", pid=(process.pid,)),)))
        discovery._pinned[process.pid] -= 100
        assert discovery.scan().added == [], "the pid has gone to another process"
        make(Selection((Selector("--pid 4000000", pid=(4_000_000,)),)))
        assert "there is no process 4000000" in caplog.text

    def test_deleted_executable(self, spawn: Spawner) -> None:
        copy = spawn.directory / "till"
        copy.write_bytes(Path("/bin/sleep").read_bytes())
        copy.chmod(0o755)
        process = spawn(str(copy), "60")
        wait_until(lambda: Path(f"/proc/{process.pid}/exe").readlink() == copy)
        copy.unlink()
        (target,) = make(Selection((Selector("--exe */till", exe=("*/till",)),))).scan().added
        assert (target.exe, target.service.name) == (str(copy), "till")


class TestResource:
    def test_of_the_environments(self, spawn: Spawner) -> None:
        own = {"OTEL_SERVICE_NAME": "till", "OTEL_RESOURCE_ATTRIBUTES": "team=own,service.namespace=n,process.pid=7"}
        process, (port,) = spawn.script("shop.py", LISTEN, env={**os.environ, **own})
        discovery = make(by_port(port), resource={"team": "agent", "zone": "z", "service.instance.id": "x"})
        (target,) = discovery.scan().added
        attributes = target.service.attributes
        assert (attributes["service.name"], attributes["service.namespace"]) == ("till", "n")
        assert (attributes["team"], attributes["zone"]) == ("own", "z")
        assert attributes["process.pid"] == process.pid
        assert attributes["service.instance.id"] == f"{attributes['host.name']}:{process.pid}"
        assert attributes["process.executable.name"] == Path(sys.executable).resolve().name
        assert attributes["telemetry.sdk.name"] == "autoinstr"
        assert attributes["telemetry.sdk.language"] == "python"

    def test_operator_names_all(self, spawn: Spawner) -> None:
        _, (port,) = spawn.script("shop.py", LISTEN)
        (target,) = make(by_port(port), service_name="all").scan().added
        assert target.service.name == "all"


class TestEvents:
    def test_listen(self, spawn: Spawner) -> None:
        process, (port, child) = spawn.script("shop.py", PREFORK)
        discovery = make(by_port(port))
        changes = discovery.on_process(event(ProcessKind.LISTEN, process.pid, port=port))
        assert {target.pid for target in changes.added} == {process.pid, child}, "its children that run already, too"
        assert discovery.targets[process.pid].ports == (port,)

    def test_listen_on_another_port(self, spawn: Spawner) -> None:
        process, _ = spawn.script("shop.py", LISTEN)
        discovery = make(by_port(9))
        assert discovery.on_process(event(ProcessKind.LISTEN, process.pid, port=10)).added == []

    def test_listen_of_a_target_on_one_more(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        discovery = make(by_port(port))
        discovery.scan()
        changes = discovery.on_process(event(ProcessKind.LISTEN, process.pid, port=1))
        assert changes.added == []
        assert discovery.targets[process.pid].ports == (1, port)

    def test_exec(self, spawn: Spawner) -> None:
        process, _ = spawn.script("shop.py", LISTEN, "marked-exec")
        discovery = make(by_cmd("*marked-exec"))
        (target,) = discovery.on_process(event(ProcessKind.EXEC, process.pid)).added
        assert target.service.name == "shop"

    def test_exec_of_a_process_that_ended(self) -> None:
        discovery = make(Selection((Selector("--exe */curl", exe=("*/curl",)),)))
        gone = 4_000_001
        (target,) = discovery.on_process(
            event(ProcessKind.EXEC, gone, filename="/usr/bin/curl", args="curl http://x/")
        ).added
        assert (target.service.name, target.command) == ("curl", ("curl", "http://x/"))
        assert discovery.on_process(event(ProcessKind.EXIT, gone)).removed == [gone]
        assert index(discovery, gone) == [0]

    def test_exec_of_a_process_that_is_about_to_be_gone(self) -> None:
        """A zombie has no executable any more, but still a state."""
        discovery = make(Selection((Selector("--exe */true", exe=("*/true",)),)))
        process = subprocess.Popen(["/bin/true"])
        try:
            wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z")
            (target,) = discovery.on_process(
                event(ProcessKind.EXEC, process.pid, filename="/bin/true", args="/bin/true")
            ).added
            assert target.service.name == "true"
        finally:
            process.wait()

    def test_fork_and_exit(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        discovery = make(by_port(port))
        discovery.scan()
        child = 4_000_002
        events = np.concatenate([event(ProcessKind.FORK, child, process.pid), event(ProcessKind.FORK, child + 1, 5)])
        (target,) = discovery.on_process(events).added
        assert (target.pid, target.selected_by) == (child, f"child of {process.pid}")
        assert abs(target.start_time - time.time()) < 5
        assert discovery.on_process(event(ProcessKind.EXIT, child)).removed == [child]
        assert index(discovery, child, process.pid, 5) == [0, 0, -1], "late records of an ended process have a service"

    def test_forked_process_is_the_same_in_the_next_scan(self, spawn: Spawner) -> None:
        fork = "sys.stdin.readline()\nimport os\nos.write(1, b'%d\\n' % os.fork())\ntime.sleep"
        text = LISTEN.replace("time.sleep", fork)
        process, (port,) = spawn.script("shop.py", text, stdin=subprocess.PIPE)
        discovery = make(by_port(port))
        discovery.scan()
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        child = max(int(process.stdout.readline()), int(process.stdout.readline()))
        discovery.on_process(event(ProcessKind.FORK, child, process.pid))
        changes = discovery.scan()
        assert (changes.added, changes.removed) == ([], [])

    def test_target_that_executes_something_else_is_still_watched(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        other = spawn("/bin/sleep", "60")
        wait_until(lambda: Path(f"/proc/{other.pid}/exe").readlink().name == "sleep")
        discovery = make(by_port(port))
        discovery.scan()
        discovery.on_process(event(ProcessKind.FORK, other.pid, process.pid))
        (target,) = discovery.on_process(event(ProcessKind.EXEC, other.pid)).added
        assert (target.service.name, target.selected_by) == ("sleep", f"child of {process.pid}")

    def test_target_that_becomes_an_excluded_program_is_left(self, spawn: Spawner) -> None:
        process, (port,) = spawn.script("shop.py", LISTEN)
        other = spawn("/bin/sleep", "60")
        wait_until(lambda: Path(f"/proc/{other.pid}/exe").readlink().name == "sleep")
        exclude = (Selector("--exclude-exe sleep", exe=("sleep",)),)
        discovery = make(Selection(by_port(port).selectors, exclude=exclude))
        discovery.scan()
        discovery.on_process(event(ProcessKind.FORK, other.pid, process.pid))
        assert discovery.on_process(event(ProcessKind.EXEC, other.pid)).removed == [other.pid]

    def test_own_children_never(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "own_pid", os.getpid)
        discovery = make(Selection((Selector("--exe *", exe=("*",)),)))
        discovery.on_process(event(ProcessKind.FORK, 4_000_003, os.getpid()))
        changes = discovery.on_process(event(ProcessKind.EXEC, 4_000_003, filename="/usr/bin/python3"))
        assert changes.added == []


class TestServices:
    def test_index_only_with_the_first_request(self, spawn: Spawner) -> None:
        a, (port_a,) = spawn.script("a.py", LISTEN)
        b, (port_b,) = spawn.script("b.py", LISTEN)
        discovery = make(by_port(port_a, port_b))
        discovery.scan()
        assert discovery.services == []
        assert index(discovery, b.pid, 3, b.pid) == [0, -1, 0]
        assert index(discovery, a.pid, b.pid) == [1, 0]
        assert [service.name for service in discovery.services] == ["b", "a"]

    def test_pids_beyond_all(self) -> None:
        assert index(make(by_port(1)), 0, 2**32 - 1) == [-1, -1]

    def test_missed_birth(self, spawn: Spawner) -> None:
        """The record of the fork was lost: the first request of the child finds its parent."""
        text = LISTEN.replace("time.sleep", "sys.stdin.readline()\nimport os\nprint(os.fork(), flush=True)\ntime.sleep")
        process, (port,) = spawn.script("shop.py", text, stdin=subprocess.PIPE)
        discovery = make(by_port(port))
        discovery.scan()
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        child = max(int(process.stdout.readline()), int(process.stdout.readline()))
        assert index(discovery, child, process.pid) == [0, 0]

    @pytest.mark.parametrize("names", [1, 0])
    def test_too_many_share_by_name(self, monkeypatch: pytest.MonkeyPatch, spawn: Spawner, names: int) -> None:
        monkeypatch.setattr(services, "MAX_SERVICES", 1)
        monkeypatch.setattr(services, "MAX_NAMES", names)
        a, (port_a,) = spawn.script("a.py", LISTEN)
        again, (port_again,) = spawn.script("a.py", LISTEN)
        b, (port_b,) = spawn.script("b.py", LISTEN)
        discovery = make(by_port(port_a, port_again, port_b))
        discovery.scan()
        assert [index(discovery, one.pid) for one in (a, again, b)] == [[0], [0], [1]]
        assert [service.name for service in discovery.services] == ["a", "b" if names else "unknown_service"]

    def test_ended_are_bounded(self, monkeypatch: pytest.MonkeyPatch, spawn: Spawner) -> None:
        monkeypatch.setattr(services, "MAX_ENDED", 10)
        process, (port,) = spawn.script("a.py", LISTEN)
        discovery = make(by_port(port))
        discovery.scan()
        pids = range(4_000_000, 4_000_020)
        for pid in pids:
            discovery.on_process(event(ProcessKind.FORK, pid, process.pid))
            discovery.on_process(event(ProcessKind.EXIT, pid))
        assert index(discovery, *pids) == [-1] * 10 + [0] * 10

    def test_ended_are_forgotten(self, monkeypatch: pytest.MonkeyPatch, spawn: Spawner) -> None:
        monkeypatch.setattr(services, "REMEMBER", -1.0)
        process, (port,) = spawn.script("a.py", LISTEN)
        discovery = make(by_port(port))
        discovery.scan()
        process.kill()
        process.wait()
        discovery.scan()
        discovery.scan()
        assert index(discovery, process.pid) == [-1]


def test_parents_first_even_in_the_same_tick() -> None:
    stats = {5: Stat(9, 1.0, "", False), 9: Stat(1, 1.0, "", False), 1: Stat(0, 0.0, "", False)}
    assert parents_first(stats) == [1, 9, 5]
    circle = {1: Stat(2, 0.0, "", False), 2: Stat(1, 0.0, "", False)}
    assert sorted(parents_first(circle)) == [1, 2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")
class TestNamespaces:
    def test_target_in_its_own_pid_mount_and_network_namespace(self, spawn: Spawner) -> None:
        script = spawn.directory / "cart.py"
        script.write_text(LISTEN)
        process = spawn(
            "unshare", "--pid", "--fork", "--mount-proc", "--net", "--kill-child", sys.executable, str(script)
        )
        assert process.stdout
        port = process.stdout.readline()  # loopback is down there: binding works all the same
        found = make(by_cmd(f"*{script}")).scan().added
        target = next(target for target in found if target.service.name == "cart")
        assert target.ports == (int(port),)
        by = make(by_port(int(port)))
        by.scan()
        assert target.pid in by.targets

    def test_agent_in_its_own_pid_namespace(self, spawn: Spawner) -> None:
        """Its numbers are those of its own /proc."""
        script = spawn.directory / "cart.py"
        script.write_text(LISTEN)
        shell = f"{sys.executable} {script} & sleep 1; {sys.executable} -m autoinstr targets --cmd '*/cart.py' --json"
        process = spawn("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", shell + "; kill %1")
        out = process.communicate(timeout=30)[0]
        assert '"service": "cart"' in out
        assert '"pid": 2,' in out

    def test_files_of_its_own_root(self, spawn: Spawner) -> None:
        """package.json and the like come from the process's root, and no link leads out of it."""
        root = spawn.directory / "root"
        root.mkdir()
        (root / "inside").write_text("yes")
        (root / "link").symlink_to("/etc/passwd")
        os.mkfifo(root / "pipe")
        pid = os.fork()
        if not pid:
            os.chroot(root)
            time.sleep(60)
            os._exit(0)
        try:
            wait_until(lambda: Path(f"/proc/{pid}/root").readlink() == root)
            process = Process(pid)
            assert process.read_file("/inside") == b"yes"
            assert process.read_file("/link") == b""
            assert process.read_file("/pipe") == b""
            assert process.read_file("/none") == b""
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
