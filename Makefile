# Commands of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
export CARGO_TARGET_DIR := $(TARGET)
# Several install what others use, and some count what a processor does.
.NOTPARALLEL:
CLIENTS := gateway/tests/clients

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: run
run: ## Start a gateway for development, with its playground
	$(CARGO) run --locked --quiet --package clarion -- dev

.PHONY: check
check: ## Format and lints, without tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings

.PHONY: deny
deny: export PATH := $(TARGET)/tools/bin:$(PATH)
deny: ## Licences, duplicates and sources of everything that is depended on
	tools/install-deny.sh "$(TARGET)/tools"
	$(CARGO) deny --locked check licenses bans sources

.PHONY: unit
unit: ## Unit, property and integration tests, on a redis-server of their own
	gateway/tests/faults/install.sh
	$(CARGO) test --locked --workspace

.PHONY: noon-small
noon-small: export CLARION_BIN := $(TARGET)/debug/clarion
noon-small: ## A rolling deploy in small, and whether the judge finds what is wrong on purpose
	loadtest/install.sh
	$(CARGO) build --locked --package clarion
	$(CARGO) test --locked --package swarm --test noon -- --test-threads 1

.PHONY: k6
k6: export CLARION_BIN := $(TARGET)/release/clarion
k6: ## A load test with k6 on this machine, judged; script=rolling (or another of loadtest/k6), args="--small"
	loadtest/k6/install.sh
	$(CARGO) build --locked --release --package clarion
	loadtest/k6/run.py $(or $(script),smoke) $(args)

.PHONY: k6-small
k6-small: export CLARION_BIN := $(TARGET)/debug/clarion
k6-small: ## k6: every verb once, and a roll, judged by counts
	loadtest/k6/install.sh
	$(CARGO) build --locked --package clarion
	timeout -k 20 400 loadtest/k6/small.py

.PHONY: clients
clients: export CLARION_BIN := $(TARGET)/debug/clarion
clients: ## Tests with published clients (JavaScript, Python, Go) and a real browser
	$(CLIENTS)/install.sh
	$(CARGO) build --locked --package clarion
	cd $(CLIENTS) && npm test
	cd $(CLIENTS)/python && .venv/bin/python -m unittest
	cd $(CLIENTS)/go && go test -count=1 ./...

.PHONY: docs
docs: export CLARION_BIN := $(TARGET)/debug/clarion
docs: ## Build the documentation and check its links and commands
	$(CLIENTS)/install.sh
	gateway/tests/faults/install.sh
	docs/install.sh
	tools/install-mdbook.sh "$(TARGET)/tools"
	$(CARGO) build --locked --package clarion
	docs/build.sh "$(TARGET)/tools/bin/mdbook" "$(TARGET)/docs"
	node docs/test/run.mjs "$(TARGET)/docs" $(page)

.PHONY: monitoring
monitoring: export CLARION_BIN := $(TARGET)/debug/clarion
monitoring: ## Metrics, rules and dashboard against a live Prometheus
	deploy/monitoring/install.sh
	$(CARGO) build --locked --package clarion
	deploy/monitoring/test/.venv/bin/python deploy/monitoring/test/test.py "$(TARGET)/monitoring"

.PHONY: test-faults
test-faults: ## Every fault of Redis and of nodes, as long as it takes
	gateway/tests/faults/install.sh
	$(CARGO) test --locked --package clarion --test faults -- all

.PHONY: test-faults-smoke
test-faults-smoke: ## The faults that matter most, in short
	gateway/tests/faults/install.sh
	$(CARGO) test --locked --package clarion --test faults -- smoke

.PHONY: fuzz-check
fuzz-check: ## Whether the fuzz targets build (as plain programs, without instrumentation)
	CARGO_TARGET_DIR="$(TARGET)/fuzz" $(CARGO) check --locked --manifest-path gateway/fuzz/Cargo.toml

.PHONY: chart
chart: export CARGO_TARGET_DIR := $(abspath $(TARGET))
chart: ## Lint, render and test the Helm chart
	helm/test.sh

.PHONY: test
test: check deny unit gate noon-small k6-small fuzz-check chart clients docs monitoring examples-test compose-test image-test test-faults-smoke ## Everything that proves the project

# What a node says of itself in `clarion_node_info`.
release noon bench bench-redis gate: export CLARION_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.PHONY: release
release: ## The binary to ship
	$(CARGO) build --locked --release --package clarion

.PHONY: image
image: export ARCHIVE := $(archive)
image: ## The container image, by podman, buildah or docker; archive=1 writes it to target/image too
	deploy/image.sh

.PHONY: image-test compose-test examples-test
image-test compose-test examples-test: export CLARION_BIN := $(TARGET)/debug/clarion
image-test compose-test examples-test: %-test:
	deploy/tests/install.sh
	$(CARGO) build --locked --package clarion
	node --test deploy/tests/$*.test.mjs

image-test: ## Whether the container image builds and serves, without root, capabilities and a place to write
compose-test: ## Whether the compose file is good, played without containers
examples-test: ## The example applications, in a real browser

.PHONY: noon
noon: ## A rolling deploy at peak hour on this machine, judged; args="--fault kill-node --report noon.html" and more
	loadtest/install.sh
	$(CARGO) build --locked --release --package clarion --package swarm
	"$(TARGET)/release/swarm" noon --gateway "$(TARGET)/release/clarion" $(args)

.PHONY: bench
bench: ## Measure speed and memory of the release binary; question=NAME for one figure of it
	$(CARGO) bench --locked --package clarion --bench figures -- $(question)

.PHONY: bench-redis
bench-redis: ## Measure three nodes that share a redis-server; question=NAME for one figure of it
	$(CARGO) bench --locked --package clarion --bench figures -- --redis $(question)

.PHONY: gate
gate: export PATH := $(TARGET)/tools/bin:$(PATH)
gate: ## Count the instructions of the hot paths against their baselines; args="--bless 'why'" writes new ones
	tools/install-gungraun.sh "$(TARGET)/tools"
	$(CARGO) bench --locked --package clarion --bench instructions -- $(args)
