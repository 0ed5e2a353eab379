# All that a newcomer needs; `make` alone lists it. Set-up happens by itself and only once.

PYTHON := .venv/bin/python
# eBPF programs need root: `make demo` and `make test` ask for it where they have to
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")
# more arguments for the command: make test ARGS="-k http1 -x"
ARGS ?=
# of `make kernels`: some of those in tests/kernels/kernels.py; all without it
KERNELS ?=
# of `make torture`: tcp or headers
WAY ?= tcp
# of `make reattach`
TIMES ?= 500

.DEFAULT_GOAL := help
.PHONY: help install demo test score lint bench torture reattach kernels lgtm scale containers host kubernetes test-lgtm test-k8s pictures wheel clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## install what is missing, leave .venv/bin/autoinstr
	@echo "installed: .venv/bin/autoinstr"

demo: .venv/.installed ## watch real services under load (Ctrl-C ends it; DEMO_SECONDS=30 ends by itself)
	@$(ROOT) $(PYTHON) examples/demo.py

# what fails is run once more, and both are told: a machine may be busy for a moment
test: .venv/.installed-dev ## run every test, kernel and end-to-end ones included
	@$(ROOT) $(PYTHON) -m pytest --numprocesses 2 --reruns 1 $(ARGS)

score: .venv/.installed-score ## hold what is told against the truth, in score/ (a part: ROWS=nginx,go SHAPES=keep-alive)
	@$(ROOT) $(PYTHON) tests/score/run.py --rows "$(ROWS)" --shapes "$(SHAPES)" --traces "$(TRACES)" $(ARGS)

lint: .venv/.installed-dev ## ruff, mypy, and the architecture contracts
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: .venv/.installed-dev ## measure what watching costs (COMPARE=old.json: and what became worse)
	@$(ROOT) $(PYTHON) tests/bench/run.py $(ARGS)
	@$(if $(COMPARE),$(PYTHON) tests/bench/compare.py $(COMPARE) bench.json)

torture: .venv/.installed-dev ## a million odd requests through --propagate, every byte compared (WAY=tcp, headers or go)
	@$(ROOT) $(PYTHON) tests/torture/torture.py --way $(WAY) $(ARGS)

reattach: .venv/.installed-dev ## attach and detach probes on functions under load, TIMES times (500)
	@REATTACH=$(TIMES) $(ROOT) $(PYTHON) -m pytest tests/e2e/test_reattach.py $(ARGS)

kernels: .venv/.installed-dev ## run a short test on other kernels and on arm64, emulated (KERNELS=5.10,7 picks)
	@$(ROOT) $(PYTHON) tests/kernels/try_kernels.py --kernels "$(KERNELS)" $(ARGS)

pictures: .venv/.installed-dev ## take the pictures of the page in docs/, from the demo
	@$(ROOT) $(PYTHON) tests/pictures/take.py

lgtm: .venv/.installed-dev ## ask real Mimir, Loki and Collector every query of the dashboards (builds them: half an hour, once)
	@$(ROOT) $(PYTHON) -m pytest tests/deploy/try_lgtm.py $(ARGS)

scale: .venv/.installed-dev ## measure docs/scale.md: what a node sends, and what 200 of them cost Mimir and a gateway
	@$(ROOT) $(PYTHON) -m pytest -s tests/deploy/try_scale.py $(ARGS)

containers: .venv/.installed-dev ## build the image, and run the compose project and the sidecar in a Docker engine of the tests' own
	@$(ROOT) $(PYTHON) -m pytest tests/deploy/try_compose.py $(ARGS)

host: .venv/.installed-dev ## do what docs/host.md says, in a container whose first process is systemd
	@$(ROOT) $(PYTHON) -m pytest tests/deploy/try_host.py $(ARGS)

kubernetes: .venv/.installed-dev ## run the DaemonSet and the sidecar on a real node (builds one: a quarter of an hour, once)
	@$(ROOT) $(PYTHON) -m pytest tests/deploy/try_kubernetes.py $(ARGS)

wheel: .venv/.installed-dev ## build dist/*.tar.gz and dist/*.whl
	@$(PYTHON) -m build --outdir dist .

test-lgtm: lgtm containers
test-k8s: kubernetes

clean: ## remove what make made, the virtual environment too
	@rm -rf .venv .cache dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/.installed: pyproject.toml scripts/install.sh
	@scripts/install.sh run

.venv/.installed-dev: .venv/.installed
	@scripts/install.sh dev

.venv/.installed-score: .venv/.installed-dev tests/e2e/grpc_java/pom.xml tests/e2e/grpc_tonic/Cargo.lock tests/e2e/grpc_tonic/src/main.rs
	@scripts/install.sh score
