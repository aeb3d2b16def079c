# The commands of this project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
GO ?= go
LINT := $(GO) tool -modfile=tools.mod golangci-lint
, := ,
# The race detector needs a C compiler.
RACE := $(if $(shell command -v gcc || command -v clang),-race)

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/duffy-broker
	@mkdir -p bin
	$(GO) build -trimpath -o bin/duffy-broker ./cmd/duffy-broker

.PHONY: run
run: build ## run a broker with warm nodes that one can ssh into: no cloud, no root
	bin/duffy-broker serve --pools pools.hcl --data data

# go test is silent about skips in packages that pass.
.PHONY: programs
programs:
	@for p in terraform git ssh sshd unshare python3 fish tcsh curl libvirtd virsh qemu-system-x86_64 qemu-system-ppc64 qemu-img dnsmasq ip mkisofs xsltproc apt-get cpio ipmitool ipmi_sim; do \
		command -v $$p >/dev/null || test -x /usr/sbin/$$p || echo "skipped: $$p is not installed, so the tests that need it are not run"; done
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || echo "skipped: PostgreSQL is not installed, so the tests that need it are not run"
	@test -n "$$DUFFY_CLIENT" || command -v duffy >/dev/null || echo "skipped, also with REQUIRE_ALL=1: TestDuffyClient needs Duffy's client, which is on PyPI only (or name it in DUFFY_CLIENT)"
	@test "$$(id -u)" = 0 || echo "skipped: tests of libvirt's networks, of libvirt over SSH and of killed tests need root"
	@echo "skipped, also with REQUIRE_ALL=1: modules/openstack in a real OpenStack, which make test-openstack brings up"
	@test -n "$$CICO" || command -v cico >/dev/null || echo "skipped, also with REQUIRE_ALL=1: TestCico needs python-cicoclient, which is on PyPI only (or name it in CICO)"
	@test -n "$$DUFFY_AWS_PROVIDER" || echo "skipped, also with REQUIRE_ALL=1: what in modules/test/ec2 needs the AWS provider, which takes 10 minutes to build: make test-aws (or name it in DUFFY_AWS_PROVIDER)"

.PHONY: test
test: programs ## run every test, with the race detector where a C compiler is to be had
	$(GO) test $(RACE) -timeout 20m ./...

.PHONY: tofu
tofu: ## build bin/tofu, OpenTofu: five minutes of CPU the first time
	@mkdir -p bin
	@echo "building OpenTofu: five minutes of CPU the first time, after its modules are downloaded; a second from then on"
	cd .ci/tools/tofu && time $(GO) build -trimpath -ldflags '-s -w -X github.com/opentofu/opentofu/version.dev=no' \
		-o '$(CURDIR)/bin/tofu' github.com/opentofu/opentofu/cmd/tofu

.PHONY: test-tofu
test-tofu: tofu ## run the tests that need Terraform with OpenTofu instead
	DUFFY_TEST_TERRAFORM='$(CURDIR)/bin/tofu' $(GO) test $(RACE) -count=1 -timeout 20m ./broker/terraform/... ./broker/localnode ./broker/brokertest/fakecloud
	DUFFY_TEST_TERRAFORM='$(CURDIR)/bin/tofu' $(GO) test -count=1 -timeout 20m -run 'TestWholePath|TestReload|TestKey|TestTemplate' ./cmd/duffy-broker

.PHONY: test-openstack
test-openstack: ## test modules/openstack with an OpenStack from Debian's packages: root, 2 GB, a quarter of an hour
	modules/test/openstack/cloud/run

AWS_PROVIDER := $(or $(DUFFY_AWS_PROVIDER),$(CURDIR)/bin/terraform-provider-aws_v4.9.0)
.PHONY: aws
aws: ## build bin/terraform-provider-aws_v4.9.0: ten minutes of two cores the first time
	@mkdir -p bin
	@test -n '$(DUFFY_AWS_PROVIDER)' || { \
		echo "building the AWS provider: ten minutes of two cores and 3 GB of memory the first time; half a minute from then on" && \
		cd .ci/tools/aws && time $(GO) build -trimpath -ldflags '-s -w' -o '$(AWS_PROVIDER)' github.com/hashicorp/terraform-provider-aws; }

.PHONY: test-aws
test-aws: aws ## run the tests of modules/aws-ec2 with its provider and a stand-in for EC2: twenty minutes
	DUFFY_AWS_PROVIDER='$(AWS_PROVIDER)' $(GO) test -count=1 -timeout 60m -v ./modules/test/ec2

.PHONY: chaos
chaos: ## kill a busy broker, Terraform and providers again and again: ROUNDS=20 SEED=
	CHAOS_ROUNDS=$(or $(ROUNDS),20) CHAOS_SEED=$(SEED) $(GO) test -count=1 -timeout 120m -run '^Test(Chaos|CrashMatrix)$$' -v ./cmd/duffy-broker

.PHONY: bench
bench: ## print what hand-out and stock cost
	$(GO) test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkBroker$$' -benchtime 1x ./cmd/duffy-broker
	$(GO) test -run '^$$' -bench . -benchtime 200x -skip '^Benchmark(Terraform|Churn)$$' ./store/... ./broker/...

.PHONY: bench-api
bench-api: ## print what the API can do with a large stock
	$(GO) test -count=1 -timeout 20m -run '^$$' -bench '^BenchmarkAPI$$' -benchtime 1x ./cmd/duffy-broker

.PHONY: bench-plan
bench-plan: ## print what a plan for 500 pools and 10,000 nodes costs
	$(GO) test -count=1 -timeout 20m -run '^$$' -bench '^BenchmarkPlan$$' -benchtime 3x ./cmd/duffy-broker

.PHONY: bench-terraform
bench-terraform: ## compare the CPU of a node with that of a fresh directory: ROUNDS=3 NODES=20
	ROUNDS=$(ROUNDS) NODES=$(NODES) $(GO) test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkTerraform$$' -benchtime 1x -v ./broker/brokertest/bench

.PHONY: bench-churn
bench-churn: ## make, lend and destroy nodes in a slow cloud that fails: NODES=1000
	NODES=$(NODES) $(GO) test -count=1 -timeout 120m -run '^$$' -bench '^BenchmarkChurn$$' -benchtime 1x -v ./broker/brokertest/bench

.PHONY: replay
replay: ## ask a server what was recorded of Duffy: URL=http://HOST:PORT LEGACY_URL= KEYS=seed.json PREPARE=1 PARTS=v1,legacy RECORD=FILE
	$(GO) run ./api/contract/replay -url '$(URL)' -legacy-url '$(LEGACY_URL)' -keys '$(KEYS)' -parts '$(or $(PARTS),v1$(,)legacy)' -record '$(RECORD)' $(if $(PREPARE),-prepare)

.PHONY: check
check: imports tidy format vet ## check what machines can: layers, tidiness, format, vet
	@echo "check: all well"

# cmd -> {api, store, broker/*} -> broker -> standard library.
.PHONY: imports
imports:
	@bash .ci/imports

.PHONY: tidy
tidy:
	@$(GO) mod tidy -diff >/dev/null || { echo "go.mod or go.sum is not tidy: run go mod tidy"; exit 1; }

.PHONY: format
format:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@if command -v terraform >/dev/null; then CHECKPOINT_DISABLE=1 terraform fmt -check -recursive modules examples >/dev/null || { echo "modules are not formatted: run terraform fmt -recursive modules examples"; exit 1; }; \
	else echo "skipped: terraform is not installed, so the format of modules/ was not checked"; test "$$REQUIRE_ALL" != 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: lint
lint: ## run golangci-lint (takes minutes the first time: it is compiled)
	$(LINT) run ./...

FUZZTIME ?= 1m
.PHONY: fuzz
fuzz: ## fuzz what reads anything from outside, for FUZZTIME=1m each
	@for target in $$(grep -rho --include='*_test.go' '^func Fuzz[A-Za-z]*' . | cut -d' ' -f2 | sort); do \
		package=$$(dirname $$(grep -rl --include='*_test.go' "^func $$target(" .)) && echo "$$target in $$package" && \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; done
