"""The commands: what they print, where, and the exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from autoinstr import __version__
from autoinstr.cli import host
from autoinstr.cli.host import Finding
from autoinstr.cli.main import COMMANDS, main
from autoinstr.config import OPTIONS, SELECTING, Config
from autoinstr.errors import AutoinstrError

LISTEN = """
import socket, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
time.sleep(60)
"""


def autoinstr(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autoinstr", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def run_help() -> str:
    return autoinstr("run", "--help").stdout


def test_version() -> None:
    assert autoinstr("--version").stdout == f"autoinstr {__version__}\n"


def test_no_command_shows_help() -> None:
    done = autoinstr()
    assert (done.returncode, done.stdout) == (2, "")
    assert "autoinstr check" in done.stderr


def test_folder_and_list_of_commands_agree() -> None:
    folder = Path(host.__file__).parent
    files = {path.stem for path in folder.glob("*.py")}
    assert {command.name for command in COMMANDS} <= files
    assert files - {command.name for command in COMMANDS} == {
        "__init__",
        "bpf_trial",
        "command",
        "flags",
        "host",
        "main",
    }


def test_help_teaches() -> None:
    text = run_help()
    for option in OPTIONS:
        for variable in option.environment:
            assert variable in text
    for name, variable, *_ in SELECTING:
        assert f"--{name}" in text
        assert variable in text
    assert "examples:" in text


def test_help_starts_fast() -> None:
    """No numpy, no YAML: what costs time is imported when it is needed."""
    code = "import sys\nfrom autoinstr.cli.main import make_parser\nmake_parser()\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "yaml", "msgspec", "rich", "bcc", "psutil", "grpc"} & set(loaded)


class TestRun:
    def test_without_selectors_teaches(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("autoinstr run: say which processes to watch")

    def test_wrong_flag(self) -> None:
        assert autoinstr("run", "--prot", "80").returncode == 2
        assert autoinstr("run", "--sample", "x").returncode == 2, "flags are not guessed"

    def test_wrong_value(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--port", "http"]) == 2
        assert capsys.readouterr().err.startswith("autoinstr run: --port: 'http' is not a list of ports")

    @pytest.fixture
    def given(self, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
        """The pipeline, replaced: what it was given."""
        got: list[Config] = []
        pipeline = types.ModuleType("autoinstr.start")
        pipeline.run = lambda config: got.append(config) or 0  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "autoinstr.start", pipeline)
        for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)
        return got

    def test_every_flag_reaches_the_pipeline(self, given: list[Config]) -> None:
        line = """run --port 80,90-91 --exe */nginx --cmd *x* --pid 7 --exclude-exe y --export otlp --export console
            --format json --prometheus-port 9999 --prometheus-host 0.0.0.0 --queries --service-name s --log-level debug
            --sampler keep_errors_slow --sampler-arg slow=1s,ratio=0.1 --metric-interval 5s --cardinality-limit 9
            --ring-size 1MiB --include-agents"""
        assert main(line.split()) == 0
        (config,) = given
        assert [str(one) for one in config.selection.selectors] == [
            "--port 80,90-91",
            "--exe */nginx",
            "--cmd *x*",
            "--pid 7",
        ]
        assert config.exports == ("otlp", "console", "prometheus")
        assert (config.format, config.prometheus_port, config.prometheus_host) == ("json", 9999, "0.0.0.0")
        assert (config.queries, config.service_name, config.log_level) == (True, "s", "debug")
        assert (config.sampler, config.sampler_arg) == ("keep_errors_slow", "slow=1s,ratio=0.1")
        assert (config.metric_interval, config.cardinality_limit, config.ring_size) == (5, 9, 1 << 20)
        assert config.selection.include_agents
        assert config.selection.exclude[0].exe == ("y",)

    def test_errors_of_the_pipeline_are_printed_here(
        self, given: list[Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(config: Config) -> int:
            raise AutoinstrError("bcc is missing: install it")

        monkeypatch.setattr(sys.modules["autoinstr.start"], "run", fail)
        assert main(["run", "--port", "80"]) == 1
        assert capsys.readouterr().err == "autoinstr run: bcc is missing: install it\n"


class TestTargets:
    @pytest.fixture
    def shop(self, tmp_path: Path) -> Any:
        (tmp_path / "shop.py").write_text(LISTEN)
        process = subprocess.Popen([sys.executable, str(tmp_path / "shop.py")], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        yield process, int(process.stdout.readline())
        process.kill()
        process.wait()

    def test_json(self, shop: Any) -> None:
        process, port = shop
        done = autoinstr("targets", "--port", str(port), "--json")
        assert done.returncode == 0
        (target,) = json.loads(done.stdout)["targets"]
        assert target["pid"] == process.pid
        assert (target["service"], target["nameSource"], target["language"]) == ("shop", "script", "python")
        assert (target["ports"], target["selectedBy"]) == ([port], f"--port {port}")
        assert target["resource"]["service.name"] == "shop"

    def test_table(self, shop: Any) -> None:
        process, port = shop
        head, row, *_ = autoinstr("targets", "--port", str(port)).stdout.splitlines()
        assert head.split("  ")[0] == "PID"
        assert re.match(rf"{process.pid} +shop +script +python +{port} +--port {port} ", row)

    def test_probes(self, shop: Any) -> None:
        """Each group that there is, its price where it can be measured, and what is switched off."""
        _, port = shop
        on, off = (
            [line.strip() for line in autoinstr("targets", "--port", str(port), "--probes", groups).stdout.splitlines()]
            for groups in ("tasks", "none")
        )
        (tasks,) = [line for line in on if " tasks: " in line]
        hits = "2 hits a task or callback that is made"
        assert re.fullmatch(rf"\+ tasks: python in [^ ]*python[^ ]*, 1 probe, {hits}(: \d+\.\d us)?", tasks)
        assert on[-1].startswith("What a hit of a probe takes could not be measured") or "measured now" in on[-2]
        assert "- tasks: python, switched off" in off
        (target,) = json.loads(autoinstr("targets", "--port", str(port), "--json").stdout)["targets"]
        (plan,) = [plan for plan in target["probes"] if plan["group"] == "tasks"]
        assert (plan["library"], plan["on"], plan["hits"]) == ("python", True, 2)

    def test_nothing(self) -> None:
        done = autoinstr("targets", "--cmd", "no such command line")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Nothing that runs now matches --cmd no such command line.")
        nothing = {"targets": [], "hit": None}
        assert json.loads(autoinstr("targets", "--cmd", "no such", "--json").stdout) == nothing

    def test_reader_that_goes_away(self, shop: Any) -> None:
        _, port = shop
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m autoinstr targets --port {port} | true"],
            capture_output=True,
            check=False,
        )
        assert done.stderr == b""


class TestCheck:
    def test_json(self) -> None:
        done = autoinstr("check", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        names = [check["name"] for check in report["checks"]]
        for name in ("kernel", "tracepoints", "uprobes", "BTF", "bcc", "privileges", "cgroup v2", "ring buffer"):
            assert name in names
        for check in report["checks"]:
            assert check["state"] in ("ok", "missing", "info")
            if check["state"] == "missing":
                assert check["cost"]
                assert check["remedy"]

    def test_fatal(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        bad = Finding("kernel", "missing", "Linux 4.4", True, "nothing works", "use a newer one")
        small = Finding("uprobes", "missing", "none", False, "no TLS", "CONFIG_UPROBES")
        monkeypatch.setattr(host, "QUESTIONS", (lambda: bad, lambda: small))
        assert main(["check"]) == 1
        out = capsys.readouterr().out
        assert "FAIL  kernel" in out
        assert "costs: nothing works" in out
        assert "to do: use a newer one" in out
        assert "miss  uprobes" in out
        assert out.endswith("`autoinstr run` can't work here: kernel.\n")
        monkeypatch.setattr(host, "QUESTIONS", (lambda: small,))
        assert main(["check"]) == 0

    def test_kernel(self) -> None:
        assert [host.check_kernel(release).state for release in ("5.10.0-1", "6.1", "5.9.16", "4.19", "x")] == [
            "ok",
            "ok",
            "missing",
            "missing",
            "missing",
        ]

    def test_privileges(self) -> None:
        assert host.check_privileges("CapEff:\t0000000000000000").fatal
        assert host.check_privileges("CapEff:\t000000c000080004").state == "ok"
        assert host.check_privileges("CapEff:\t0000000000200000").state == "ok"
        assert host.check_other_processes("CapEff:\t000000c000000000").state == "missing"
        assert not host.check_other_processes("CapEff:\t000000c000000000").fatal

    def test_lockdown(self) -> None:
        assert host.check_lockdown("none [integrity] confidentiality").state == "ok"
        assert host.check_lockdown("none integrity [confidentiality]").fatal

    def test_what_an_old_kernel_lacks_is_named_with_its_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host, "kernel_has", lambda struct, *_: struct == "bpf_map_memory")  # Linux 5.10
        for found in (host.check_skipped_runs(), host.check_map_memory()):
            assert found.state == "missing"
            assert not found.fatal
            assert found.cost
        monkeypatch.setattr(host, "kernel_has", lambda struct, *_: struct == "bpf_prog_info")  # Linux 5.12
        assert host.check_skipped_runs().state == host.check_map_memory().state == "ok"

    def test_bcc_missing_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failed = subprocess.CompletedProcess([], 1, "", "Traceback\nModuleNotFoundError: No module named 'bcc'")
        monkeypatch.setattr(host, "_python", lambda *_: failed)
        monkeypatch.setattr(host, "read_text", lambda _: 'ID=debian\nVERSION_ID="12"\n')
        found = host.check_bcc()
        assert found.fatal
        assert "apt-get install python3-bpfcc" in found.remedy
        monkeypatch.setattr(host, "read_text", lambda _: 'ID="rocky"\nID_LIKE="rhel centos fedora"\n')
        assert "dnf install python3-bcc" in host.check_bcc().remedy

    def test_bcc_not_seen_by_this_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def answer(interpreter: str, _: str) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess([], int(interpreter != "/usr/bin/python3"), "", "no bcc")

        monkeypatch.setattr(host, "_python", answer)
        monkeypatch.setattr(sys, "executable", "/opt/venv/bin/python")
        assert "--system-site-packages" in host.check_bcc().remedy

    def test_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        for name in ("try_map", "try_ring", "try_raw_tracepoint"):
            monkeypatch.setattr(host.bpf_trial, name, refuse)
        for question in (host.check_bpf, host.check_ring_buffer, host.check_tracepoints):
            assert question().fatal
            assert "root" in question().remedy
