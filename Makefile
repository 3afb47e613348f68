# Sundog: every target does one thing and says how long it took. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sundog
UV := $(CACHE)/uv/bin/uv
UV_VERSION := 0.13.9
PYTHON := .venv/bin/python
MAKE_ONE := $(MAKE) --no-print-directory
# Where Go's own installer puts it: sudo drops it from PATH.
export PATH := $(PATH):/usr/local/go/bin
export UV_PYTHON_DOWNLOADS := never

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  In each of them: PORT=8001 for the demo's port, ACTS=1 for a demo without autoscaling;"
	@echo "  XDG_CACHE_HOME for where all that is built is kept;"
	@echo "  KUBERNETES_VERSION=1.34.2 for another Kubernetes than the one of CI;"
	@echo "  SUNDOG_USE_EXISTING_CLUSTER=1 and KUBECONFIG for a cluster that you have."

# ---- see it ----

.PHONY: demo
demo: preflight  ## a real Kubernetes, Sundog, and a streamed answer of a real model
	@$(MAKE_ONE) environment
	@$(PYTHON) -m tests.demo up

.PHONY: demo-down
demo-down: environment  ## take away what the demo started (what was built is kept)
	@.ci/timed $@ $(PYTHON) -m tests.demo down

# ---- test it ----

.PHONY: test
test: preflight  ## all tests, with all that they need built beside them
	@$(MAKE_ONE) environment
	@.ci/timed $@ $(PYTHON) -m tests.stages

# The three side by side, since each uses one processor; the output of each in one piece.
.PHONY: test-fast
test-fast: environment  ## format, lint, types, layers, generated files, unit and golden tests
	@.ci/timed $@ $(MAKE_ONE) --jobs=3 --output-sync=target --keep-going lint types unit

MARKED := ray or vllm or apiserver or e2e
PYTEST = .ci/timed $@ $(PYTHON) -m pytest --durations=10

FAST := tests/unit tests/golden tests/faults tests/demo_tests tests/docs_tests

.PHONY: unit
unit: environment  ## unit and golden tests
	@$(PYTEST) -q --numprocesses=2 -m "not ($(MARKED))" $(FAST)

.PHONY: test-local
test-local: packages browser  ## tests of single programs: a real HAProxy, the builds, the cluster's parts
	@$(PYTEST) -m "not ($(MARKED))" $(addprefix --ignore=,$(FAST))

.PHONY: test-ray
test-ray: environment  ## tests against a Ray cluster on this machine
	@$(PYTEST) -m "ray and not ($(subst ray or ,,$(MARKED)))"

.PHONY: test-vllm
test-vllm: vllm-environment  ## tests against the real engine, on CPUs
	@$(PYTEST) -m "vllm and not (apiserver or e2e)"

.PHONY: test-apiserver
test-apiserver: packages  ## tests against a real API server
	@$(PYTEST) -m "apiserver and not (e2e or patient)"

.PHONY: test-patient
test-patient: packages  ## those of them that wait more than they work: an idle operator, a lost Lease, an outage
	@$(PYTEST) -m "apiserver and patient"

.PHONY: test-e2e
test-e2e: images  ## Sundog in real pods, installed by its chart
	@$(PYTEST) -m "e2e and not endurance" tests/e2e

.PHONY: test-node
test-node: images  ## the rest that needs real pods: the test cluster's node, the images, the demo
	@$(PYTEST) -m e2e --ignore=tests/e2e

.PHONY: endurance
endurance: images  ## promises at their full length, in real pods: an hour, not part of make test
	@$(PYTEST) -m endurance tests/e2e

.PHONY: bench
bench: environment  ## measure, and print the numbers
	@.ci/timed $@ $(PYTHON) -m tests.bench

.PHONY: replay
replay: environment  ## a recorded trace against policies of autoscaling: seven minutes each, as root
	@.ci/timed $@ $(PYTHON) -m tests.load replay

.PHONY: faults
faults: environment  ## break things under load, and tell what was lost: half an hour, as root
	@.ci/timed $@ $(PYTHON) -m tests.faults

# ---- work on it ----

.PHONY: docs
docs: environment  ## the documentation as a site, with every link checked
	@.ci/timed $@ $(PYTHON) -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "open build/docs/index.html"

.PHONY: lint
lint: environment  ## format, lint, layers and generated files
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check . || { echo "these files are not formatted: run make format"; .venv/bin/ruff format --check .; exit 1; }
	@.venv/bin/lint-imports --no-logo
	@$(MAKE_ONE) verify

# Not the recipes of models: what they import is in the vLLM environment only.
DRIVERS := tests.load tests.faults tests.demo tests.cluster tests.images tests.stages

.PHONY: types
types: environment  ## check the types, also of the programs that the tests are driven by
	@.venv/bin/mypy --no-error-summary $(addprefix --package=,sundog_operator sundog_cli sundog_serving $(DRIVERS)) \
		--module=tests.models.__main__

.PHONY: format
format: environment  ## format, and mend what the linter can mend
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format .

.PHONY: clean
clean:  ## delete what is made in this folder (the cache, $(CACHE), is left alone)
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- what it needs ----

# Standard library only, and before anything else: what is missing is told at once, all of it.
.PHONY: preflight
preflight: python
	@[[ "$$SUNDOG_USE_EXISTING_CLUSTER" == 1 ]] || python3 -B -m tests.demo.preflight "make $(firstword $(MAKECMDGOALS))"

.PHONY: python
python:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Sundog needs Python 3.11 or newer as python3 (found: $$(python3 --version 2>&1)). Install it, put it first in PATH, and run make again."; exit 1; }

# pip into a folder of another name first: what stands at its place is whole. uv itself needs nothing of the folder.
$(UV): | python
	@echo "installing uv $(UV_VERSION) into $(CACHE)/uv"
	@python3 -c 'import ensurepip, venv' 2>/dev/null || .ci/install python3-venv
	@rm -rf $(CACHE)/uv $(CACHE)/uv.unfinished
	@python3 -m venv $(CACHE)/uv.unfinished
	@$(CACHE)/uv.unfinished/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@mv $(CACHE)/uv.unfinished $(CACHE)/uv

# The stamp is written last: an environment that was interrupted halfway is made anew, a whole one is brought up to date.
.venv/stamp: requirements.lock pyproject.toml | $(UV)
	@echo "making .venv from requirements.lock"
	@test -e $@ || $(UV) venv --quiet --clear --python python3 .venv
	@.ci/timed .venv $(UV) pip sync --quiet --python $(PYTHON) --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: environment
environment: .venv/stamp  ## the Python environment in .venv

.PHONY: packages
packages: environment  ## the Debian packages (as root)
	@.ci/timed $@ $(PYTHON) -m tests.demo prepare packages

.PHONY: browser
browser: environment  ## Chromium, for the tests of the operator's page (as root)
	@.ci/timed $@ $(PYTHON) -m tests.demo prepare browser

.PHONY: vllm-environment
vllm-environment: environment  ## vLLM on CPUs: 6.5 GB
	@.ci/timed $@ $(PYTHON) -m tests.demo prepare environment

.PHONY: images
images: environment  ## the images of operator, router and serving
	@.ci/timed $@ $(PYTHON) -m tests.demo prepare images

.PHONY: cluster
cluster: packages  ## a Kubernetes of one node on this machine, named "sundog"
	@.ci/timed $@ $(PYTHON) -m tests.cluster up

.PHONY: cluster-down
cluster-down: environment  ## take that cluster away
	@.ci/timed $@ $(PYTHON) -m tests.cluster down

.PHONY: lock
lock: | $(UV)  ## resolve the locked requirements anew (keeps versions that still fit)
	@$(UV) pip compile --quiet --no-header --universal --generate-hashes --extra operator --extra cli --extra serving --group dev --group docs pyproject.toml -o requirements.lock
	@$(UV) pip compile --quiet --no-header --universal --generate-hashes --extra operator pyproject.toml -o operator/requirements.lock
	@$(UV) pip compile --quiet --no-header --universal --generate-hashes --extra serving pyproject.toml -o serving/requirements.lock

# ---- what is generated ----

.PHONY: generate
generate: environment  ## write what is generated: the CRD, its copy in the chart, references, the kustomize base
	@$(PYTHON) -m sundog_operator.api.generate
	@$(PYTHON) -m sundog_cli.reference --write docs/reference/cli.md
	@$(PYTHON) -m sundog_operator.metrics_reference --write docs/reference/metrics.md
	@$(PYTHON) -m tests.chart.generated

.PHONY: verify
verify: environment  ## check that what is generated is up to date
	@$(PYTHON) -m sundog_operator.api.generate --check
	@$(PYTHON) -m sundog_cli.reference --check docs/reference/cli.md
	@$(PYTHON) -m sundog_operator.metrics_reference --check docs/reference/metrics.md
	@$(PYTHON) -m tests.chart.generated --check
