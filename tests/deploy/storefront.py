"""The example shop with the compose project's front door: what k6 visits, as real processes on loopback.

Out: addresses of the front door by HTTP and HTTPS, and the ports that the services listen on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from machine import run, wait_for
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin"


class Storefront:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.door, self.secure, self.shop, self.pricing, self.ratings = (free_port() for _ in range(5))
        self.http, self.https = f"http://127.0.0.1:{self.door}", f"https://127.0.0.1:{self.secure}"
        self.ports = f"{self.door},{self.secure},{self.shop},{self.pricing},{self.ratings}"
        self._stack = ExitStack()

    def __enter__(self) -> Storefront:
        self._start("node", ROOT / "examples/node-pricing/pricing.js", PORT=self.pricing)
        urls = {"PRICING_URL": f"http://127.0.0.1:{self.pricing}"}
        self._start("/usr/bin/python3", ROOT / "examples/python-shop/shop.py", PORT=self.shop, **urls)
        self._start(sys.executable, ROOT / "examples/python-ratings/ratings.py", PORT=self.ratings)
        self._nginx()
        for port in (self.pricing, self.shop, self.door):
            wait_for(lambda port=port: urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read(), "the shop", 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _nginx(self) -> None:
        """With the shipped configuration; only ports, addresses and folders are this machine's."""
        text = (ROOT / "compose/gateway/nginx.conf").read_text()
        for old, new in {
            "listen 8080": f"listen 127.0.0.1:{self.door}",
            "listen 8443": f"listen 127.0.0.1:{self.secure}",
            "shop:8081": f"127.0.0.1:{self.shop}",
            "/run/": f"{self.folder}/",
        }.items():
            assert old in text
            text = text.replace(old, new)
        temporary = [
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ]
        text = text.replace("http {", "http {\n" + "\n".join(temporary))
        configuration = self.folder / "nginx.conf"
        configuration.write_text(text)
        script = (ROOT / "compose/gateway/certificate.sh").read_text().replace("/run/", f"{self.folder}/")
        run("sh", "-c", script)
        self.folder.chmod(0o755)  # nginx's workers are another user
        nginx = shutil.which("nginx", path=PATH)
        assert nginx, "nginx is missing"
        self._start(nginx, "-p", self.folder, "-c", configuration, "-e", "stderr")

    def _start(self, *command: str | Path, **environment: object) -> None:
        variables = {name: str(value) for name, value in environment.items()}
        name = re.sub(r"\W", "-", str(command[-1]))[-30:]
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [*map(str, command)], env={**os.environ, **variables}, stdout=log, stderr=log, process_group=0
        )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.terminate)


def k6(script: str, *options: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run one of the shipped scripts."""
    program = Path(sys.executable).parent / "k6"
    given = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    command = [str(program), "run", "--quiet", "--no-usage-report", *options, *given, str(ROOT / "k6" / script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
