"""What is shipped for others to load is well-formed, by their own schemas and parsers where there are any."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from grafana_foundation_sdk.cog import plugins as grafana
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import alloy  # noqa: E402 - found by the line above
from queries import GRAFANA, of_dashboards, of_data_sources  # noqa: E402

sys.path.insert(0, str(GRAFANA))

import make_dashboards  # noqa: E402

from autoinstr.config.file import read_file  # noqa: E402

KUBERNETES = ROOT / "deploy/kubernetes"
MANIFESTS = [
    path for path in sorted(KUBERNETES.rglob("*.yaml")) if path.name not in ("kustomization.yaml", "config.yaml")
]


def objects(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


@pytest.mark.parametrize("version", ["1.25", "1.37"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_it(path: Path, version: str) -> None:
    for one in objects(path):
        kubernetes_validate.validate(one, version, strict=True)


def test_kubernetes_would_refuse_a_misspelt_field() -> None:
    (daemonset,) = objects(KUBERNETES / "daemonset.yaml")
    daemonset["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(daemonset, "1.31", strict=True)


def test_everything_is_in_the_kustomization() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    listed = set(kustomization["resources"]) | {"config.yaml", "kustomization.yaml"}
    assert listed == {path.name for path in KUBERNETES.glob("*.yaml")}
    assert read_file(str(KUBERNETES / "config.yaml"), {}).selection.selectors


def test_daemonset_and_sidecar_have_the_same_rights_as_the_compose_services() -> None:
    (daemonset,), (sidecar,) = (objects(KUBERNETES / name) for name in ("daemonset.yaml", "sidecar/deployment.yaml"))
    wanted = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"]
    for one in (daemonset, sidecar):
        (agent,) = (box for box in one["spec"]["template"]["spec"]["containers"] if box["name"] == "autoinstr")
        assert agent["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": wanted}
    for file, name in (("agent.yaml", "agent"), ("sidecar.yaml", "sidecar")):
        service = yaml.safe_load((ROOT / "compose" / file).read_text())["services"][name]
        assert (service["cap_drop"], service["cap_add"]) == (["ALL"], wanted)


@pytest.mark.parametrize("name", list(make_dashboards.ALL))
def test_dashboard_is_what_its_source_makes(name: str) -> None:
    board = json.loads((GRAFANA / f"dashboards/{name}.json").read_text())
    assert board == json.loads(json.dumps(make_dashboards.ALL[name]))
    cells = [(x, y) for one in board["panels"] for x, y in squares(one["gridPos"])]
    assert len(cells) == len(set(cells)), "panels lie on each other"


def lost(given: Any, kept: Any, where: str = "") -> Iterator[str]:
    """Places of `given` that are not in `kept`, or are something else there."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name in given:
            yield from lost(given[name], kept[name], f"{where}/{name}") if name in kept else [f"{where}/{name}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{where}/{number}")
    elif given != kept:
        yield where


def unknown_to_grafana(board: dict[str, Any]) -> list[str]:
    """What does not survive the types that Grafana publishes of its dashboards, panels and queries."""
    grafana.register_default_plugins()
    return list(lost(board, json.loads(JSONEncoder().encode(Dashboard.from_json(board)))))


@pytest.mark.parametrize("name", list(make_dashboards.ALL))
def test_grafana_knows_every_name(name: str) -> None:
    text = (GRAFANA / f"dashboards/{name}.json").read_text()
    assert unknown_to_grafana(json.loads(text)) == []
    for known in ("legendFormat", "gridPos", "fieldConfig", "unit", "options", "placement", "queryType"):
        if f'"{known}"' in text:
            assert unknown_to_grafana(json.loads(text.replace(f'"{known}"', f'"{known}s"'))), known


NODE_MODULES = ROOT / ".cache/node/node_modules"
# Says how many places of each query are no LogQL.
LOGQL = """import {parser} from '@grafana/lezer-logql';
const wrong = (query) => {
  let found = 0;
  parser.parse(query).iterate({ enter(node) { found += node.type.isError; } });
  return found;
};
console.log(JSON.stringify(JSON.parse(process.argv[2]).map(wrong)));
"""


@pytest.mark.skipif(not (NODE_MODULES / "@grafana/lezer-logql").exists(), reason="needs npm, for Loki's grammar")
def test_loki_can_read_every_query(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "wrong.mjs").write_text(LOGQL)
    every = [*of_dashboards("shop/shop"), *of_data_sources("", "shop", 32 * "7")]
    asked = [query.text for query in every if query.language == "loki"]
    given = json.dumps([*asked, *(query.replace("=", "!", 1) for query in asked)])
    done = subprocess.run(["node", tmp_path / "wrong.mjs", given], capture_output=True, text=True, check=True)
    wrong = json.loads(done.stdout)
    assert len(asked) == 3 and not any(wrong[:3]) and all(wrong[3:])


def squares(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]


def test_data_sources_are_those_that_dashboards_ask() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    known = {(one["type"], one["uid"]) for one in sources}
    boards = [json.loads(path.read_text()) for path in (GRAFANA / "dashboards").glob("*.json")]
    asked = {
        (t["datasource"]["type"], t["datasource"]["uid"]) for b in boards for p in b["panels"] for t in p["targets"]
    }
    assert asked <= known and len(of_dashboards("x")) > 30


# What Alloy 1.12 knows of the components that are used here, by its reference (grafana.com/docs/alloy/v1.12/reference):
# arguments and, with a body of their own, blocks. It refuses every other name.
_OUTPUT: dict[str, Any] = {"metrics": str, "logs": str, "traces": str}
_STATEMENTS = {"context": str, "statements": str}
ALLOY: dict[str, dict[str, Any]] = {
    "otelcol.receiver.otlp": {"grpc": {"endpoint": str}, "http": {"endpoint": str}, "output": _OUTPUT},
    "otelcol.processor.memory_limiter": {
        **dict.fromkeys(("check_interval", "limit_percentage", "spike_limit_percentage"), str),
        "output": _OUTPUT,
    },
    "otelcol.processor.filter": {"error_mode": str, "traces": {"span": str}, "output": _OUTPUT},
    "otelcol.processor.transform": {
        "error_mode": str,
        **dict.fromkeys(("trace_statements", "metric_statements", "log_statements"), _STATEMENTS),
        "output": _OUTPUT,
    },
    "otelcol.processor.batch": {"timeout": str, "send_batch_size": str, "output": _OUTPUT},
    "otelcol.exporter.otlp": {"client": {"endpoint": str, "tls": {"insecure": str}}},
    "otelcol.exporter.otlphttp": {"client": {"endpoint": str}},
}


def alloy_text() -> str:
    return (ROOT / "compose/alloy/config.alloy").read_text()


def unknown_to_alloy(blocks: list[alloy.Block], known: dict[str, Any] = ALLOY) -> list[str]:
    """Names of components, blocks and arguments that Alloy has not, or not there."""
    wrong: list[str] = []
    for block in blocks:
        inside = known.get(block.name)
        if not isinstance(inside, dict):
            wrong.append(block.name)
            continue
        wrong += [f"{block.name} {name}" for name in block.values if inside.get(name) is not str]
        wrong += unknown_to_alloy(block.blocks, inside)
    return wrong


def test_alloy_knows_every_name() -> None:
    text = alloy_text()
    assert unknown_to_alloy(alloy.parse(text)) == []
    for old, new in (("processor.transform", "processor.resource"), ("timeout ", "timeuot "), ("span =", "spans =")):
        assert unknown_to_alloy(alloy.parse(text.replace(old, new)))
    for broken in (text + "}", text.removesuffix("}\n"), text.replace("= [", "=", 1), text.replace('"', "'", 1)):
        with pytest.raises(ValueError, match=r"it ends|where|what is"):
            alloy.parse(broken)


def test_alloy_components_are_connected() -> None:
    """Alloy can't be had to say so itself: every component that is named is there, and everything there is used."""
    blocks = alloy.parse(alloy_text())
    declared = {f"{one.name}.{one.label}.input" for one in blocks if ".receiver." not in one.name}
    outputs = [one.only("output").values for one in blocks if any(inner.name == "output" for inner in one.blocks)]
    assert {target for output in outputs for targets in output.values() for target in targets} == declared
    services = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())["services"]
    for one in blocks:
        for client in (inner for inner in one.blocks if inner.name == "client"):
            host = client.values["endpoint"].removeprefix("http://").partition(":")[0]
            assert host in services


# Of Tempo's settings, by its manifest (grafana.com/docs/tempo/v2.9.x/configuration/manifest), those that are used
# here; it refuses every other name. `receivers` is the Collector's own.
TEMPO: dict[str, Any] = {
    "server": {"http_listen_port": int, "log_level": str},
    "distributor": {"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": str}}}}},
    "ingester": {"max_block_duration": str},
    "compactor": {"compaction": {"block_retention": str}},
    "storage": {"trace": {"backend": str, "wal": {"path": str}, "local": {"path": str}}},
    "usage_report": {"reporting_enabled": bool},
}


def unlike(given: Any, known: Any, where: str = "") -> list[str]:
    if not isinstance(known, dict):
        return [] if isinstance(given, known) else [where]
    if not isinstance(given, dict):
        return [where]
    unknown = [f"{where}/{name}" for name in given.keys() - known.keys()]
    return unknown + [
        one for name in given.keys() & known.keys() for one in unlike(given[name], known[name], f"{where}/{name}")
    ]


def test_tempo_knows_every_name() -> None:
    text = (ROOT / "compose/tempo/tempo.yaml").read_text()
    assert unlike(yaml.safe_load(text), TEMPO) == []
    assert unlike(yaml.safe_load(text.replace("block_retention", "retention")), TEMPO)
    tempo = yaml.safe_load(text)
    services = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[1] for volume in services["tempo"]["volumes"]]
    for folder in ("wal", "local"):
        assert any(tempo["storage"]["trace"][folder]["path"].startswith(f"{one}/") for one in mounted)


def test_every_service_says_how_it_is() -> None:
    """By a check of the project's or of its image's. k6 only asks; what can't be asked says so in a comment."""
    by_image = ("agent", "sidecar")
    can_not = ("k6", "tempo", "mimir")
    for name in ("services.yaml", "compose.yaml", "agent.yaml", "otel-lgtm.yaml"):
        for service, content in yaml.safe_load((ROOT / "compose" / name).read_text())["services"].items():
            assert ("healthcheck" in content) == (service not in (*by_image, *can_not)), (name, service)
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "autoinstr.service"
    unit.write_text(
        (ROOT / "deploy/systemd/autoinstr.service").read_text().replace("/opt/autoinstr/bin/autoinstr", "/bin/true")
    )
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "autoinstr.service" not in done.stderr, done.stderr


def test_every_image_has_a_version() -> None:
    for path in (ROOT / "compose").glob("*.yaml"):
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            image = service.get("image", "autoinstr:latest")
            assert image == "autoinstr:latest" or re.search(r":v?\d+\.\d+\.\d+", image), (path, name)
    for path in (ROOT / "Dockerfile", *(ROOT / "examples").glob("*/Dockerfile")):
        text = path.read_text()
        bases = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
        bases += re.findall(r"^ARG BASE=(\S+)", text, re.MULTILINE)
        stages = ("scratch", "system", "build", "${BASE}")
        assert all(one in stages or re.search(r":\d+\.\d+", one) for one in bases), (path, bases)


def test_overlay_of_the_page_fits_the_daemonset() -> None:
    """Its patch says where by number: what stands there is what it puts another value in the place of."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    overlay = yaml.safe_load(textwrap.dedent(text))
    (daemonset,) = objects(KUBERNETES / "daemonset.yaml")
    (image,) = {one["image"] for one in daemonset["spec"]["template"]["spec"]["containers"]}
    assert overlay["images"][0]["name"] == image.partition(":")[0]
    (patch,) = overlay["patches"]
    assert patch["target"] == {"kind": daemonset["kind"]}
    for change in yaml.safe_load(patch["patch"]):
        found: Any = daemonset
        for part in change["path"].split("/")[1:]:
            found = found[int(part) if part.isdecimal() else part]
        assert change["op"] == "replace" and found["name"] == change["value"]["name"]
