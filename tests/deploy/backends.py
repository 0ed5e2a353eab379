"""Builds from Go modules what no package has: OpenTelemetry Collector, Mimir, Loki, Kubernetes.

    python tests/deploy/backends.py collector mimir ...     leaves .cache/backends/otelcol, .cache/backends/mimir ...

What is there already is kept. Needs Go 1.26 and a Go module proxy; all of them take half an hour on two cores the
first time. Versions are pinned here; a folder of `tests/deploy/go/` holds the program where the module has none of
its own that fits.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BACKENDS = HERE.parents[1] / ".cache/backends"
GO = "1.26.5"
COLLECTOR, STABLE = "v0.155.0", "v1.61.0"
KUBERNETES, STAGING = "v1.36.3", "v0.36.3"
# Modules that Kubernetes' own go.mod replaces by folders of its repository.
STAGED = [
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "cri-streaming",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
    "sample-cli-plugin",
    "sample-controller",
    "streaming",
]


@dataclass(frozen=True)
class Backend:
    """Programs of one set of modules. `replaced`: what the module's own go.mod replaces, which others don't inherit."""

    programs: tuple[str, ...]  # what is left in .cache/backends
    packages: tuple[str, ...]
    required: dict[str, str]
    replaced: dict[str, str]
    source: str = ""  # folder in tests/deploy/go
    tags: str = ""


def collector() -> Backend:
    core = "go.opentelemetry.io/collector"
    contrib = "github.com/open-telemetry/opentelemetry-collector-contrib"
    required = dict.fromkeys((f"{core}/{one}" for one in ("component", "confmap", "exporter", "receiver")), STABLE)
    required |= dict.fromkeys(
        (f"{core}/confmap/provider/{one}" for one in ("envprovider", "fileprovider", "yamlprovider")), STABLE
    )
    parts = ("otelcol", "service", "receiver/otlpreceiver", "processor/batchprocessor", "exporter/otlphttpexporter")
    required |= {f"{core}/{one}": COLLECTOR for one in parts}
    required[f"{contrib}/exporter/fileexporter"] = COLLECTOR
    return Backend(("otelcol",), ("./otelcol",), required, {}, "otelcol")


def alloy() -> Backend:
    """A Collector with the processors of the demo's Alloy, which itself can't be had."""
    core, contrib = "go.opentelemetry.io/collector", "github.com/open-telemetry/opentelemetry-collector-contrib"
    more = (f"{contrib}/processor/filterprocessor", f"{contrib}/processor/transformprocessor")
    required = collector().required | dict.fromkeys((*more, f"{core}/processor/memorylimiterprocessor"), COLLECTOR)
    return Backend(("otelcol-alloy",), ("./otelcol-alloy",), required, {}, "otelcol", "alloy")


def mimir() -> Backend:
    replaced = {
        "github.com/prometheus/prometheus": "github.com/grafana/mimir-prometheus v1.8.2-0.20260421065545-af7900704075",
        "github.com/hashicorp/memberlist": "github.com/grafana/memberlist v0.3.1-0.20251126142931-6f9f62ab6f86",
        "go.yaml.in/yaml/v3": "github.com/grafana/go-yaml/v3 v3.0.0-20260130164322-e3c24e8f4c87",
        "github.com/grafana/regexp": "github.com/grafana/regexp v0.0.0-20250905101755-5eb4f3acbf71",
        "github.com/munnerz/goautoneg": "github.com/grafana/goautoneg v0.0.0-20240607115440-f335c04c58ce",
        "github.com/opentracing-contrib/go-stdlib": "github.com/grafana/opentracing-contrib-go-stdlib"
        " v0.0.0-20230509071955-f410e79da956",
        "github.com/opentracing-contrib/go-grpc": "github.com/charleskorn/go-grpc v0.0.0-20231024023642-e9298576254f",
        "github.com/prometheus/otlptranslator": "github.com/grafana/mimir-otlptranslator"
        " v0.0.0-20251017074411-ea1e8f863e1d",
        "github.com/influxdata/influxdb/v2": "github.com/influxdata/influxdb/v2 v2.7.12",
        "github.com/twmb/franz-go/pkg/kadm": "github.com/twmb/franz-go/pkg/kadm v1.17.2",
    }
    module = "github.com/grafana/mimir"
    return Backend(("mimir",), (f"{module}/cmd/mimir",), {module: "v1.3.1-0.20260423142704-aced80d74930"}, replaced)


def loki() -> Backend:
    replaced = {
        "github.com/Azure/azure-sdk-for-go": "github.com/Azure/azure-sdk-for-go v68.0.0+incompatible",
        "github.com/Azure/azure-storage-blob-go": "github.com/MasslessParticle/azure-storage-blob-go"
        " v0.14.1-0.20240322194317-344980fda573",
        "github.com/gocql/gocql": "github.com/grafana/gocql v0.0.0-20200605141915-ba5dc39ece85",
        "github.com/hashicorp/memberlist": "github.com/grafana/memberlist v0.3.1-0.20251126142931-6f9f62ab6f86",
        "github.com/grafana/regexp": "github.com/grafana/regexp v0.0.0-20240518133315-a468a5bfb3bc",
        "github.com/influxdata/go-syslog/v3": "github.com/leodido/go-syslog/v4 v4.3.0",
        "github.com/thanos-io/objstore": "github.com/grafana/objstore v0.0.0-20250728171719-b5d3b766d1b0",
    }
    module = "github.com/grafana/loki/v3"
    return Backend(("loki",), (f"{module}/cmd/loki",), {module: "v3.7.8"}, replaced)


def etcd() -> Backend:
    return Backend(("etcd",), ("./etcd",), {"go.etcd.io/etcd/server/v3": "v3.6.16"}, {}, "etcd")


def kubernetes() -> Backend:
    programs = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
    packages = tuple(f"k8s.io/kubernetes/cmd/{program}" for program in programs)
    replaced = {f"k8s.io/{one}": f"k8s.io/{one} {STAGING}" for one in STAGED}
    return Backend(programs, packages, {"k8s.io/kubernetes": KUBERNETES}, replaced)


def kubeconform() -> Backend:
    module = "github.com/yannh/kubeconform"
    return Backend(("kubeconform",), (f"{module}/cmd/kubeconform",), {module: "v0.8.0"}, {})


ALL = {one.__name__: one for one in (collector, alloy, mimir, loki, etcd, kubernetes, kubeconform)}


def build(name: str) -> Path:
    """The folder in which the backend's programs are; CalledProcessError if they can't be built."""
    BACKENDS.mkdir(parents=True, exist_ok=True)
    with (BACKENDS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and finds it built
        _build(ALL[name]())
    return BACKENDS


def _build(backend: Backend) -> None:
    if all((BACKENDS / program).exists() for program in backend.programs):
        return
    with tempfile.TemporaryDirectory(prefix="autoinstr-build-") as folder:
        work = Path(folder)
        if backend.source:
            shutil.copytree(HERE / "go" / backend.source, work / backend.packages[0])
        lines = ["module backends", f"go {GO}"]
        lines += [f"require {module} {version}" for module, version in backend.required.items()]
        lines += [f"replace {module} => {other}" for module, other in backend.replaced.items()]
        (work / "go.mod").write_text("\n".join(lines) + "\n")
        out = work / "out"
        out.mkdir()
        command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-tags", backend.tags, "-o", f"{out}/"]
        command += backend.packages
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOTOOLCHAIN": "local"}
        subprocess.run(["nice", *command], cwd=work, env={**os.environ, **environment}, check=True)
        for program in backend.programs:
            shutil.move(out / program, BACKENDS / program)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave nothing behind
    for name in sys.argv[1:] or ALL:
        build(name)
        print(f"{name}: built", flush=True)
