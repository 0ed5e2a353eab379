"""A real Kubernetes node on this machine: etcd, API server, controllers, scheduler, containerd, kubelet.

    with Node(programs, folder) as node:
        node.kubectl("apply", "-k", "deploy/kubernetes")

Has no kube-proxy and no DNS: pods meet each other, the API server and the machine by address. Everything it starts ends
with it, and what it changed of the machine (addresses of lo, a bridge, sysctls, control groups) is put back.
`cgroup2`: containers see a control group hierarchy v2 alone, on a machine that has both. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from debian import install
from machine import attempt, run, wait_for

ADDRESS = "10.99.0.1"  # of the node: kubelet takes no loopback address
SERVICES = "10.97.0"
API = f"{SERVICES}.1"  # where pods look for the API server; it listens there itself
NAME = "node1"
NEEDED = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "busybox": "busybox-static",
}
CHANGED = (  # by kubelet and by the network plugin
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
PAUSE = "localhost/pause:1"
ONLY_V2 = "umount -R -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "
# runc for a v2 hierarchy whose controllers are in use by v1: it refuses limits that can't be set.
RUNC_WITHOUT_LIMITS = """#!/usr/bin/python3
import json, os, sys
if "update" in sys.argv:
    sys.exit(0)
if "create" in sys.argv and "--bundle" in sys.argv:
    path = sys.argv[sys.argv.index("--bundle") + 1] + "/config.json"
    config = json.load(open(path))
    config["linux"]["resources"] = {"devices": config["linux"].get("resources", {}).get("devices", [])}
    json.dump(config, open(path, "w"))
os.execv("/usr/sbin/runc", sys.argv)
"""


class Node:
    def __init__(self, programs: Path, *, cgroup2: bool = False) -> None:
        install(NEEDED)
        self.folder = Path(tempfile.mkdtemp(prefix="node-"))
        self._programs = programs
        self._cgroup2 = cgroup2
        self._sysctls = {name: Path("/proc/sys", name).read_text() for name in CHANGED}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Node:
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        for address in (ADDRESS, API):
            run("ip", "address", "replace", f"{address}/32", "dev", "lo")
        run("openssl", "genrsa", "-out", self.folder / "sa.key", "2048")
        (self.folder / "tokens.csv").write_text('admin,admin,1,"system:masters"\n')
        self._start(
            "etcd",
            *("--data-dir", "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379"),
            *("--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380"),
            *("--initial-cluster", "default=http://127.0.0.1:2380"),
        )
        self.start_api()
        self._containerd()
        self._start(
            "kube-controller-manager",
            *("--kubeconfig", "kubeconfig", "--service-account-private-key-file", "sa.key"),
            *("--root-ca-file", "certs/apiserver.crt", "--leader-elect=false", "--bind-address", "127.0.0.1"),
            *("--cert-dir", "controller-certs"),
        )
        self._start(
            "kube-scheduler",
            *("--kubeconfig", "kubeconfig", "--leader-elect=false", "--bind-address", "127.0.0.1"),
            *("--cert-dir", "scheduler-certs"),
        )
        self._kubelet()
        wait_for(lambda: " Ready " in self.kubectl("get", "node", NAME, "--no-headers"), "node is ready")
        wait_for(lambda: self.kubectl("get", "serviceaccount", "default"), "service account")

    def start_api(self) -> None:
        """Also after `stop_api`: with the same state."""
        self._start(
            "kube-apiserver",
            *("--etcd-servers", "http://127.0.0.1:2379", "--bind-address", API, "--secure-port", "443"),
            *("--advertise-address", API, "--cert-dir", "certs", "--endpoint-reconciler-type", "none"),
            *("--authorization-mode", "Node,RBAC", "--token-auth-file", "tokens.csv", "--allow-privileged"),
            *("--service-cluster-ip-range", f"{SERVICES}.0/24", "--kubelet-preferred-address-types", "InternalIP"),
            *("--service-account-issuer", f"https://{API}:443"),
            *("--service-account-key-file", "sa.key", "--service-account-signing-key-file", "sa.key"),
        )
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "k",
                    "cluster": {
                        "server": f"https://{API}:443",
                        "certificate-authority": f"{self.folder}/certs/apiserver.crt",
                    },
                }
            ],
            "users": [{"name": "admin", "user": {"token": "admin"}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "admin"}}],
            "current-context": "c",
        }
        (self.folder / "kubeconfig").write_text(json.dumps(config))
        wait_for(lambda: self.kubectl("get", "--raw", "/readyz") == "ok", "API server answers")

    def stop_api(self) -> None:
        self._stop("kube-apiserver")

    def _containerd(self) -> None:
        runc: str | Path = "/usr/sbin/runc"
        if self._cgroup2:
            runc = self.folder / "runc"
            runc.write_text(RUNC_WITHOUT_LIMITS)
            runc.chmod(0o755)
        (self.folder / "cni").mkdir()
        network = {
            "type": "bridge",
            "bridge": "k8s0",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{self.folder}/ipam",
                "ranges": [[{"subnet": "10.88.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        (self.folder / "cni/10-bridge.conflist").write_text(
            json.dumps({"cniVersion": "1.0.0", "name": "k8s", "plugins": [network]})
        )
        cri = "plugins.'io.containerd.grpc.v1.cri'"
        (self.folder / "containerd.toml").write_text(f"""version = 2
root = '{self.folder}/containerd'
state = '{self.folder}/run'
[grpc]
address = '{self.folder}/containerd.sock'
[plugins.'io.containerd.internal.v1.opt']
path = '{self.folder}/opt'
[{cri}]
sandbox_image = '{PAUSE}'
restrict_oom_score_adj = true
[{cri}.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[{cri}.containerd.runtimes.runc.options]
BinaryName = '{runc}'
[{cri}.cni]
bin_dir = '/usr/lib/cni'
conf_dir = '{self.folder}/cni'
""")
        command: list[str | Path] = ["containerd", "--config", self.folder / "containerd.toml"]
        if self._cgroup2:
            command = ["unshare", "-m", "sh", "-c", ONLY_V2 + '"$@"', "sh", *command]
        self._start(*command, name="containerd")
        wait_for((self.folder / "containerd.sock").exists, "containerd listens")
        self._import_pause()

    def _import_pause(self) -> None:
        """What holds a pod's namespaces: busybox, asleep."""
        root = self.folder / "pause"
        (root / "bin").mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
        (root / "bin/sh").symlink_to("busybox")
        layer = self.folder / "layer.tar"
        run("tar", "-C", root, "-cf", layer, ".")
        digest = "sha256:" + run("sha256sum", layer).split()[0]
        asleep = "trap 'exit 0' TERM INT; while :; do /bin/busybox sleep 3600 & wait $!; done"
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        image = {
            "architecture": machine,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh", "-c", asleep]},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        (self.folder / "config.json").write_text(json.dumps(image))
        manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        run("tar", "-C", self.folder, "-cf", self.folder / "pause.tar", "manifest.json", "config.json", "layer.tar")
        self.import_image(self.folder / "pause.tar")

    def import_image(self, archive: Path) -> None:
        """What `docker save` writes; named localhost/..., imagePullPolicy: Never."""
        self._ctr("images", "import", archive)

    def _ctr(self, *arguments: str | Path) -> str:
        return run("ctr", "-a", self.folder / "containerd.sock", "-n", "k8s.io", *arguments)

    def _kubelet(self) -> None:
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "healthzPort": 0,
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "maxOpenFiles": int(run("sh", "-c", "ulimit -Hn")),
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": dict.fromkeys(("nodefs.available", "imagefs.available", "nodefs.inodesFree"), "1%"),
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": True}},
            "authorization": {"mode": "AlwaysAllow"},
            "podLogsDir": f"{self.folder}/logs",
            "volumePluginDir": f"{self.folder}/volume-plugins",
            "nodeStatusUpdateFrequency": "5s",
        }
        (self.folder / "kubelet.json").write_text(json.dumps(config))
        command = [
            self._programs / "kubelet",
            *("--config", "kubelet.json", "--kubeconfig", "kubeconfig", "--root-dir", self.folder / "kubelet"),
            *("--cert-dir", "kubelet-certs", "--hostname-override", NAME, "--node-ip", ADDRESS),
        ]
        # in the same mount namespace: both mount volumes and control groups
        inside = ["nsenter", "-m", "-t", str(self._processes["containerd"].pid), "env", "-C", str(self.folder)]
        self._start(*inside, *command, name="kubelet")

    # --- for those who use it

    def kubectl(self, *arguments: str | Path, text: str | None = None) -> str:
        kubeconfig = ("--kubeconfig", self.folder / "kubeconfig")
        return run(self._programs / "kubectl", *kubeconfig, *arguments, input=text)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text="\n---\n".join(map(json.dumps, objects)))

    def kill(self, container: str) -> None:
        """End a container's main process, without asking the API server."""
        self._ctr("tasks", "kill", "-s", "KILL", container)

    # --- processes

    def _start(self, *command: str | Path, name: str = "") -> None:
        name = name or str(command[0])
        if (own := self._programs / str(command[0])).exists():
            command = (own, *command[1:])
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*map(str, command)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes[name] = process

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __exit__(self, *_: object) -> None:
        for name in ("kubelet", "kube-scheduler", "kube-controller-manager"):
            self._stop(name)
        if "containerd" in self._processes:
            self._end_containers()
        for name in ("containerd", "kube-apiserver", "etcd"):
            self._stop(name)
        self._put_back()

    def _end_containers(self) -> None:
        ctr = ("ctr", "-a", self.folder / "containerd.sock", "-n", "k8s.io")
        tasks = self._ctr("tasks", "ls", "-q").split()
        for task in tasks:
            attempt(*ctr, "tasks", "kill", "-s", "KILL", task)
        for task in tasks:
            wait_for(
                lambda task=task: attempt(*ctr, "tasks", "rm", "-f", task) or not self._has(task), "a task ends", 10
            )
        for container in self._ctr("containers", "ls", "-q").split():
            attempt(*ctr, "containers", "rm", container)

    def _has(self, task: str) -> bool:
        return task in self._ctr("tasks", "ls", "-q").split()

    def _put_back(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):  # shims outlive containerd
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                if "containerd-shim" in command and f"{self.folder}/" in command:
                    os.kill(int(process.name), signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{self.folder}/")), reverse=True):
            attempt("umount", "-l", mount)
        for one in Path("/var/run/netns").glob("cni-*"):
            attempt("umount", "-l", one)
            one.unlink(missing_ok=True)
        attempt("ip", "link", "del", "k8s0")
        for address in (ADDRESS, API):
            attempt("ip", "address", "del", f"{address}/32", "dev", "lo")
        for root in Path("/sys/fs/cgroup").glob("*/kubepods"):
            attempt("find", root, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
        for name, value in self._sysctls.items():
            Path("/proc/sys", name).write_text(value)
        for link in Path("/var/log/containers").glob("*"):
            if str(self.folder) in str(link.readlink()):
                link.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
