"""h2load, once for requests in a row that differ in their paths only: these are asked 8 at a time on a connection."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AT_ONCE = 8
failed = False
print("up", flush=True)
sys.stdin.readline()
lines = [line.split() for line in Path(sys.argv[1]).read_text().splitlines()]
for (method, _, size), alike in itertools.groupby(lines, lambda line: (line[0], line[1][:5], int(line[2]))):
    urls = [url for _, url, *_ in alike]
    with tempfile.NamedTemporaryFile("w") as paths, tempfile.NamedTemporaryFile("wb") as body:
        paths.write("\n".join(urls) + "\n")
        paths.flush()
        body.write(b"z" * size)
        body.flush()
        command = ["h2load", f"-n{len(urls)}", "-c1", f"-m{AT_ONCE}", f"-H:method: {method}", "-i", paths.name]
        begun = time.monotonic_ns()
        done = subprocess.run(
            [*command, *(["-d", body.name] if size else [])], capture_output=True, text=True, check=False
        )
        took = time.monotonic_ns() - begun
    if f" {len(urls)} done, " not in done.stdout or " 0 errored, 0 timeout" not in done.stdout:
        print(done.stdout, done.stderr, file=sys.stderr)
        failed = True
    for url in urls:
        print(url, took)
sys.exit(failed)
