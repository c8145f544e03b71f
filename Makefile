# Builds, tests and installs xdprobe. `make help` lists the targets.
#
# Everything works with and without sudo in front: scripts/cargo finds cargo where rustup put it even where sudo keeps it
# off PATH, and builds as the user who called sudo, so that no file of root's is left in the source tree.

PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
DESTDIR ?=
INSTALL ?= install

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY     := $(TARGET_DIR)/release/xdprobe
SOURCES    := Cargo.toml Cargo.lock build.rs $(wildcard bpf/*) $(shell find src -name '*.rs')

# Where the man page and the completions go.
MAN_PAGE        := $(DATADIR)/man/man1/xdprobe.1
BASH_COMPLETION := $(DATADIR)/bash-completion/completions/xdprobe
ZSH_COMPLETION  := $(DATADIR)/zsh/site-functions/_xdprobe
FISH_COMPLETION := $(DATADIR)/fish/vendor_completions.d/xdprobe.fish
INSTALLED       := $(BINDIR)/xdprobe $(MAN_PAGE) $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION)

# What cargo is given beside the target's own arguments, and what the tests are: make test TEST_ARGS='--test wire'.
CARGO_FLAGS ?= --locked
TEST_ARGS   ?=
# Which scenarios of test-vm, by a part of their names: make test-vm VM_ARGS=hardware-xdp.
VM_ARGS     ?=
# Where screenshots puts its pictures.
DOCS        ?= docs

.DEFAULT_GOAL := all
.PHONY: all demo test test-vm bench soak fmt clippy install uninstall clean deps test-deps screenshots help need-root

all: $(BINARY) ## build the release binary (default)

$(BINARY): $(SOURCES)
	scripts/cargo build --release $(CARGO_FLAGS)
	@touch -c $@

deps: ## install what the build needs and this machine lacks (Debian, Ubuntu)
	scripts/deps.sh

demo: need-root deps all ## run server and client in two network namespaces, over AF_XDP and over the kernel
	scripts/demo.sh $(BINARY)

test-deps: ## install what the tests need besides: a browser, and promtool and DuckDB into tests/cache
	scripts/deps.sh --test
	scripts/test-tools.sh

test: need-root test-deps ## run every test, as root
	scripts/cargo test --no-run $(CARGO_FLAGS) $(TEST_ARGS)
	scripts/cargo --root test $(CARGO_FLAGS) $(TEST_ARGS)

test-vm: need-root deps ## boot guests that have NICs with hardware stamps, and test in them (Debian 12 and 13, amd64)
	tests/vm/setup.sh
	scripts/cargo test --no-run $(CARGO_FLAGS) --test vm
	scripts/cargo --root test $(CARGO_FLAGS) --test vm -- $(VM_ARGS)

bench: need-root deps all ## measure beside what AF_XDP itself takes and an original that NANOPROBE= names; bench.json, bench-clients.json
	scripts/cargo bench --no-run $(CARGO_FLAGS) --bench reach --bench clients --bench report
	scripts/cargo --root bench $(CARGO_FLAGS) --bench reach --bench clients --bench report

soak: need-root deps ## run a session of SECONDS= (default 600) in which nothing may be lost but packets
	scripts/cargo bench --no-run $(CARGO_FLAGS) --bench soak
	scripts/cargo --root bench $(CARGO_FLAGS) --bench soak

screenshots: need-root all ## run the program between network namespaces and make README's pictures of it in DOCS=
	mkdir -p $(TARGET_DIR)/screenshots $(DOCS)
	scripts/cargo build $(CARGO_FLAGS) --example screenshots
	scripts/cargo --root run $(CARGO_FLAGS) --example screenshots -- $(BINARY) $(TARGET_DIR)/screenshots
	cp $(TARGET_DIR)/screenshots/*.png $(DOCS)
	chown --reference=$(DOCS) $(DOCS)/*.png

fmt: ## format the source
	scripts/cargo fmt

clippy: ## lint the source and its documentation; a warning is an error
	scripts/cargo clippy --all-targets $(CARGO_FLAGS) -- -D warnings
	scripts/cargo clippy --test vm $(CARGO_FLAGS) -- -D warnings
	scripts/cargo doc --no-deps $(CARGO_FLAGS) --config 'build.rustdocflags=["-Dwarnings"]'

install: all ## install the binary, its man page and its completions under $(DESTDIR)$(PREFIX)
	$(INSTALL) -d $(dir $(addprefix $(DESTDIR),$(INSTALLED)))
	$(INSTALL) -m 755 $(BINARY) $(DESTDIR)$(BINDIR)/xdprobe
	umask 022 && $(BINARY) --generate man >$(DESTDIR)$(MAN_PAGE)
	umask 022 && $(BINARY) --generate bash >$(DESTDIR)$(BASH_COMPLETION)
	umask 022 && $(BINARY) --generate zsh >$(DESTDIR)$(ZSH_COMPLETION)
	umask 022 && $(BINARY) --generate fish >$(DESTDIR)$(FISH_COMPLETION)

uninstall: ## remove what was installed
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))

clean: ## remove what was built
	scripts/cargo clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

need-root:
	@test "$$(id -u)" = 0 || { echo "this needs root, for network namespaces and XDP: sudo make $(MAKECMDGOALS)" >&2; exit 1; }
