# Needs Go and make. What else is started is installed into bin/, in the versions named here.

VERSION       := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
VERSITYGW     := $(shell sed -n 's/^const Version = "\(v[0-9.]*\)"$$/\1/p' internal/versitygw/find.go)
GOLANGCI_LINT := v2.15.0
RCLONE        := v1.73.0
GOTESTSUM     := v1.13.0
MINIO         := v0.0.0-20260212201848-7aac2a2c5b7c
GARAGE        := 2.5.0

BIN      := $(CURDIR)/bin
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20000x

# Packages whose work runs in several goroutines.
CONCURRENT := asl client demo events exportd httpserver local provider push s3store sqlite transfer versitygw

# installed is true when the program bin/$(1) was built from version $(2).
installed = go version -m $(BIN)/$(1) 2>/dev/null | awk '$$1 == "mod" && $$3 == "$(2)" { found = 1 } END { exit !found }'

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: tools ## Build bin/sitevault, and bin/versitygw beside it
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/sitevault ./cmd/sitevault

.PHONY: tools
tools: ## Install the S3 server that the service starts on one machine
	@$(call installed,versitygw,$(VERSITYGW)) || \
		{ echo "go install versitygw@$(VERSITYGW)"; GOBIN=$(BIN) go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW); }

.PHONY: dynamodb-local
dynamodb-local:
	@if [ -d $(BIN)/dynamodb-local ]; then :; \
	elif command -v mvn >/dev/null && command -v java >/dev/null; then echo "fetch DynamoDB Local"; \
		mvn -q -f internal/dynamo/testdata/dynamodb-local/pom.xml dependency:copy-dependencies -DoutputDirectory=$(BIN)/dynamodb-local; \
	else echo "SKIPPED: DynamoDB Local needs Java and Maven"; fi

.PHONY: demo
demo: build ## Back up real files, download and compare every byte: SITE_DIR=folder DB=file-or-URL choose your own
	@if [ "$(origin DB)" = "command line" ]; then case "$$DB" in *://*:*@*) \
		echo "Warning: the password in DB can be read by every user of this machine; type DB=... make demo, not make demo DB=..." >&2;; esac; fi
	@SITEVAULT_DEMO_SITE="$$SITE_DIR" SITEVAULT_DEMO_DB="$$DB" $(BIN)/sitevault demo

.PHONY: test
test: tools dynamodb-local ## Run all tests, then the concurrent packages under the race detector; skipped tests are named
	go run gotest.tools/gotestsum@$(GOTESTSUM) --format pkgname-and-test-fails -- -timeout 30m ./...
	@if [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null; then \
		go run gotest.tools/gotestsum@$(GOTESTSUM) --format pkgname-and-test-fails -- -timeout 30m -race $(CONCURRENT:%=./internal/%/...); \
	else echo "SKIPPED: the race detector needs a C compiler ($$(go env CC)) and CGO_ENABLED=1"; fi

.PHONY: compatibility
compatibility: tools ## Hold the storage adapter against MinIO and Garage as well; Garage needs cargo and a C compiler
	@$(call installed,minio,$(MINIO)) || \
		{ echo "go install minio@$(MINIO)"; GOBIN=$(BIN) go install github.com/minio/minio@$(MINIO); }
	@if $(BIN)/cargo/bin/garage --version 2>/dev/null | grep -q ':$(GARAGE) '; then :; \
	elif command -v cargo >/dev/null; then echo "cargo install garage $(GARAGE)"; \
		cargo install -q --locked --root $(BIN)/cargo --version $(GARAGE) garage; \
	else echo "SKIPPED: Garage needs cargo"; fi
	SITEVAULT_COMPATIBILITY=$(BIN) go test -count=1 -v -timeout 20m ./compatibility

GIB    ?= 1,10
ROUNDS ?= 3
JOBS   ?= 2000
WIDE   ?= 16

.PHONY: bench
bench: build ## Compare with rclone and the AWS client, count small jobs: GIB=1,10 ROUNDS=3 JOBS=2000 WIDE=16
	@$(call installed,rclone,$(RCLONE)) || \
		{ echo "go install rclone@$(RCLONE)"; GOBIN=$(BIN) go install github.com/rclone/rclone@$(RCLONE); }
	@go build -trimpath -o $(BIN)/bench ./bench
	$(BIN)/bench -bin $(BIN) -gib $(GIB) -rounds $(ROUNDS) -jobs $(JOBS) -wide $(WIDE)
	@echo "Lambda functions: size zipped, time from the start of the process to its first call for work"
	@go test -count=1 -v -run 'TestArchives|TestFunctionsStart' ./functions | sed -n 's/^ *[a-z]*_test.go:[0-9]*: \(.*\(MB\|ready after.*\)\)$$/  \1/p'

.PHONY: check
check: format vet lint ## What CI runs first: formatting, vet, lint

.PHONY: format
format:
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		[ -z "$$unformatted" ] || { echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; }

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint: ## Run golangci-lint
	@$(call installed,golangci-lint,$(GOLANGCI_LINT)) || \
		{ echo "go install golangci-lint@$(GOLANGCI_LINT)"; GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT); }
	$(BIN)/golangci-lint run ./...

.PHONY: fuzz
fuzz: ## Run each fuzz test for a moment: FUZZTIME=20000x, or 10m
	@grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' internal cmd | while IFS=: read -r file name; do \
		echo "$$(dirname $$file) $${name#func }"; \
		go test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname $$file)" || exit 1; done

.PHONY: openapi
openapi: ## Write docs/openapi.json anew
	go run ./cmd/sitevault openapi > docs/openapi.json

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist

# Functions for AWS Lambda. Nothing in them depends on where, when or from which commit they are built.
.PHONY: functions
functions: ## Build every function into dist/<name>.zip
	@rm -rf dist/functions && mkdir -p dist/functions
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags lambda.norpc -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o dist/functions/ ./functions/...
	@go run ./internal/lambdazip -from dist/functions -to dist

# The AWS form. The CDK's command line is a program of Node; nothing of it is installed.
CDK      := 2.1148.1
CFN_LINT := 1.58.0
CDK_ARGS ?=

cdk = npx --yes aws-cdk@$(CDK) $(1) -c version=$(VERSION) $(CDK_ARGS)

.PHONY: synth
synth: functions ## Write the CloudFormation templates to dist/cdk.out: CDK_ARGS="-c key=value ..." for settings
	$(call cdk,synth --quiet)

.PHONY: bootstrap
bootstrap: functions ## Prepare the AWS account and region of your credentials for deployments, once
	$(call cdk,bootstrap)

.PHONY: deploy
deploy: functions ## Deploy to the AWS account of your credentials: CDK_ARGS as for synth
	$(call cdk,deploy --all)

.PHONY: destroy
destroy: functions ## Remove the service from AWS; backups, rows and users stay: docs/operations.md#uninstall
	$(call cdk,destroy --all)

# W3005: the CDK names some dependencies twice.
.PHONY: lint-templates
lint-templates: synth ## Check the templates with cfn-lint, which needs Python
	@[ -x $(BIN)/cfn-lint/bin/cfn-lint ] && $(BIN)/cfn-lint/bin/cfn-lint --version | grep -q ' $(CFN_LINT)$$' || \
		{ echo "pip install cfn-lint==$(CFN_LINT)"; python3 -m venv $(BIN)/cfn-lint && $(BIN)/cfn-lint/bin/pip -q install cfn-lint==$(CFN_LINT); }
	$(BIN)/cfn-lint/bin/cfn-lint --ignore-checks W3005 -- dist/cdk.out/*.template.json

.PHONY: integration
integration: build ## Deploy the AWS form into an emulator on this machine and use it; needs Python 3.10 and Node 20
	@cmp -s integration/requirements.txt $(BIN)/ministack-venv/requirements.txt || \
		{ echo "pip install -r integration/requirements.txt"; rm -rf $(BIN)/ministack-venv && python3 -m venv $(BIN)/ministack-venv && \
		$(BIN)/ministack-venv/bin/pip -q --disable-pip-version-check install -r integration/requirements.txt && \
		cp integration/requirements.txt $(BIN)/ministack-venv/; }
	SITEVAULT_INTEGRATION_CDK=aws-cdk@$(CDK) go test -count=1 -v -timeout 10m -run TestDeployment ./integration
