# The common tasks of this checkout. `make` alone lists them.

# Where VMs run: qemu, on this machine, or aws, as instances of an EC2 that is emulated there.
PROVIDER ?= qemu

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

images: ## The container images of our programs, as OCI archives in target/images
	@testbed/packages
	@cargo xtask images

up: provider ## A real Kubernetes with peer pods on this machine (PROVIDER=qemu or aws)
	@testbed/packages
	@cargo xtask up --provider $(PROVIDER)

down: ## Ends it and removes all of it
	@cargo xtask down

demo: up ## A guided tour of one peer pod
	@cargo xtask demo

test: provider ## Every test, the cheapest first
	@testbed/packages
	@cargo xtask test

soak: up ## Hundreds of pods and execs: nothing grows (hours)
	@testbed/packages arm64
	@cargo xtask soak

bench: provider ## What it costs, beside runc; --only, --quick and more: cargo xtask bench --help
	@testbed/packages
	@cargo xtask bench

check: ## Formatting, lints, dependencies and the rules of the house
	@testbed/packages
	@cargo xtask check

provider:
ifeq ($(filter qemu aws,$(PROVIDER)),)
	@echo "PROVIDER=$(PROVIDER): there is no such provider; there are qemu and aws" >&2; exit 1
endif

.PHONY: help images up down demo test bench soak check provider
