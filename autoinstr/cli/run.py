"""`autoinstr run`: settings in, the pipeline's exit status out."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from autoinstr.cli.flags import HOW_SELECTED, HOW_SET, add_options, add_selecting
from autoinstr.config import load, require_selectors


class Run:
    """Watch processes until interrupted."""

    name = "run"
    summary = "watch processes, and export metrics and spans of their requests"
    description = (
        "Watches the selected processes until SIGINT or SIGTERM, then flushes and ends within 5 seconds.\n"
        "Writes a line that begins with `ready` to stderr when it has attached. Needs root, or CAP_BPF, CAP_PERFMON,\n"
        "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: see `autoinstr check`."
    )
    epilog = f"""{HOW_SELECTED}

{HOW_SET}

examples:
  autoinstr run --port 8080                                     print spans of what listens on 8080
  autoinstr run --exe '*/nginx' --format json                   the same as JSON, one span a line
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 \\
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf autoinstr run --port 8080,9000-9100
  autoinstr run --port 8080 --export prometheus --prometheus-port 9464
  autoinstr run --config /etc/autoinstr.yaml

a configuration file:
  select:
    - port: 8080,9000-9100
      exe: "*/python3*"
      service: {{name: shop, namespace: prod}}
    - cmd: "*worker*"
  exclude:
    - exe: "*/node_exporter"
  export: [otlp, prometheus]
  otlp: {{endpoint: "${{OTLP:-http://localhost:4317}}"}}
  routes: {{patterns: ["/users/{{id}}"]}}"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_selecting(parser)
        add_options(parser, "what is done with it")

    def run(self, arguments: argparse.Namespace) -> int:
        config = load(vars(arguments), os.environ)
        require_selectors(config)
        set_up_logging(config.log_level)
        # numpy's algebra, which nobody here asks for, would begin with a thread for each CPU
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from autoinstr.start import run  # noqa: PLC0415 - numpy and the stages: 0.1 s that --help need not take

        return run(config)


def set_up_logging(level: str) -> None:
    """Everything that is not the product of a command goes to stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", force=True
    )
