"""What runs on the node beside the agent: servers and clients in pods of every kind, and what they were asked to do.

In: the image, an address of a pod. Out: Kubernetes objects. The programs are the standard library's own server and
client, so that each request is sent and answered exactly once.
"""

from __future__ import annotations

from typing import Any

IMAGE = "localhost/autoinstr:1"  # has a Python: one image for all
SERVER = """
import http.server, os, ssl, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *args): pass

plain = http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler)
secure = http.server.ThreadingHTTPServer(("", int(os.environ["PORT"]) + 1), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/app/certificate.pem", "/app/key.pem")
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=secure.serve_forever, daemon=True).start()
plain.serve_forever()
"""
CLIENT = """
import http.client, os, ssl, sys, time
host, port, count, word, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
time.sleep(1)
insecure = ssl._create_unverified_context()
plain = http.client.HTTPConnection(host, port, timeout=20)
secure = http.client.HTTPSConnection(host, port + 1, timeout=20, context=insecure)
for number in range(count):
    for scheme, connection in (("http", plain), ("https", secure)):
        connection.request("GET", f"/{word}/{scheme}/{number}")
        assert connection.getresponse().read() == b"ok"
    time.sleep(pause)
"""


def programs(certificate: str, key: str) -> dict[str, Any]:
    data = {"server.py": SERVER, "client.py": CLIENT, "certificate.pem": certificate, "key.pem": key}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs"}, "data": data}


def pod(command: list[str], *, port: int = 0, **spec: Any) -> dict[str, Any]:
    """The template of a pod."""
    container: dict[str, Any] = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": command,
        "env": [{"name": "PORT", "value": str(port)}],
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }
    if port:
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    volumes = [{"name": "app", "configMap": {"name": "programs"}}]
    return {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1, **spec},
    }


def server(kind: str, name: str, port: int, **spec: Any) -> dict[str, Any]:
    """A Deployment, StatefulSet or DaemonSet that serves plaintext on `port` and TLS on the one after it."""
    template = pod(["python3", "/app/server.py"], port=port, **spec)
    template["metadata"]["labels"] = {"app": name, "tier": "web"}
    more = {"serviceName": name} if kind == "StatefulSet" else {}
    selector = {"matchLabels": {"app": name}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": selector, "template": template, **more},
    }


def job(name: str, address: str, port: int, count: int, pause: float = 0, **spec: Any) -> dict[str, Any]:
    """A client that sends `count` requests by HTTP and by HTTPS, each with a path of its own."""
    command = ["python3", "/app/client.py", address, str(port), str(count), name, str(pause)]
    template = pod(command, restartPolicy="Never", **spec)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, "backoffLimit": 0},
    }
