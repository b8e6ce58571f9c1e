# The same targets are for people and for CI. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
# As the packages are built, so that what all of them stand on is compiled once.
export GOFLAGS += -trimpath

PROGRAMS := relay/cmd/relayd monitor/cmd/relaymon monitor/cmd/relayaudit internal/demo/cmd/demo internal/month/cmd/month

# Where packages and images are built to.
DIST ?= dist

# Where goroutines meet; the race detector needs cgo, that is, a C compiler. The rules, bundles
# and the auditor start none: what they call is tested where it is.
RACE = $(filter-out %/monitor/bounty %/monitor/bundle %/monitor/cmd/relayaudit,$(shell go list ./relay/... ./monitor/... ./internal/coord/... ./internal/certs))
# What would take too long with it is cut short there (-short). The tests of these files are run without it, too.
LONG := $(shell grep -rl --include='*_test.go' 'testing[.]Short()' relay monitor internal/coord internal/certs)

.PHONY: help run month screenshots test plugin image plain-image image-test test-image-full loss-table race bench soak build deb containers release repo-refresh deps dates fuzz vuln clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## Relay, monitor and audit on loopback, end to end (ONCE=1 ends by itself)
	bin/demo --programs bin --state .demo $(if $(ONCE),--once)

month: ## A month of a lab in a few minutes: logs, bundles, reports and a status page, into .month/ (ONCE=1 ends by itself)
	@mkdir -p bin
	go build -o bin/ ./monitor/cmd/relayaudit ./internal/month/cmd/month
	bin/month --programs bin --dir .month $(if $(ONCE),--once)

screenshots: ## Take the pictures in docs/images anew, of a lab's month and of the demo (needs Chromium; minutes)
	go test -v -count=1 -timeout 30m -run '^TestScreenshots$$' ./internal/e2e/pages -screenshots '$(CURDIR)/docs/images'

bench: ## Measure the relay beside haproxy, js-libp2p and others; FULL=1: half an hour, n=5; ONLY="bulk peers"
	@mkdir -p bin dist
	go build -o bin/ ./relay/cmd/relayd ./internal/bench/cmd/bench
	bin/bench run --programs bin --json dist/bench.jsonl --scale $(if $(FULL),full,short) $(addprefix --only=,$(ONLY))

soak: ## Keep a relay busy for half an hour (FOR=30m) and see whether it grows
	@mkdir -p bin dist
	go build -o bin/ ./relay/cmd/relayd ./internal/bench/cmd/bench
	bin/bench soak --programs bin --json dist/soak.jsonl --for $(or $(FOR),30m)

build: ## Build the programs into bin/
	go build -o bin/ $(addprefix ./,$(PROGRAMS))

# amd64 or arm64; without it packages are built for both, and images for this machine's.
ARCH ?=

deb: ## Build the Debian packages into dist/ (ARCH=amd64 or arm64, else both; needs git and help2man)
	go -C internal/tools/deb run . -out ../../../dist $(addprefix -arch=,$(ARCH))

containers: ## Build container images of relayd and relaymon into dist/, for amd64 and arm64 (needs what `make deb` does)
	@rm -rf dist/packages
	for arch in amd64 arm64; do go -C internal/tools/deb run . -out ../../../dist/packages -arch $$arch; done
	go -C internal/tools/oci run . -debs ../../../dist/packages -out ../../../dist -commit "$$(git rev-parse HEAD)"

# One file or several, such as KEY="old.key new.key".
KEYS = $(foreach k,$(KEY),--key $k) $(foreach k,$(LIST_KEY),--list-key $k)
OUT ?= dist/release/$(VERSION)
SITE ?= dist/site

release: ## Build a version, sign it and put it into the site: see RELEASING.md (VERSION= SITE_URL= KEY= LIST_KEY=)
	go run ./internal/tools/release build --version '$(VERSION)' --site-url '$(SITE_URL)' --out '$(OUT)' $(KEYS) $(addprefix --images=,$(IMAGES)) $(BUILD)
	go run ./internal/tools/release publish --version '$(VERSION)' --from '$(OUT)' --site '$(SITE)' $(KEYS) $(PUBLISH)

repo-refresh: ## Sign the site anew, so that it holds for another 60 days (SITE= KEY= LIST_KEY=)
	go run ./internal/tools/release refresh --site '$(SITE)' $(KEYS)

# internal/repo vets all modules, once; what the race detector runs whole is run once, too.
test: deps ## Everything there is to test; installs what it needs
	go test -vet=off -p 4 -timeout 30m $(filter-out $(RACE),$(shell go list ./...))
	go test -vet=off -p 4 -timeout 30m -run "$$(sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/^\1$$/p' $(LONG) | paste -sd'|')" \
	  $(filter $(addprefix %/,$(patsubst %/,%,$(sort $(dir $(LONG))))),$(RACE))
	$(MAKE) plugin
	go -C image test -vet=off -timeout 10m ./...
	$(MAKE) race
	$(MAKE) image-test

plugin: ## Build Packer and our plugin for it into bin/
	.ci/plugin

image: plugin ## Build packages and image into DIST (default dist): raw, qcow2, manifest (root; ARCH= PACKER= more options, such as other formats)
	export ARCH=$(or $(ARCH),$$(dpkg --print-architecture)); \
	version=$$(go -C internal/tools/deb run . -arch "$$ARCH" -out '$(abspath $(DIST))' | sed -n 's|.*/relayd_\(.*\)_[a-z0-9]*\.deb$$|\1|p'); \
	.ci/image appliance '$(DIST)' "$$version" -var 'debs=$(abspath $(DIST))' $(PACKER)

plain-image: plugin ## Build Debian alone into DIST, to try packages and user-data on (root; ARCH=)
	ARCH=$(ARCH) .ci/image plain '$(DIST)' $(PACKER)

image-test: deps ## Build the image twice, boot it, look at it and update it (root; emulated)
	RELAY_IMAGE_TEST=part go test -v -count=1 -timeout 90m ./internal/e2e/image

test-image-full: ## The same with all there is to boot; writes image/TESTED.md (hours, where nothing else runs)
	.ci/deps full
	RELAY_IMAGE_TEST=full RELAY_IMAGE_PAGE=$(CURDIR)/image/TESTED.md \
	  go test -v -count=1 -timeout 10h ./internal/e2e/image

loss-table: ## How a monitor judges over a line that loses packets: TestLoss with all its attempts (root; an hour)
	RELAY_LOSS_TABLE=1 go test -v -count=1 -timeout 5h -run '^TestLoss$$' ./internal/e2e

race: ## The tests of concurrent parts, with the race detector
	CGO_ENABLED=1 go test -vet=off -race -short -timeout 30m $(RACE)

deps: ## Install what the tests need (Debian packages, npm modules)
	.ci/deps

dates: ## Run the tests at the edges of months and hours (AT="2028-02-29T23:59:30Z ..."; 20 minutes, 10 for each further one)
	.ci/dates $(or $(AT),2026-12-01T00:10:00Z 2026-12-31T23:55:00Z 2028-02-29T10:59:00Z)

fuzz: ## Run each fuzz test for FUZZTIME (default 30s)
	.ci/fuzz $(or $(FUZZTIME),30s)

vuln: ## Look for known vulnerabilities (needs the vulnerability data base on the network)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

clean: ## Remove what was built, the state of make run and what make month made
	rm -rf bin dist .demo .month
