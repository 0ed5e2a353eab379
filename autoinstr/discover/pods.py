"""What the pods of a node are called: names by pod uid and by container id.

In: pods, as Kubernetes' API has them. Out: their names as OpenTelemetry's attributes. No I/O; who asks never waits, and
`generation` tells when it is worth asking again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from autoinstr.model import Attributes

MAX_PODS = 4096  # of one node: its kubelet takes 110 by default
REMEMBER = 60.0  # seconds that names of a deleted pod are kept: its last requests may still be on their way

ANNOTATED = "resource.opentelemetry.io/"  # annotations that stand for attributes
OWNERS = {
    "ReplicaSet": "replicaset",
    "StatefulSet": "statefulset",
    "DaemonSet": "daemonset",
    "Job": "job",
}
_SCHEDULED = re.compile(r"(.+)-\d{8,}\Z")  # the name of a CronJob's Job: the minute for which it was scheduled


class _Object(msgspec.Struct, rename="camel"):
    """Only what is read of an object is decoded: pods have hundreds of fields."""


class _Owner(_Object):
    kind: str = ""
    name: str = ""
    controller: bool = False


class _Metadata(_Object):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[_Owner] = []


class _Spec(_Object):
    node_name: str = ""


class _Terminated(_Object):
    container_id: str = msgspec.field(default="", name="containerID")


class _LastState(_Object):
    terminated: _Terminated | None = None


class _Container(_Object):
    name: str = ""
    image: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    last_state: _LastState = msgspec.field(default_factory=_LastState)


class _Status(_Object):
    container_statuses: list[_Container] = []
    init_container_statuses: list[_Container] = []
    ephemeral_container_statuses: list[_Container] = []


class Pod(_Object):
    """A pod, as the API has it."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class PodList(_Object):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    items: list[Pod] | None = None


class Event(_Object):
    type: str = ""
    object: Pod = msgspec.field(default_factory=Pod)


@dataclass(frozen=True, slots=True)
class Names:
    """What a pod, or a container of it, is called."""

    attributes: Attributes
    service: str  # the name of its services if nobody gave them another one
    namespace: str


class Table:
    """Names by pod uid and by container id. Read by one thread, changed by another."""

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        self.generation = 0  # changes when there is something new
        self._labels = labels
        self._by_id: dict[str, Names] = {}  # pod uids and container ids
        self._ids: dict[str, tuple[str, ...]] = {}  # pod uid -> its keys in `_by_id`
        self._deleted: dict[str, float] = {}  # pod uid -> when to forget it

    def find(self, container: str, pod: str) -> Names | None:
        """Of the container, or of the pod as long as the API does not know the container."""
        by_id = self._by_id
        return by_id.get(container) or by_id.get(pod)

    def put(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._deleted.pop(uid, None)
        if uid not in self._ids and len(self._ids) >= MAX_PODS:
            return
        names = dict(names_of(pod, self._labels))
        old = self._ids.get(uid, ())
        self._by_id.update(names)
        for gone in set(old) - names.keys():
            del self._by_id[gone]
        self._ids[uid] = tuple(names)
        if set(old) != names.keys():
            self.generation += 1

    def delete(self, uid: str) -> None:
        self._deleted.setdefault(uid, time.monotonic() + REMEMBER)

    def forget(self) -> None:
        """Let go of pods that were deleted long ago."""
        now = time.monotonic()
        for uid in [uid for uid, until in self._deleted.items() if until < now]:
            del self._deleted[uid]
            for key in self._ids.pop(uid, ()):
                self._by_id.pop(key, None)

    def only(self, uids: set[str]) -> None:
        """These are all that there are now."""
        for uid in self._ids.keys() - uids:
            self.delete(uid)


def names_of(pod: Pod, labels: tuple[str, ...]) -> Iterator[tuple[str, Names]]:
    """Names by each id that a process of the pod may be known by."""
    meta = pod.metadata
    annotated = {key[len(ANNOTATED) :]: text for key, text in meta.annotations.items() if key.startswith(ANNOTATED)}
    owner = dict(owners(meta))
    service = annotated.pop("service.name", "") or (next(iter(owner.values())) if owner else meta.name)
    namespace = annotated.pop("service.namespace", "") or meta.namespace
    common: Attributes = {
        "k8s.namespace.name": meta.namespace,
        "k8s.pod.name": meta.name,
        "k8s.pod.uid": meta.uid,
        "k8s.node.name": pod.spec.node_name,
        **{f"k8s.{kind}.name": name for kind, name in owner.items()},
        **{f"k8s.pod.label.{key}": meta.labels[key] for key in _chosen(meta.labels, labels)},
        **annotated,
    }
    names = Names(common, service, namespace)
    yield meta.uid, names
    # kubelet names the group of a pod from a file on the node after the file's hash
    if mirrored := meta.annotations.get("kubernetes.io/config.hash"):
        yield mirrored, names
    status = pod.status
    for one in (*status.container_statuses, *status.init_container_statuses, *status.ephemeral_container_statuses):
        inner = Names(common | {"k8s.container.name": one.name, **image_attributes(one.image)}, service, namespace)
        before = one.last_state.terminated
        for text in (one.container_id, before.container_id if before else ""):
            if text:
                yield text.rpartition("://")[2], inner


def owners(meta: _Metadata) -> Iterator[tuple[str, str]]:
    """Kind and name of those that a pod belongs to, the outermost first."""
    owner = next((one for one in meta.owner_references if one.controller), None)
    if owner is None or owner.kind not in OWNERS:
        return
    digest = meta.labels.get("pod-template-hash", "")
    if owner.kind == "ReplicaSet" and digest and owner.name.endswith(f"-{digest}"):
        yield "deployment", owner.name[: -len(digest) - 1]
    elif owner.kind == "Job" and (scheduled := _SCHEDULED.match(owner.name)):
        yield "cronjob", scheduled[1]
    yield OWNERS[owner.kind], owner.name


def _chosen(labels: Mapping[str, str], wanted: tuple[str, ...]) -> list[str]:
    return sorted(labels) if "*" in wanted else [key for key in wanted if key in labels]


def image_attributes(image: str) -> Attributes:
    """`registry:5000/shop:1.2@sha256:...` -> name and tag."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    if not name or "/" in tag:  # that colon is before a port
        name, tag = image.partition("@")[0], ""
    if not name or name == "sha256":
        return {}
    return {"container.image.name": name, **({"container.image.tags": [tag]} if tag else {})}
