# Builds, tests and checks Colophon. `make` without a target lists the targets.
# A new machine needs Go, git and make; `make deps` installs the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# All targets share one build cache: pure Go, and no -trimpath, which would compile all
# dependencies a second time for the tests.
export CGO_ENABLED := 0
# Debug information takes a tenth of the compiler's time, and only a debugger reads it. To inline takes a
# fifth, so large dependencies whose speed matters least go without. `make dist` has neither of these flags.
COLD := modernc.org go.opentelemetry.io google.golang.org/grpc google.golang.org/genproto cel.dev k8s.io \
	$(addprefix github.com/,andybalholm anchore antlr4-go cilium containerd docker go-openapi hashicorp moby prometheus ProtonMail spdx vishvananda zclconf)
ifeq ($(findstring -dwarf=false,$(GOFLAGS)),)
export GOFLAGS := -gcflags=all=-dwarf=false $(foreach m,$(COLD),'-gcflags=$(m)/...=-dwarf=false -l') $(GOFLAGS)
endif
GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The compiler and the linker collect no garbage before they reach a limit of memory: 1 GiB, or on
# a small machine, for each processor, half of its share of all. That takes a sixth less time of the processor than GOGC=400.
MEMORY  := $(shell awk -v n="$$(nproc)" '/^MemTotal:/ { m = $$2 / n / 2048; print int(m < 1024 ? m : 1024) }' /proc/meminfo 2>/dev/null)
LESSGC  := $(if $(MEMORY),GOGC=off GOMEMLIMIT=$(MEMORY)MiB,GOGC=400)
GOBUILD := $(LESSGC) $(GO) build -buildvcs=false
LDFLAGS := -w -X main.version=$(VERSION)
TOOLLD  := -s -w
GOTOOL  := $(GOBUILD) -ldflags '$(TOOLLD)'
BIN     := out/bin

.PHONY: help env build scanner man builder keys evaluator tools deps base-images example compile quickstart self services clients test test-short attack attack-unguarded crash mutate check fuzz bench kube-tools kube-deps kube chaos bench-kube test-main test-modules manifests dist docs site clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: ## print the settings with which a go command by hand shares these targets' build cache
	@printf 'export CGO_ENABLED=%s GOFLAGS=%q\n' "$$CGO_ENABLED" "$$GOFLAGS"

build: scanner ## build out/bin/colophon, out/bin/colophond and its scanner of images, out/bin/colophon-scan
	scripts/untouched.sh $(BIN)/colophon $(BIN)/colophond -- env $(GOBUILD) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/colophon ./cmd/colophond

scanner:
	cd cmd/colophon-scan && ../../scripts/untouched.sh ../../$(BIN)/colophon-scan -- env $(GOTOOL) -o ../../$(BIN)/ .

man: build ## write the manual pages to out/man
	$(BIN)/colophon man out/man
	$(BIN)/colophond man out/man

tools: builder keys evaluator $(addprefix $(BIN)/,buildctl cosign cosign2 notation regctl buildx pebble litewitness) ## build the builder, colophon-keys, colophon-eval, and for the tests the stock clients cosign (3 and 2), notation, crane, rekor-cli, regctl, oras, helm and buildx, the ACME server pebble and the witness litewitness

builder: $(BIN)/buildkitd ## build the pinned buildkitd in out/bin

# tools/buildkit requires the same versions as the main module, so that both compile them once.
$(BIN)/buildkitd: tools/buildkit/go.mod tools/buildkit/go.sum $(wildcard tools/buildkit/buildkitd/*.go)
	cd tools/buildkit && $(GOTOOL) -o ../../$(BIN)/ ./buildkitd
	@touch $(BIN)/buildkitd

keys: $(BIN)/colophon-keys ## build out/bin/colophon-keys, with which sign uses keys of PKCS #11 tokens and cloud services

$(BIN)/colophon-keys: $(wildcard tools/keys/*)
	cd tools/keys && $(GOBUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o ../../$(BIN)/colophon-keys .

evaluator: $(BIN)/colophon-eval ## build out/bin/colophon-eval, which evaluates policies in CUE and Rego for colophon

$(BIN)/colophon-eval: $(wildcard tools/eval/* policy/clusterimagepolicy/eval/*)
	cd tools/eval && $(GOBUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o ../../$(BIN)/colophon-eval .

$(BIN)/buildctl: tools/buildkit/go.mod tools/buildkit/go.sum
	cd tools/buildkit && $(GOTOOL) -o ../../$(BIN)/ github.com/moby/buildkit/cmd/buildctl
	@touch $(BIN)/buildctl

$(BIN)/cosign $(BIN)/crane $(BIN)/rekor-cli &: tools/clients/go.mod tools/clients/go.sum
	cd tools/clients && $(GOTOOL) -o ../../$(BIN)/ github.com/sigstore/cosign/v3/cmd/cosign github.com/google/go-containerregistry/cmd/crane github.com/sigstore/rekor/cmd/rekor-cli
	@touch $(BIN)/cosign $(BIN)/crane $(BIN)/rekor-cli

$(BIN)/cosign2: tools/clients/go.mod tools/clients/go.sum
	cd tools/clients && $(GOTOOL) -o ../../$(BIN)/cosign2 github.com/sigstore/cosign/v2/cmd/cosign
	@touch $(BIN)/cosign2

$(BIN)/regctl $(BIN)/oras $(BIN)/helm &: tools/registryclients/go.mod tools/registryclients/go.sum
	cd tools/registryclients && $(GOTOOL) -o ../../$(BIN)/ github.com/regclient/regclient/cmd/regctl oras.land/oras/cmd/oras helm.sh/helm/v3/cmd/helm
	@touch $(BIN)/regctl $(BIN)/oras $(BIN)/helm

$(BIN)/notation: tools/notation/go.mod tools/notation/go.sum
	cd tools/notation && $(GOTOOL) -o ../../$(BIN)/ github.com/notaryproject/notation/cmd/notation
	@touch $(BIN)/notation

$(BIN)/buildx: tools/registryclients/go.mod tools/registryclients/go.sum
	cd tools/registryclients && $(GOTOOL) -o ../../$(BIN)/ github.com/docker/buildx/cmd/buildx
	@touch $(BIN)/buildx

# The package of rekor-tiles' posix server is called "posix", so name the program.
$(BIN)/syft $(BIN)/rekor-server &: tools/peers/go.mod tools/peers/go.sum
	cd tools/peers && $(GOTOOL) -o ../../$(BIN)/ github.com/anchore/syft/cmd/syft
	cd tools/peers && $(GOTOOL) -o ../../$(BIN)/rekor-server github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix
	@touch $(BIN)/syft $(BIN)/rekor-server

$(BIN)/pebble $(BIN)/pebble-challtestsrv &: tools/acme/go.mod tools/acme/go.sum
	cd tools/acme && $(GOTOOL) -o ../../$(BIN)/ github.com/letsencrypt/pebble/v2/cmd/pebble github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv
	@touch $(BIN)/pebble $(BIN)/pebble-challtestsrv

$(BIN)/litewitness: tools/witness/go.mod tools/witness/go.sum
	cd tools/witness && $(GOTOOL) -o ../../$(BIN)/ filippo.io/torchwood/cmd/litewitness
	@touch $(BIN)/litewitness

$(BIN)/staticcheck $(BIN)/govulncheck &: tools/check/go.mod tools/check/go.sum
	cd tools/check && $(GOTOOL) -o ../../$(BIN)/ honnef.co/go/tools/cmd/staticcheck golang.org/x/vuln/cmd/govulncheck
	@touch $(BIN)/staticcheck $(BIN)/govulncheck

# The programs of Kubernetes take their version from the build.
KUBE := $(shell sed -n 's/^\tk8s.io\/kubernetes v1\.//p' tools/kube/go.mod | sed 's/ .*//')
KUBEPROGRAMS := kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl
kube-tools: $(addprefix $(BIN)/,$(KUBEPROGRAMS)) $(BIN)/helm ## build the programs of Kubernetes that test/kube runs, and helm: it takes minutes

$(addprefix $(BIN)/,$(KUBEPROGRAMS)) &: tools/kube/go.mod tools/kube/go.sum
	cd tools/kube && $(GOBUILD) -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=v1.$(KUBE) -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(firstword $(subst ., ,$(KUBE)))' \
		-o ../../$(BIN)/ $(addprefix k8s.io/kubernetes/cmd/,$(KUBEPROGRAMS))
	@touch $(addprefix $(BIN)/,$(KUBEPROGRAMS))

deps: ## install missing Debian packages
	@scripts/deps.sh

base-images: deps ## make stand-ins for docker.io and gcr.io base images in out/base-images: all, or only IMAGES='NAME…'
	$(GO) run ./tools/baseimages -o out/base-images $(IMAGES)

example: ## make a git repository with a signed tag from examples/hello, in out/hello
	@scripts/example.sh

# Downloads and compiles, and shows how far it is. What it leaves in Go's cache, builder and build link.
compile:
	@GO='$(GO)' $(LESSGC) FIRST='$(FIRST)' MEANWHILE='$(MEANWHILE)' scripts/compile.sh -ldflags '$(LDFLAGS)' ./cmd/colophon ./cmd/colophond -ldflags '$(TOOLLD)' cmd/colophon-scan:. tools/buildkit:./buildkitd

quickstart: ## start a platform, release out/hello, verify it
	@[ -e /etc/ssl/certs/ca-certificates.crt ] || scripts/deps.sh # downloads need it
	@$(MAKE) -s compile FIRST='scripts/deps.sh' MEANWHILE='scripts/quickstart.sh images'
	@$(MAKE) -j2 builder build example
	@scripts/quickstart.sh

# The packages that take longest come first, so that none of them runs alone at the end. Those that
# compute and those that wait take turns, so five of them share two cores, or three if they wait for the disk.
LONGEST := ./test/attack ./test/stories ./test/interop ./test/operation ./cmd/colophon ./platform/audit ./platform/builder/buildkit ./platform/verdicts ./platform/builder/golang \
	./platform/admission ./test/reproducible ./oci ./test/crash ./source ./platform/mirror ./platform/release ./test/pipelines ./platform/registry

test: deps tools build base-images example ## run the tests; with COLOPHON_LONG=1 also those that take minutes. A missing tool is a failure
	@EXTRA='softhsm2-util:softhsm2 openssl rpmbuild:rpm createrepo_c:createrepo-c dnf ruby skopeo podman dockerd:docker.io ctr:containerd strace curl gpg python3 pip3:python3-pip npm mvn:maven /usr/sbin/sshd:openssh-server' scripts/deps.sh
	@$(MAKE) -s -j2 test-main test-modules

# Tests and the roles that they start collect less garbage than users' do, so a bound on memory that holds here holds there.
test-main:
	$(LESSGC) $(GO) vet ./...
	COLOPHON_REQUIRE_BUILD=1 GOGC=400 scripts/inmemory.sh $(GO) test -vet=off -p $(if $(COLOPHON_LONG),3,5) -timeout 60m $(LONGEST) ./...

# The modules beside the main one, in the time when that waits.
test-modules:
	cd cmd/colophon-scan && $(GO) vet ./... && ../../scripts/inmemory.sh $(GO) test -timeout 60m ./...
	cd tools/keys && $(GO) test ./...
	cd tools/eval && $(GO) vet ./... && $(GO) test ./...
	cd tools/site && $(GO) test -count=1 ./... # -count=1: the test cache does not see the pages, which are outside of the module

test-short: ## the inner loop: starts no platform, builds no image, and leaves out the packages that take longest; skipped tests say so with -v
	GOGC=400 scripts/inmemory.sh $(GO) test -short -vet=off -p 5 $$($(GO) list ./... | grep -v $(foreach p,$(LONGEST),-e '$(p:.%=%)$$'))
	cd cmd/colophon-scan && $(GO) test -short ./...

# Run the test binary directly: it is also the attacker, and prints the scoreboard on standard output.
ifeq ($(PLATFORM),)
attack: deps tools build base-images ## start platforms, attack them from inside and outside, and print a scoreboard; or attack PLATFORM=client.json, a platform that runs
	$(GO) test -c -o out/bin/attack ./test/attack
	cd test/attack && COLOPHON_REQUIRE_BUILD=1 COLOPHON_LONG=1 COLOPHON_ATTACK_UNITS=1 ../../out/bin/attack -test.run '^TestAttacks$$'
else
attack:
	$(GO) test -c -ldflags '-s -w' -o out/bin/attack ./test/attack
	COLOPHON_ATTACK_PLATFORM=$(abspath $(PLATFORM)) COLOPHON_ATTACK_REPOSITORY=$(abspath out/attack-repository) COLOPHON_ATTACK_SOURCE='$(SOURCE)' COLOPHON_ATTACK_DATA='$(DATA)' \
		COLOPHON_ATTACK_JSON='$(abspath $(JSON))' out/bin/attack -test.run '^TestRunningPlatform$$'
endif

attack-unguarded: deps tools build base-images ## remove one guard at a time: every attack must then succeed
	$(GO) test -c -o out/bin/attack ./test/attack
	cd test/attack && COLOPHON_REQUIRE_BUILD=1 COLOPHON_ATTACK_UNGUARDED=1 ../../out/bin/attack -test.run '^TestUnguarded$$'

KILLS ?= 300
crash: deps tools build base-images ## kill the platform and its roles KILLS times during releases, pushes and appends, and count what is kept
	COLOPHON_KILLS=$(KILLS) $(GO) test -timeout 6h -count=1 -v -run '^TestKillLoop$$' ./test/crash

MUTATE ?= ./attest ./policy ./tlog ./trust+./trust/tuf+./verify ./bundle+./verify ./oci ./provenance+./verify ./verify ./platform/registry ./platform/builder/gateway
mutate: ## change the packages in MUTATE in small ways, one at a time: which changes do their tests not notice?
	$(GO) run ./tools/mutate $(MUTATE)

check: $(BIN)/staticcheck $(BIN)/govulncheck ## check format, vet, staticcheck, import rules, known vulnerabilities
	@scripts/check.sh

FUZZTIME ?= 30s
fuzz: ## run every fuzz target for FUZZTIME, one after the other
	@GO='$(GO)' scripts/fuzz.sh $(FUZZTIME)

self: deps builder build base-images ## release Colophon's images from HEAD on two platforms, and compare the digests
	@scripts/self.sh

services: deps builder build base-images ## release examples/go-service and node-service: from the network, hermetically, and from a lock
	COLOPHON_SERVICES=1 $(GO) test -timeout 60m -count=1 -v ./test/services

clients: deps tools build base-images ## log in, push and pull with every client of registries that can be had here, and read what sign, attest and copy made; run the platform's image in a container
	@EXTRA='skopeo podman buildah umoci dockerd:docker.io ctr:containerd docker-registry' scripts/deps.sh
	COLOPHON_CLIENTS=1 COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 20m -count=1 -v -run '^Test(Clients|RequestsOfSkopeo|Readers)$$' ./test/interop
	COLOPHON_CLIENTS=1 COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 20m -count=1 -v -run '^TestContainer$$' ./test/operation

kube-deps: deps kube-tools build
	@EXTRA='etcd:etcd-server containerd busybox:busybox-static /usr/lib/cni/bridge:containernetworking-plugins' scripts/deps.sh
	@cd tools/kube && $(GO) mod download github.com/openreports/reports-api@v0.2.1 github.com/kyverno/kyverno@v1.19.1 # the definitions of reports

kube: kube-deps ## start a Kubernetes cluster with a node, install admission in it, and try what it must admit and refuse
	COLOPHON_KUBE=1 COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 20m -count=1 -v ./test/kube

CHAOS ?= 10m
chaos: kube-deps ## kill replicas of admission, the API server, etcd and the registry, and set clocks wrong, under load for CHAOS: nothing may be admitted that policies refuse
	COLOPHON_CHAOS=$(CHAOS) COLOPHON_KUBE=1 COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 12h -count=1 -v -run '^TestAdmission$$/^chaos$$' ./test/kube

bench-kube: kube-deps $(BIN)/policy-webhook ## compare what admission costs in a cluster with that of a peer
	COLOPHON_BENCH=1 COLOPHON_KUBE=1 COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 40m -count=1 -run '^$$' -bench Admission -benchtime 1x ./test/kube

# The peer has an older set of dependencies, in a module of its own.
$(BIN)/policy-webhook: tools/kubepeers/go.mod tools/kubepeers/go.sum
	cd tools/kubepeers && $(GOTOOL) -o ../../$(BIN)/policy-webhook github.com/sigstore/policy-controller/cmd/webhook
	@touch $(BIN)/policy-webhook

$(BIN)/actionlint: tools/linters/go.mod tools/linters/go.sum
	cd tools/linters && $(GOTOOL) -o ../../$(BIN)/ github.com/rhysd/actionlint/cmd/actionlint
	@touch $(BIN)/actionlint

manifests: $(BIN)/helm ## write deploy/kubernetes/colophon.yaml, what the chart makes with its defaults
	scripts/manifests.sh deploy/kubernetes/colophon.yaml

bench: deps tools $(BIN)/syft $(BIN)/actionlint build base-images example ## compare the performance with that of the peers; prints results and ratios
	COLOPHON_BENCH=1 COLOPHON_REQUIRE_BUILD=1 $(GO) test -timeout 120m -run '^$$' -bench . -benchtime 1x ./test/bench/...
	$(GO) test -timeout 60m -run '^$$' -bench 'Follow|Watch' -benchtime 1x ./tlog/follow ./monitor
	$(GO) test -timeout 60m -run '^$$' -bench 'Search|Witnessed' -benchtime 300x ./platform/search ./platform/authority/log
	$(GO) test -timeout 60m -run '^$$' -bench 'Audit' -benchtime 1x ./search
	$(GO) test -timeout 60m -run '^$$' -bench Record -benchtime 20000x ./platform/audit
	COLOPHON_AUDIT_RECORDS=1000000 $(GO) test -timeout 60m -run '^$$' -bench Question -benchtime 20x ./platform/audit
	COLOPHON_BENCH=1 $(GO) test -timeout 60m -run '^$$' -bench Investigate -benchtime 1x ./investigate
	$(GO) test -timeout 60m -run '^$$' -bench 'Room|Buildkitd' -benchtime 20x ./platform/builder/buildkit ./platform/builder/sandbox

dist: ## build what users install in out/dist: programs for all systems, Debian packages, install.sh, SHA256SUMS
	@GO='$(GO)' scripts/dist.sh

docs: ## draw docs/diagrams/*.svg from the *.txt beside them
	$(GO) run ./tools/diagrams docs/diagrams

site: ## build the documentation as a static site in out/site
	cd tools/site && $(GO) run . -o ../../out/site ../..

clean: ## remove what builds made, but not the pinned tools and base images
	rm -rf $(BIN)/colophon $(BIN)/colophond $(BIN)/colophon-scan $(BIN)/attack out/hello out/quickstart out/self out/site out/dist out/cache

distclean: ## remove everything that the targets above made
	rm -rf out
