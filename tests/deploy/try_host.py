"""`make host`: docs/host.md, command by command, on a machine of its own: a container whose first process is systemd.

The wheel by venv and by pipx, then the unit as it is shipped: it has to see requests of nginx by HTTP and HTTPS, keep
its hardening, survive its own end, and leave nothing behind.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from machine import commands, run, wait_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1800)
DOC = (ROOT / "docs/host.md").read_text()
IMAGE = "localhost/machine:1"
# The image of the agent has Python's bcc already, which is the larger part; everything else is done as the page says.
DOCKERFILE = """FROM autoinstr:latest
ENTRYPOINT []
HEALTHCHECK NONE
ENV DEBIAN_FRONTEND=noninteractive
RUN rm -rf /opt/autoinstr && apt-get update \\
    && apt-get install -y --no-install-recommends systemd systemd-sysv curl nginx-light openssl pipx
WORKDIR /root
COPY . .
"""
# Numbers of linux/capability.h
CAPABILITIES = {
    "dac_read_search": 2,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_resource": 24,
    "perfmon": 38,
    "bpf": 39,
}
CONFIG = """select:
  - port: 80,443
export: [console]
format: json
"""
NGINX = """server {
  listen 80; listen 443 ssl;
  ssl_certificate /etc/nginx/c.pem; ssl_certificate_key /etc/nginx/k.pem;
  location / { return 200 "ok"; }
}
"""


class Machine:
    def __init__(self, engine: Engine, container: str) -> None:
        self.engine = engine
        self.container = container

    def sh(self, command: str) -> str:
        return self.engine.docker("exec", self.container, "sh", "-ec", command)

    def put(self, path: str, text: str) -> None:
        run(
            *("docker", "exec", "-i", self.container, "sh", "-c", f"mkdir -p {Path(path).parent} && cat > {path}"),
            input=text,
            env=self.engine.environment,
        )


def dockerfile() -> str:
    """What needs the network is done when the image is built: step 1, and its other road."""
    install = [command.replace("apt install", "apt-get install -y") for command in commands(DOC, r"1\.")]
    (pipx,) = re.findall(r"`(PIPX_HOME=\S+ .*)`$", DOC, re.MULTILINE)
    return DOCKERFILE + "".join(f"RUN {command}\n" for command in [*install, pipx])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (folder / "deploy/systemd").mkdir(parents=True)
    (folder / "deploy/systemd/autoinstr.service").write_text((ROOT / "deploy/systemd/autoinstr.service").read_text())
    (folder / "Dockerfile").write_text(dockerfile())
    with Engine(ROOT / ".cache/containers") as engine:
        base = f"BASE={engine.base()}"
        engine.docker("build", "--network", "host", "--build-arg", base, "-t", "autoinstr:latest", ".", cwd=ROOT)
        engine.docker("build", "--network", "host", "-t", IMAGE, folder)
        options = ("--privileged", "--tmpfs", "/run", "--tmpfs", "/tmp", "-e", "container=docker")
        cgroups = ("--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup")
        found = Machine(engine, engine.docker("run", "-d", *options, *cgroups, IMAGE, "/sbin/init").strip())
        state = "systemctl is-system-running || true"
        wait_for(lambda: found.sh(state).strip() in ("running", "degraded"), "systemd", 120)
        found.put("/etc/nginx/sites-enabled/default", NGINX)
        subject = ("-subj", "/CN=localhost", "-keyout", "/etc/nginx/k.pem", "-out", "/etc/nginx/c.pem")
        found.sh(f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 {' '.join(subject)} && systemctl restart nginx")
        yield found


def test_both_roads_lead_to_a_program_that_works(machine: Machine) -> None:
    for program in ("/opt/autoinstr/bin/autoinstr", "/usr/local/bin/autoinstr"):
        assert json.loads(machine.sh(f"{program} check --json"))["ok"]
    check, targets = commands(DOC, r"2\.")
    machine.sh(check)
    assert "nginx" in machine.sh(targets)


def spans(machine: Machine) -> list[dict[str, Any]]:
    lines = machine.sh("journalctl -u autoinstr -o cat").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def visit(machine: Machine, word: str) -> None:
    for scheme in ("http", "https"):
        machine.sh(f"curl -sk '{scheme}://127.0.0.1/{word}/[1-11]'")


def assert_seen(machine: Machine, word: str) -> None:
    """Eleven requests by each scheme, once each, by the server and by curl."""

    def told() -> Counter[tuple[str, str]]:
        mine = [one["attributes"] for one in spans(machine) if one["kind"] == "server"]
        return Counter((one["url.scheme"], one["url.path"]) for one in mine if one["url.path"].startswith(f"/{word}/"))

    wanted = Counter((scheme, f"/{word}/{number}") for scheme in ("http", "https") for number in range(1, 12))
    wait_for(lambda: told() == wanted, f"/{word}/ as it was sent", 30)


def times_ready(machine: Machine) -> int:
    return machine.sh("journalctl -u autoinstr -o cat").count("ready in ")


def test_unit(machine: Machine) -> None:
    machine.put("/etc/autoinstr/config.yaml", CONFIG)
    for command in commands(DOC, r"4\."):
        machine.sh(command)
    wait_for(lambda: times_ready(machine) == 1, "the unit is ready", 240)
    visit(machine, "first")
    assert_seen(machine, "first")
    pid = machine.sh("systemctl show -P MainPID autoinstr").strip()
    status = machine.sh(f"cat /proc/{pid}/status")
    most = int(re.findall(r"CapBnd:\t(\w+)", machine.sh("cat /proc/1/status"))[0], 16)  # that the machine itself has
    kept = ("dac_read_search", "sys_ptrace", "sys_admin", "sys_resource", "perfmon", "bpf")
    bounds = most & sum(1 << CAPABILITIES[name] for name in kept)
    assert f"CapBnd:\t{bounds:016x}" in status and "NoNewPrivs:\t1" in status
    # as root of the unit sees it
    inside = f"nsenter -t {pid} -m"
    machine.sh(f"! {inside} touch /usr/x && ! {inside} touch /etc/x && {inside} touch /var/cache/autoinstr/x")
    machine.sh("systemctl kill -s KILL autoinstr")
    wait_for(lambda: times_ready(machine) == 2, "it is started again", 120)
    visit(machine, "second")
    assert_seen(machine, "second")


def test_without_sys_admin(machine: Machine) -> None:
    """As the page says: Linux 6.6 and newer need it no more, for TLS neither."""
    machine.put(
        "/etc/systemd/system/autoinstr.service.d/less.conf",
        "[Service]\nCapabilityBoundingSet=\n"
        "CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_SYS_PTRACE CAP_DAC_READ_SEARCH\n",
    )
    before = times_ready(machine)
    machine.sh("systemctl daemon-reload && systemctl restart autoinstr")
    wait_for(lambda: times_ready(machine) == before + 1, "the unit is ready", 120)
    visit(machine, "less")
    assert_seen(machine, "less")


def test_it_goes_away(machine: Machine) -> None:
    machine.sh("systemctl disable --now autoinstr")
    assert machine.sh("systemctl show -P Result autoinstr").strip() == "success"
    assert machine.sh("pgrep -f bin/autoinstr || true").strip() == ""
    assert machine.sh("curl -s http://127.0.0.1/after").strip() == "ok"
