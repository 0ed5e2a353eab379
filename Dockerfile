# The agent as an image. How to run it: docs/compose.md, docs/sidecar.md, docs/kubernetes.md.
#
#   docker build -t autoinstr .
#   docker run --rm --pid=host --cap-drop=ALL --cap-add=BPF --cap-add=PERFMON --cap-add=SYS_PTRACE \
#     --cap-add=DAC_READ_SEARCH --security-opt=apparmor=unconfined autoinstr run --port 8080

ARG BASE=debian:12.11-slim

# bcc is not on PyPI; it comes with Debian's own Python, and brings LLVM, which is most of the image.
FROM ${BASE} AS system
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-bpfcc \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/man

FROM system AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY autoinstr autoinstr
COPY bpf bpf
RUN python3 -m venv --system-site-packages /opt/autoinstr \
    && /opt/autoinstr/bin/pip install --no-cache-dir . \
    && /opt/autoinstr/bin/pip uninstall -y pip setuptools

FROM system
LABEL org.opencontainers.image.title="autoinstr" \
      org.opencontainers.image.description="Zero-code instrumentation: HTTP traffic as OpenTelemetry spans and metrics, by eBPF" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:12-slim"
COPY --from=build /opt/autoinstr /opt/autoinstr
# The port, on loopback unless AUTOINSTR_PROMETHEUS_HOST says otherwise, adds /metrics to whatever else is exported;
# HEALTHCHECK asks there. No USER: capabilities have no effect for another user than root, whatever is added.
ENV PATH=/opt/autoinstr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    AUTOINSTR_PROMETHEUS_PORT=9464
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"AUTOINSTR_PROMETHEUS_PORT\"]}/ready', timeout=4)"]
ENTRYPOINT ["autoinstr"]
CMD ["run"]
