# The commands of this project. `make` lists them.
#
# demo and test use the same profile: what they depend on is built once for both.

CARGO ?= cargo
# Most tests wait for something most of the time.
TEST_THREADS ?= 4
IMAGE ?= cldpd
TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
# Rounds of torture, and the seed of the first.
ROUNDS ?= 10
SEED ?= 1

.PHONY: help build test test-agents torture lint demo bench docker clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || \
		sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1  \2/p' Makefile

build: ## build the command, for every day
	$(CARGO) build --locked

test: ## run everything, on real engines too: finds them, or installs and starts them
	./scripts/engine.sh
	./scripts/podman.sh
	./scripts/strace.sh
	./scripts/systemd.sh
	$(CARGO) test --locked --features failpoints --no-fail-fast -- --test-threads=$(TEST_THREADS)
	$(MAKE) test-agents

test-agents: ## of that, what runs the real agents: Claude Code, Codex, opencode, Gemini CLI
	./scripts/engine.sh
	./scripts/agents.sh
	$(CARGO) build --locked --features failpoints --example mock-api
	$(CARGO) test --locked --features failpoints --no-fail-fast --test agents -- --test-threads=$(TEST_THREADS)

torture: ## kill the daemon again and again while sessions run: ROUNDS=n SEED=s
	./scripts/engine.sh
	CLDPD_TORTURE_ROUNDS=$(ROUNDS) CLDPD_TORTURE_SEED=$(SEED) \
		$(CARGO) test --locked --features failpoints --test it torture:: -- --nocapture

lint: ## formatting, clippy and documentation with warnings denied, scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test agents -- -D warnings
	$(CARGO) clippy --locked --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	for script in scripts/*.sh .ci/run; do bash -n "$$script" || exit 1; done

demo: build ## dispatch, list, replay and resume three scripted sessions, then clean up
	$(CARGO) run --locked --quiet -- demo

bench: ## measure against docker itself, side by side, and write docs/benchmarks.md
	./scripts/engine.sh
	$(CARGO) bench --locked --bench side_by_side

docker: ## an image of the command alone, from scratch, to run it beside an engine
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --release --target $(TARGET)
	mkdir -p target/image
	cp $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release/cldpd target/image/cldpd
	printf 'FROM scratch\nCOPY cldpd /bin/cldpd\nENV PATH=/bin\nENTRYPOINT ["/bin/cldpd"]\n' > target/image/Dockerfile
	docker build --tag $(IMAGE) target/image

clean: ## remove what was built
	$(CARGO) clean
