# Two commands do everything on a fresh machine: make demo, make test.
.DEFAULT_GOAL := help
.PHONY: help demo demo-bulk up test test-full test-chaos test-contract test-browser bench bench-bulk bench-cuda bench-dashboard check check-types check-code check-documents check-deployment docs reference audit sbom clean
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
# .venv is ours to write to: without cached bytecode torch and transformers take twice as long to import
unexport PYTHONDONTWRITEBYTECODE

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

# By environment, not by arguments: labels hold quotes and spaces that a shell would take apart.
demo: export LENSQUEUE_DEMO_MODEL = $(value MODEL)
demo: export LENSQUEUE_DEMO_IMAGES = $(value IMAGES)
demo: export LENSQUEUE_DEMO_LABELS = $(value LABELS)
demo: .venv/ready-to-run ## Run a logit lens over the sample pictures, or yours: MODEL=... IMAGES=folder LABELS="a cat,a dog"
	@$(BIN)/lensqueue demo

demo-bulk: .venv/ready-to-run ## Say what the demo model sees in 1,000 generated scenes, layer by layer; takes some minutes
	@$(BIN)/python -m demo.generate .lensqueue/demo-bulk/scenes --count 1000 --seed 5 --several-every 0
	@$(BIN)/lensqueue analyze .lensqueue/demo-bulk/scenes --truth .lensqueue/demo-bulk/scenes/labels.csv --template "a photo of a {}" --out .lensqueue/demo-bulk

up: .venv/ready-to-run ## Run the whole service in the foreground; prints its address and key: PORT=8000
	@exec $(BIN)/lensqueue up $(if $(PORT),--port $(PORT))

# passive: threads that spin for their next piece of work take the processor from the processes beside them
test: .venv/ready-to-develop ## Run the tests, on real Postgres, Valkey and workers
	@OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-full: .venv/ready-to-develop ## Run the engine on all eleven checkpoints at their real dimensions
	@$(BIN)/python -m pytest tests/full -m full --durations=5

test-chaos: .venv/ready-to-develop ## Kill, freeze and lie to the processes of a running service
	@$(BIN)/python -m pytest -m "chaos or slow_chaos" --durations=0

test-contract: .venv/ready-to-develop .contract/ready ## Hold the running API against its document: Spectral, Redocly, Schemathesis, a generated client
	@$(BIN)/python -m pytest tests/contract -m contract --durations=5

test-browser: .venv/ready-to-browse ## Use the dashboard in a real browser, and hold its pages to WCAG by axe-core; needs Chromium
	@$(BIN)/python -m pytest tests/browser -m browser --durations=5

bench: .venv/ready-to-develop ## Measure the engine against transformers, its outputs, pixels and memory; takes an hour
	@$(BIN)/python -m benchmarks.forward --out benchmarks/results/forward.json
	@$(BIN)/python -m benchmarks.pixels --out benchmarks/results/pixels.json
	@$(BIN)/python -m benchmarks.lens --out benchmarks/results/lens-float32.json
	@$(BIN)/python -m benchmarks.lens --dtype bfloat16 --out benchmarks/results/lens-bfloat16.json
	@$(BIN)/python -m benchmarks.memory --out benchmarks/results/memory.json

bench-bulk: .venv/ready-to-develop ## Measure image sets: throughput, memory, a million simulated items, the page; takes half an hour
	@$(BIN)/python -m benchmarks.bulk throughput --out benchmarks/results/bulk-throughput.json
	@$(BIN)/python -m benchmarks.bulk memory --out benchmarks/results/bulk-memory.json
	@$(BIN)/python -m benchmarks.bulk million --out benchmarks/results/bulk-million.json
	@$(BIN)/python -m benchmarks.bulk page --out benchmarks/results/bulk-page.json

bench-cuda: .venv/ready-to-develop ## Measure the engine against transformers, and its outputs, on a GPU; takes ten minutes
	@$(BIN)/python -m benchmarks.cuda --batches 32 --out benchmarks/results/so400m-cuda.json
	@$(BIN)/python -m benchmarks.cuda --model google/siglip-base-patch16-224 --batches 256 --out benchmarks/results/base-cuda.json

check: .venv/ready-to-develop ## Lint, formatting, types, import floors, the API's document, the documentation, deployment files
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types check-code check-documents check-deployment

check-types: .venv/ready-to-develop
	@$(BIN)/mypy

check-code: .venv/ready-to-develop
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/lint-imports --no-cache | tail -n 8
	@$(BIN)/python -m api.openapi --check
	@$(BIN)/python -m tests.contract.breaking

# never --quiet: it takes the warnings away that --strict is to count
check-documents: .venv/ready-to-develop
	@$(BIN)/python -m handbook --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

check-deployment: .venv/ready-to-develop
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/python -m deploy.workers --check
	@$(BIN)/python -m deploy.rules --check
	@for overlay in cpu gpu; do for version in 1.32 1.37; do \
	  $(BIN)/kubectl kustomize deploy/kubernetes/overlays/$$overlay \
	  | $(BIN)/kubernetes-validate --strict --quiet --no-warn --kubernetes-version $$version /dev/stdin || exit 1; \
	done; done

# the theme tells of its successor at each build: pyproject.toml says until when it is kept
docs: .venv/ready-to-develop reference ## Build the documentation into site/: open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

reference: .venv/ready-to-develop ## Write the pages of docs/reference that follow from the code
	@$(BIN)/python -m handbook

bench-dashboard: .venv/ready-to-develop ## Measure the dashboard's pages over a million jobs; takes ten minutes
	@$(BIN)/python -m benchmarks.dashboard --out benchmarks/results/dashboard.json

audit: .audit/ready ## Ask PyPI, or AUDIT="--vulnerability-service osv", whether a pinned version has a known fault
	@.audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt $(AUDIT)

sbom: .audit/ready ## Write docs/reference/sbom.cdx.json: every pinned package, as CycloneDX
	@.audit/bin/python -W ignore::UserWarning -m cyclonedx_py requirements constraints.txt --pyproject pyproject.toml \
	  --output-reproducible --spec-version 1.6 --output-format JSON --output-file - \
	  | .audit/bin/python -m deploy.sbom > .audit/sbom.json && mv .audit/sbom.json docs/reference/sbom.cdx.json

clean: ## Remove the environment and everything that was kept
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@rm -rf .venv site .audit .contract .lensqueue .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

.venv/ready-to-run: pyproject.toml client/pyproject.toml constraints.txt deploy/install
	@deploy/install ml embedded analysis
	@touch $@

# apart from .venv: what looks at the versions has versions of its own
.audit/ready: deploy/audit-requirements.txt
	@"$${PYTHON:-python3}" -m venv .audit
	@.audit/bin/pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

.contract/ready: tests/contract/install tests/contract/requirements.txt tests/contract/package-lock.json
	@tests/contract/install
	@touch $@

.venv/ready-to-develop: pyproject.toml client/pyproject.toml constraints.txt deploy/install
	@deploy/install ml embedded analysis dev docs
	@touch .venv/ready-to-run $@

.venv/ready-to-browse: pyproject.toml client/pyproject.toml constraints.txt deploy/install
	@deploy/install ml embedded analysis dev docs browser
	@touch .venv/ready-to-run .venv/ready-to-develop $@
