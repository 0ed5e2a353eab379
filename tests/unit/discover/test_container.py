"""Container ids, as the runtimes write them."""

from __future__ import annotations

import pytest

from autoinstr.discover.container import container_id, pod_uid

ID = "3726b5a1a6f1c1f3a1e0c9b1f7c7d3c4a3e5b8d1e9f00112233445566778899a"
UID = "6f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/system.slice/docker-{ID}.scope",
        f"0::/docker/{ID}",
        f"12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}",
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podaa_bb.slice/cri-containerd-{ID}.scope",
        f"0::/kubepods/burstable/pod0f1d/{ID}",
        f"0::/kubelet.slice/kubepods-podaa.slice:cri-containerd:{ID}",
        f"0::/kubepods.slice/x.slice/crio-{ID}.scope/container",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
        f"0::/../../docker-{ID}.scope",
        # rootless Docker; a parent of one's own; nerdctl by its two drivers
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
        f"0::/web.slice/web-front.slice/docker-{ID}.scope",
        f"0::/system.slice/nerdctl-{ID}.scope",
        f"0::/default/{ID}",
        # Podman (libpod/container_internal_linux.go): systemd and cgroupfs, in a pod, rootless, `--cgroups=split` as
        # quadlets have it; crun has a group of its own below
        f"0::/machine.slice/libpod-{ID}.scope",
        f"0::/machine.slice/machine-libpod_pod_{'1' * 64}.slice/libpod-{ID}.scope/container",
        f"0::/libpod_parent/libpod-{ID}",
        f"0::/libpod_parent/{'1' * 64}/libpod-{ID}",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{'1' * 64}.slice"
        f"/libpod-{ID}.scope",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container/init.scope",
        f"0::/system.slice/web.service/libpod-payload-{ID}",
        f"0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{ID}/system.slice",
        f"12:pids:/machine.slice/libpod-{ID}.scope\n1:name=systemd:/machine.slice/libpod-{ID}.scope\n0::/",
        # CRI-O: systemd and cgroupfs
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice/crio-{ID}.scope",
        f"11:memory:/kubepods/besteffort/pod{UID}/crio-{ID}\n0::/",
        # a node in a container
        f"0::/docker/{'0' * 64}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice"
        f"/cri-containerd-{ID}.scope",
        f"0::/../{ID}",
        f"0::/system.slice/docker-{ID}.scope/init.scope",
        f"0::/system.slice/docker-{'0' * 64}.scope/system.slice/docker-{ID}.scope/system.slice/nginx.service",
        f"0::/docker/{'0' * 64}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
        f"11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n0::/",
    ],
)
def test_by_control_group(cgroup: str) -> None:
    assert container_id(cgroup + "\n") == ID


def test_fargate() -> None:
    task = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    assert container_id(f"1:name=systemd:/ecs/{task}/{task}-1234567890\n") == f"{task}-1234567890"


@pytest.mark.parametrize(
    "mount",
    [
        f"36 35 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw",
        f"36 35 8:1 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - ext4 /dev/sda1 rw",
    ],
)
def test_by_mounts_in_a_private_namespace(mount: str) -> None:
    assert container_id("0::/\n", f"1 0 0:1 / / rw - overlay overlay rw\n{mount}\n") == ID


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/machine.slice/libpod-conmon-{ID}.scope",
        f"0::/libpod_parent/libpod-conmon-{ID}",
        f"0::/kubepods.slice/kubepods-pod{UID}.slice/crio-conmon-{ID}.scope",
        "0::/system.slice/web.service/runtime",
    ],
)
def test_those_who_watch_over_a_container_are_not_in_it(cgroup: str) -> None:
    assert container_id(cgroup + "\n") == ""


def test_files_of_a_pod_are_another_containers() -> None:
    """CRI-O's hostname is that of the container which holds the network."""
    hostname = (
        f"9 1 0:1 /containers/storage/overlay-containers/{ID}/userdata/hostname /etc/hostname ro - tmpfs tmpfs rw\n"
    )
    hosts = f"8 1 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
    assert container_id("0::/\n", hostname) == ID
    assert container_id("0::/\n", hostname + hosts) == ""


@pytest.mark.parametrize(
    "cgroup", ["", "0::/\n", "0::/system.slice/nginx.service\n", "0::/user.slice/user-1000.slice/session-3.scope\n"]
)
def test_none(cgroup: str) -> None:
    assert container_id(cgroup, f"9 1 0:1 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n") == ""


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods/pod{UID}/{ID}",
        f"9:memory:/kubepods/besteffort/pod{UID}/{ID}\n0::/",
        f"0::/../../../burstable/pod{UID}/{ID}",
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice"
        f"/cri-containerd-{ID}.scope",
        f"0::/kubelet.slice/kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}",
        f"0::/kubepods/pod{UID}",
    ],
)
def test_uid_of_the_pod(cgroup: str) -> None:
    assert pod_uid(cgroup + "\n") == UID


def test_uid_of_a_pod_from_a_file_on_the_node() -> None:
    digest = UID.replace("-", "")
    assert pod_uid(f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{digest}.slice/x") == digest


@pytest.mark.parametrize("cgroup", ["0::/\n", f"0::/docker/{ID}\n", "0::/system.slice/podman.service\n"])
def test_no_pod(cgroup: str) -> None:
    assert pod_uid(cgroup) == ""
