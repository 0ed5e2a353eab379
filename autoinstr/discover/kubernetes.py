"""The pods of this node: the API server is asked for a list once, and then tells what changes.

In: the node's name, and the service account that Kubernetes gives a pod. Out: a `Table` of names, kept up to date by a
thread of its own; while the server can't be reached, the last ones hold.

Needs `list` and `watch` on pods, nothing else: a deployment's name is found in the name of its replica set. Speaks
HTTPS by the standard library: Kubernetes' own client takes 30 MB of memory, and this is one list and one watch.
"""

from __future__ import annotations

import http.client
import logging
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from autoinstr.discover.pods import Event, Pod, PodList, Table
from autoinstr.errors import UsageError

log = logging.getLogger(__name__)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_ANSWER = 64 << 20  # of a list
MAX_EVENT = 4 << 20  # etcd takes objects of 1.5 MB
ANSWER_WITHIN = 10.0
# Seconds that a watch lasts, and may be silent: the server sends a bookmark about once a minute.
WATCH_FOR, SILENT = 300, 150.0
RETRY_AFTER, RETRY_AT_MOST = 1.0, 30.0

Answer = TypeVar("Answer")


class UnreachableError(Exception):
    """The API server did not answer, or not with what was asked for."""


class OutdatedError(Exception):
    """What the server remembers begins later than what we know: list again."""


class Api:
    """The API server, as a pod reaches it."""

    def __init__(self, host: str, port: int, account: Path = ACCOUNT) -> None:
        self._host, self._port, self._account = host, port, account
        self._connection: http.client.HTTPSConnection | None = None

    def pods(self, node: str) -> tuple[list[Pod], str]:
        """All pods of a node, and the version that a watch goes on from."""
        # version 0: what the server has in memory, without asking etcd
        answer = self._get(node, {"resourceVersion": "0"}, ANSWER_WITHIN)
        found = _decode(self._reading(lambda: answer.read(MAX_ANSWER)), PodList)
        return found.items or [], found.metadata.resource_version

    def changes(self, node: str, version: str) -> Iterator[tuple[str, Pod]]:
        """What happens after `version`, as it happens, until the server ends the watch."""
        more = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "1", "timeoutSeconds": str(WATCH_FOR)}
        answer = self._get(node, more, SILENT)
        while line := self._reading(lambda: answer.readline(MAX_EVENT)):
            event = _decode(line, Event)
            if event.type == "ERROR":
                raise OutdatedError
            yield event.type, event.object

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _get(self, node: str, parameters: dict[str, str], silent: float) -> http.client.HTTPResponse:
        query = urlencode({"fieldSelector": f"spec.nodeName={node}", **parameters})
        self.close()  # the last answer may not have been read to its end

        def ask() -> http.client.HTTPResponse:
            # Both files are exchanged while we run.
            token = (self._account / "token").read_text().strip()
            context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=ANSWER_WITHIN, context=context)
            self._connection = connection
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            connection.request("GET", f"/api/v1/pods?{query}", headers=headers)
            answer = connection.getresponse()
            if connection.sock is not None:
                connection.sock.settimeout(silent)
            return answer

        answer = self._reading(ask)
        if answer.status == http.HTTPStatus.GONE:
            raise OutdatedError
        if answer.status != http.HTTPStatus.OK:
            hint = ": the service account needs list and watch on pods" if answer.status in (401, 403) else ""
            raise UnreachableError(f"status {answer.status}{hint}")
        return answer

    def _reading(self, read: Callable[[], Answer]) -> Answer:
        try:
            return read()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(str(error) or type(error).__name__) from error


def _decode(data: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise UnreachableError(f"not an answer of Kubernetes: {error}") from error


class Kubernetes:
    """The table of one node's pods, and the thread that keeps it."""

    def __init__(self, api: Api, node: str, labels: tuple[str, ...] = ()) -> None:
        self.table = Table(labels)
        self._api = api
        self._node = node
        self._listed = threading.Event()
        self._stopping = threading.Event()
        self._trouble = ""
        self._pause = RETRY_AFTER
        self._thread = threading.Thread(target=self._run, name="kubernetes", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Until the pods that there are were listed: names are then known from the first request on."""
        return self._listed.wait(seconds)

    def close(self) -> None:
        """The thread ends when its connection does: at the latest with the process."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except UnreachableError as trouble:
                self._say(str(trouble))
                # not all nodes' agents at the same moment, when the server comes back
                self._stopping.wait(random.uniform(0.5, 1) * self._pause)
                self._pause = min(2 * self._pause, RETRY_AT_MOST)
            except Exception:  # the boundary of one attempt: names are not worth the agent
                log.exception("names of pods: please report this")
                self._stopping.wait(RETRY_AT_MOST)

    def _follow(self) -> None:
        """List, then follow changes for as long as the server lets us."""
        pods, version = self._api.pods(self._node)
        for pod in pods:
            self.table.put(pod)
        self.table.only({pod.metadata.uid for pod in pods})
        self._say("")
        self._pause = RETRY_AFTER
        self._listed.set()
        try:
            while not self._stopping.is_set():
                for kind, pod in self._api.changes(self._node, version):
                    version = pod.metadata.resource_version
                    self._change(kind, pod)
                self.table.forget()
        except OutdatedError:
            return

    def _change(self, kind: str, pod: Pod) -> None:
        if kind in ("ADDED", "MODIFIED"):
            self.table.put(pod)
        elif kind == "DELETED":
            self.table.delete(pod.metadata.uid)
        self.table.forget()

    def _say(self, trouble: str) -> None:
        """When it begins to fail, when it fails otherwise, and when it works again."""
        if trouble and trouble != self._trouble:
            log.warning("names of pods are not up to date: API server: %s", trouble)
        elif self._trouble and not trouble:
            log.info("names of pods are up to date again")
        self._trouble = trouble


def from_pod(environment: Mapping[str, str], node: str, labels: tuple[str, ...]) -> Kubernetes:
    """With what Kubernetes gives every pod; UsageError outside of one."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (ACCOUNT / "token").exists():
        raise UsageError(
            f"the names of pods on node {node} were asked for (AUTOINSTR_KUBERNETES_NODE), but this is no pod with a"
            " service account: KUBERNETES_SERVICE_HOST is not set, or its token is not mounted"
        )
    return Kubernetes(Api(host, int(port)), node, labels)
