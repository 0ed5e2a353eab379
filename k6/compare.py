"""Do k6 and the agent say the same? Compares k6's own summary with the agent's metrics.

    curl -s http://127.0.0.1:9464/metrics > before.txt
    k6 run --summary-export summary.json k6/steady.js
    curl -s http://127.0.0.1:9464/metrics > after.txt
    python3 k6/compare.py summary.json before.txt after.txt --job nginx --grpc-job ratings

In: the summary, and two scrapes of the agent around the run. Out: both sides' figures, and status 1 if they disagree: a
request too few or too many, or a mean duration that the network can't explain. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SAMPLE = re.compile(r"^(http_server_request|rpc_server_call)_duration_seconds_(count|sum)\{(.*)\} (\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# k6 counts from before it sends until it has read, the agent what lies between in the server. Loopback and k6 itself:
NETWORK = 25.0  # milliseconds of the mean


@dataclass(frozen=True)
class Kind:
    """How requests of a kind are called: by k6, in the agent's metrics, and here."""

    duration: str
    metric: str
    what: str
    failed: str


HTTP = Kind("http_req_duration", "http_server_request", "requests", "with a status from 400 on")
GRPC = Kind("grpc_req_duration", "rpc_server_call", "calls", "with another status than OK")


@dataclass(frozen=True)
class Side:
    """What one side says of a run."""

    requests: int  # or calls
    failed: int  # statuses from 400 on; of gRPC all but OK
    mean: float  # seconds


def of_k6(summary: dict, kind: Kind) -> Side:
    """`--summary-export` or `handleSummary`, with `count` in summaryTrendStats; failed: what k6 did not expect."""
    values = {name: metric.get("values", metric) for name, metric in summary["metrics"].items()}
    durations = values.get(kind.duration, {"count": 0, "avg": 0})
    failed = values.get("http_req_failed", {}) if kind is HTTP else {}
    return Side(int(durations["count"]), int(failed.get("passes", 0)), durations["avg"] / 1000)


def of_agent(page: str, kind: Kind, job: str) -> Side:
    """One scrape; the servers of that name."""
    sums: Counter[str] = Counter()
    for metric, part, labels, value in SAMPLE.findall(page):
        found = dict(LABEL.findall(labels))
        if metric != kind.metric or found.get("job", "").rpartition("/")[2] != job:
            continue
        sums[part] += float(value)
        went_well = (
            found.get("http_response_status_code", "0") < "400" and found.get("rpc_grpc_status_code", "0") == "0"
        )
        if part == "count" and not went_well:
            sums["failed"] += float(value)
    return Side(int(sums["count"]), int(sums["failed"]), sums["sum"] / sums["count"] if sums["count"] else 0.0)


def between(before: Side, after: Side) -> Side:
    requests = after.requests - before.requests
    seconds = after.mean * after.requests - before.mean * before.requests
    return Side(requests, after.failed - before.failed, seconds / requests if requests else 0.0)


def disagreements(kind: Kind, k6: Side, agent: Side, network: float) -> list[str]:
    """What can't both be true."""
    found = []
    if k6.requests != agent.requests:
        found.append(f"k6 sent {k6.requests:,} {kind.what}, the agent saw {agent.requests:,}")
    if not agent.mean <= k6.mean <= agent.mean + network:
        found.append(f"k6 waited {1000 * k6.mean:.2f} ms on average, the agent saw {1000 * agent.mean:.2f} ms")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path, help="of k6 run --summary-export")
    parser.add_argument("before", type=Path, help="a scrape of the agent before the run")
    parser.add_argument("after", type=Path, help="and one after it")
    parser.add_argument("--job", help="the service that k6 visited")
    parser.add_argument("--grpc-job", help="the service that it called by gRPC")
    parser.add_argument(
        "--network", type=float, default=NETWORK, help="ms that k6 may wait longer (default: %(default)s)"
    )
    given = parser.parse_args()
    if not given.job and not given.grpc_job:
        parser.error("which service did k6 visit? Give --job, --grpc-job or both")
    summary = json.loads(given.summary.read_text())
    problems: list[str] = []
    for kind, job in ((HTTP, given.job), (GRPC, given.grpc_job)):
        if not job:
            continue
        k6 = of_k6(summary, kind)
        agent = between(*(of_agent(path.read_text(), kind, job) for path in (given.before, given.after)))
        for name, side in (("k6", k6), ("agent", agent)):
            print(f"{name:>6}: {side.requests:9,} {kind.what}, {1000 * side.mean:9.2f} ms on average")
        print(f"{'':>6}  {agent.failed:9,} {kind.failed}")
        problems += disagreements(kind, k6, agent, given.network / 1000)
    print("\n".join(problems) if problems else "they agree")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
