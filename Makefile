# Colophon's house rules in one place. `make` alone lists the targets.
# A fresh machine needs Go, git and make; the rest is installed by `make deps`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# One build cache for everything: pure Go, and no -trimpath, which would compile
# all dependencies a second time for the tests.
export CGO_ENABLED := 0
GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
GOBUILD := $(GO) build -buildvcs=false
BIN     := build/bin

.PHONY: help build tools deps base-images example quickstart test check bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/colophon and bin/colophond
	$(GOBUILD) -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/colophon ./cmd/colophond

tools: $(BIN)/buildkitd $(BIN)/cosign ## the pinned buildkitd, buildctl, cosign and crane, in build/bin

$(BIN)/buildkitd $(BIN)/buildctl &: tools/buildkit/go.mod tools/buildkit/go.sum
	cd tools/buildkit && $(GOBUILD) -o ../../$(BIN)/ github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl
	@touch $(BIN)/buildkitd $(BIN)/buildctl

$(BIN)/cosign $(BIN)/crane &: tools/clients/go.mod tools/clients/go.sum
	cd tools/clients && $(GOBUILD) -o ../../$(BIN)/ github.com/sigstore/cosign/v3/cmd/cosign github.com/google/go-containerregistry/cmd/crane
	@touch $(BIN)/cosign $(BIN)/crane

$(BIN)/staticcheck $(BIN)/govulncheck &: tools/check/go.mod tools/check/go.sum
	cd tools/check && $(GOBUILD) -o ../../$(BIN)/ honnef.co/go/tools/cmd/staticcheck golang.org/x/vuln/cmd/govulncheck
	@touch $(BIN)/staticcheck $(BIN)/govulncheck

deps: ## the Debian packages that are missing, if any
	@scripts/deps.sh

base-images: deps ## stand-ins for docker.io and gcr.io base images, in build/base-images
	$(GO) run ./tools/baseimages -o build/base-images

example: ## examples/hello as a git repository with a signed tag, in build/hello
	@scripts/example.sh

quickstart: deps tools build example ## start a platform, release build/hello, verify it
	@scripts/quickstart.sh

test: deps tools build base-images example ## every test; a missing tool is a failure
	$(GO) vet ./...
	COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 20m ./...

check: $(BIN)/staticcheck $(BIN)/govulncheck ## format, vet, staticcheck, import rules, known vulnerabilities
	@scripts/check.sh

bench: deps tools build base-images example ## measure; figures and ratios on stdout
	COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 60m -run '^$$' -bench . -benchtime 1x ./test/bench/...

clean: ## what builds made, but not the pinned tools and base images
	rm -rf bin build/hello build/quickstart build/cache

distclean: clean ## all that is not in git
	rm -rf $(BIN) build/base-images
