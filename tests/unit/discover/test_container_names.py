"""Names of containers, from files as the runtimes write them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from autoinstr.discover import container_names as module
from autoinstr.discover.container_names import container_names

ID, OTHER, LAYER = "3726b5a1" * 8, "00112233" * 8, "aabbccdd" * 8
ELSEWHERE = "35 34 0:50 / / rw,relatime - ext4 /dev/sda1 rw\n"


def mounted(storage: Path) -> str:
    """Mounts of a process whose root file system is in this storage."""
    where = str(storage).replace(" ", "\\040")
    options = f"rw,lowerdir={where}/overlay/l/AB:{where}/overlay/l/CD,upperdir={where}/overlay/{LAYER}/diff,workdir=x"
    return f"716 560 0:57 / / rw,relatime - overlay overlay {options}\n717 716 0:60 / /proc rw - proc proc rw\n"


def stored(storage: Path, file: str, *containers: dict[str, object]) -> None:
    folder = storage / "overlay-containers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(containers))


# as podman 4.3 and CRI-O 1.30 write them
PODMAN = {
    "id": ID,
    "names": ["shop"],
    "image": "5f0c" * 16,
    "layer": LAYER,
    "metadata": '{"image-name":"docker.io/library/shop:1.2","image-id":"5f0c","name":"shop","created-at":1700000000}',
    "created": "2024-01-01T00:00:00.0Z",
    "flags": {"MountLabel": "", "ProcessLabel": ""},
}
CRIO = {
    "id": OTHER,
    "names": ["k8s_web_web-7d9_default_6f1e2d3c_0"],
    "metadata": '{"pod-name":"web-7d9","pod-id":"77","image-name":"registry:5000/web@sha256:00",'
    '"name":"k8s_web_web-7d9","metadata-name":"web","created-at":1700000000}',
}


@pytest.mark.parametrize("file", ["containers.json", "volatile-containers.json"])
@pytest.mark.parametrize("folder", ["storage", "a home/.local/share/containers/storage"])
def test_podman(tmp_path: Path, file: str, folder: str) -> None:
    stored(tmp_path / folder, file, CRIO, PODMAN)
    assert container_names(ID, mounted(tmp_path / folder)) == {
        "container.name": "shop",
        "container.image.name": "docker.io/library/shop",
        "container.image.tags": ["1.2"],
    }


def test_crio_where_storage_usually_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STORAGE", str(tmp_path))
    stored(tmp_path, "containers.json", PODMAN, CRIO)
    assert container_names(OTHER, ELSEWHERE) == {
        "container.name": "k8s_web_web-7d9_default_6f1e2d3c_0",
        "container.image.name": "registry:5000/web",
    }


def test_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOCKER", str(tmp_path / "{0}"))
    (tmp_path / ID).write_text(json.dumps({"Name": "/shop", "Config": {"Image": "shop:3", "Env": ["A=b"]}}))
    assert container_names(ID, "") == {
        "container.name": "shop",
        "container.image.name": "shop",
        "container.image.tags": ["3"],
    }


def test_a_new_container_is_found(tmp_path: Path) -> None:
    stored(tmp_path, "containers.json", CRIO)
    assert container_names(ID, mounted(tmp_path)) == {}
    stored(tmp_path, "containers.json", CRIO, PODMAN)
    os.utime(tmp_path / "overlay-containers/containers.json", (time.time(), time.time() + 1))
    assert container_names(ID, mounted(tmp_path))["container.name"] == "shop"


@pytest.mark.parametrize("text", ["", "[", "{}", '[{"id": 3}]', '[{"names": "shop"}]', "[]"])
def test_what_is_no_list_names_nothing(tmp_path: Path, text: str) -> None:
    stored(tmp_path, "containers.json")
    (tmp_path / "overlay-containers/containers.json").write_text(text)
    assert container_names(ID, mounted(tmp_path)) == {}


def test_names_that_are_not_there(tmp_path: Path) -> None:
    stored(tmp_path, "containers.json", {"id": ID, "names": None}, {"id": OTHER, "metadata": "{"})
    assert container_names(ID, mounted(tmp_path)) == container_names(OTHER, mounted(tmp_path)) == {}


def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    """The path is what a container's mounts say, and so may be its own choice."""
    (tmp_path / "overlay-containers").mkdir()
    os.mkfifo(tmp_path / "overlay-containers/containers.json")
    assert container_names(ID, mounted(tmp_path)) == {}
