# make demo          see it work: no camera, no download, no configuration
# make test          every check; what a change must pass
# make test-arm      the kernels for ARM, on emulated processors
# make build-arm64   the program for 64-bit ARM, target/aarch64-unknown-linux-gnu/release/tagalong
# make test-arm64    the whole suite on three emulated processors, but for what tests/arm/left_out.txt names: ARM64="cortex-a76"
# make count-arm     the instructions that a frame takes on ARM's kernels
# make test-sanitized the same kernels on this processor, under AddressSanitizer
# make test-vm       both of the next, in virtual machines
# make test-camera   the daemon against the kernel's virtual cameras, and whatever may become of a camera
# make test-service  the service under systemd, and each line of its sandbox
# make test-package  the Debian package: lintian, and its installation, upgrade, removal and purge, in a virtual machine
# make test-gstreamer pipelines of GStreamer as cameras: films, a server that dies and returns
# make fuzz          what reads others' files and lines, on inputs that a fuzzer makes: FUZZ_SECONDS=60 each, FUZZ="pickle png", FUZZ_SANITIZER=address
# make soak          a million frames with tags coming and going: memory, descriptors, threads, times and ids: SOAK="--frames 100000"
# make bench         how fast it is, beside other engines: BENCH=--with-torch and more, benches/backbone/run.py --help
# make bench-sockets what a storm of clients does to those who only read: SOCKETS="--seconds 10 --rounds 1"
# make eval          how true masks are with every preset: MODEL, OUTPUT of a bare ONNX file, DAVIS, EVAL=--plot jf.svg and more
# make robustness    what the default preset loses where videos are made worse: MODEL, OUTPUT, DAVIS, EVAL=--sequences=boat,bus and more
# make build         the program, target/release/tagalong: FEATURES="wgpu gstreamer" for these and what follows
# make deb           its Debian package, target/debian/tagalong_VERSION_ARCHITECTURE.deb
# make deb-arm64     the same for 64-bit ARM, target/aarch64-unknown-linux-gnu/debian/tagalong_VERSION_arm64.deb
# make install       the program, its service and its manual: PREFIX=/usr/local, DESTDIR for packagers

PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
DESTDIR ?=

# Cargo is found before a shell has read what rustup wrote into its profile.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
export CARGO_TERM_PROGRESS_WHEN ?= never
PROGRAM := target/release/tagalong
GENERATED := target/generated
# The NumPy implementation of the published rule, where there is one: the tests and the benchmarks compare with it.
export TAGALONG_REFERENCE := $(realpath $(wildcard ../shared/reference))
ifeq ($(TAGALONG_REFERENCE_PYTHON),)
export TAGALONG_REFERENCE_PYTHON = $(wildcard $(CURDIR)/target/reference-venv/bin/python)
endif

.PHONY: demo build generate test check-code run-tests check-docs test-arm build-arm64 test-arm64 count-arm test-sanitized test-gstreamer test-vm test-camera test-service test-package fuzz soak bench-sockets deb deb-arm64 bench run-bench eval robustness deny install uninstall clean

demo: build
	$(PROGRAM) demo

build:
	scripts/setup.sh build
	cargo build --release --locked $(addprefix --features ,$(FEATURES))
	$(MAKE) --no-print-directory generate

generate:
	rm -rf $(GENERATED)
	$(PROGRAM) generate man $(GENERATED)/man1 >/dev/null
	$(PROGRAM) generate completions $(GENERATED)/completions >/dev/null

# One after the other even under `make -j`: they share the build folder. What fails fastest comes first.
test:
	scripts/setup.sh test
	$(MAKE) --no-print-directory check-code
	$(MAKE) --no-print-directory test-arm
	$(MAKE) --no-print-directory run-tests
	$(MAKE) --no-print-directory check-docs

# With graphics processors, of which scripts/setup.sh has one installed that is a program.
TESTED_FEATURES := --features wgpu
run-tests: export TAGALONG_GPU_TESTS = required

check-code:
	cargo fmt --check
	cargo clippy --locked --all-targets $(TESTED_FEATURES) -- --deny warnings
	cargo clippy --locked --no-default-features -- --deny warnings

run-tests:
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked $(TESTED_FEATURES); \
		else cargo test --locked --all-targets $(TESTED_FEATURES); fi
	cargo test --locked --doc $(TESTED_FEATURES)

check-docs:
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps $(TESTED_FEATURES)

# Without dot products (Cortex-A57, the first Jetson Nano's), with them (A76, near to Orin's A78AE), and with matrix products.
ARM := aarch64-unknown-linux-gnu
test-arm:
	scripts/setup.sh arm
	for processor in cortex-a57 cortex-a76 max; do \
		echo "$$processor:" && \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $$processor -L /usr/aarch64-linux-gnu" \
		cargo test --release --locked --target $(ARM) --manifest-path tests/arm/Cargo.toml --target-dir target/arm || exit 1; \
	done

# The headers are those of the other processor, for the bindings to cameras too.
CROSS := CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu=-I/usr/aarch64-linux-gnu/include

build-arm64:
	scripts/setup.sh arm64
	$(CROSS) cargo build --release --locked --target $(ARM)

test-arm64:
	scripts/setup.sh arm64
	$(CROSS) tests/arm/suite.sh $(ARM64)

count-arm:
	scripts/setup.sh count
	tests/arm/count.sh

# What is unsafe in them is watched where it reads and writes. The compiler that is installed has the sanitizer, behind a switch.
test-sanitized:
	host=$$(rustc -vV | sed -n 's/host: //p') && RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
		cargo test --release --locked --target $$host --manifest-path tests/arm/Cargo.toml --target-dir target/sanitized

# With what `make test` has built, which is optimised too.
TESTED := $(or $(CARGO_TARGET_DIR),target)/debug/tagalong
VMRUN := ../shared/vm/vmrun.sh

test-vm:
	@[ -e $(VMRUN) ] || { echo "SKIPPED, ALL OF IT: the virtual machines' script $(VMRUN) is not there" >&2; exit 0; }; \
	$(MAKE) --no-print-directory test-camera && $(MAKE) --no-print-directory test-service

test-camera:
	scripts/setup.sh camera
	cargo build --locked $(TESTED_FEATURES)
	capture_test=$$(cargo test --locked --no-run $(TESTED_FEATURES) --message-format json --test camera_capture | \
		sed -n 's/.*"executable":"\([^"]*camera_capture[^"]*\)".*/\1/p') && [ -n "$$capture_test" ] && \
	VM_TIMEOUT=$${VM_TIMEOUT:-900} $(VMRUN) tests/vm/camera.sh $(TESTED) "$$capture_test"
	VM_TIMEOUT=$${VM_TIMEOUT:-600} $(VMRUN) tests/vm/faults.sh $(TESTED) $$(tests/vm/loopback.sh target/v4l2loopback)

test-service:
	scripts/setup.sh camera
	cargo build --locked $(TESTED_FEATURES)
	$(MAKE) --no-print-directory generate PROGRAM=$(TESTED)
	VM_TIMEOUT=$${VM_TIMEOUT:-600} $(VMRUN) --systemd tests/vm/service.sh $(TESTED)
	VM_TIMEOUT=$${VM_TIMEOUT:-600} $(VMRUN) --systemd tests/vm/sandbox.sh

# Under systemd with the drop-in that the unit needs then, where there are virtual machines.
test-gstreamer:
	scripts/setup.sh gstreamer
	cargo clippy --locked --all-targets --features gstreamer -- --deny warnings
	cargo test --locked --features gstreamer --test capture_gstreamer
	@[ -e $(VMRUN) ] || { echo "SKIPPED, under systemd: the virtual machines' script $(VMRUN) is not there" >&2; exit 0; }; \
	scripts/setup.sh camera && cargo build --locked --features gstreamer && \
	$(MAKE) --no-print-directory generate PROGRAM=$(TESTED) && \
	VM_TIMEOUT=$${VM_TIMEOUT:-600} $(VMRUN) --systemd tests/vm/gstreamer.sh $(TESTED)

fuzz:
	scripts/setup.sh fuzz
	fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ)

bench-sockets: build
	python3 benches/sockets/run.py --program $(PROGRAM) $(SOCKETS)

soak: build
	python3 benches/soak/run.py --program $(PROGRAM) $(SOAK)

deb: build
	scripts/setup.sh deb
	rm -rf target/debian
	cargo deb --locked --no-build
	lintian --allow-root --fail-on error,warning target/debian/*.deb

# Its manual and completions are what the program itself writes, on an emulated processor.
deb-arm64: build-arm64
	scripts/setup.sh deb
	$(MAKE) --no-print-directory generate PROGRAM="qemu-aarch64-static -L /usr/aarch64-linux-gnu target/$(ARM)/release/tagalong"
	rm -rf target/$(ARM)/debian
	cargo deb --locked --no-build --target $(ARM) --variant arm64
	@promised=$$(dpkg-deb -f target/$(ARM)/debian/*.deb Depends | sed 's/.*libc6 (>= \([0-9.]*\)).*/\1/') && \
	needed=$$(aarch64-linux-gnu-objdump -T target/$(ARM)/release/tagalong | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1) && \
	dpkg --compare-versions "$${needed#GLIBC_}" le "$$promised" || \
	{ echo "The program needs $$needed, and its package promises $$promised: build it where the C library is older" >&2; exit 65; }
	lintian --allow-root --fail-on error,warning target/$(ARM)/debian/*.deb

# The newer one is the same but for its version.
test-package: deb
	scripts/setup.sh camera
	rm -rf target/newer && dpkg-deb -R target/debian/*.deb target/newer
	sed -i 's/^Version: .*/Version: 999/' target/newer/DEBIAN/control
	dpkg-deb --root-owner-group -b target/newer target/newer.deb
	VM_TIMEOUT=$${VM_TIMEOUT:-600} $(VMRUN) --systemd tests/vm/package.sh target/debian/*.deb target/newer.deb

bench: build
	scripts/setup.sh bench
	python3 benches/backbone/run.py --program $(PROGRAM) $(BENCH)
	$(MAKE) --no-print-directory run-bench

run-bench:
	cargo bench --locked

eval:
	@[ -n "$(MODEL)" ] && [ -n "$(DAVIS)" ] || { echo "make eval MODEL=FILE DAVIS=FOLDER, and OUTPUT=NAME for an ONNX file" >&2; exit 64; }
	$(MAKE) --no-print-directory build
	scripts/setup.sh eval
	target/reference-venv/bin/python benches/accuracy/run.py --program $(PROGRAM) --model $(MODEL) --davis $(DAVIS) \
		$(addprefix --output ,$(OUTPUT)) $(EVAL)

robustness:
	@[ -n "$(MODEL)" ] && [ -n "$(DAVIS)" ] || { echo "make robustness MODEL=FILE DAVIS=FOLDER, and OUTPUT=NAME for an ONNX file" >&2; exit 64; }
	$(MAKE) --no-print-directory build
	$(PROGRAM) eval --model $(MODEL) --davis $(DAVIS) $(addprefix --output ,$(OUTPUT)) --backend int8 --degrade all $(EVAL)

# Licences, banned crates and sources of all dependencies, without the network: cargo install cargo-deny
deny:
	cargo deny --offline check licenses bans sources

# Builds nothing, so that `sudo make install` leaves no files of root's in the build folder.
install:
	@[ -x $(PROGRAM) ] || { echo "There is no $(PROGRAM) yet: run \`make build\` first, as yourself." >&2; exit 66; }
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/tagalong
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/*.service systemd/*.socket
	sed -i 's|/usr/bin/tagalong|$(PREFIX)/bin/tagalong|' $(DESTDIR)$(PREFIX)/lib/systemd/system/tagalong.service
	install -D -m 644 systemd/tagalong.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/tagalong.conf
	install -D -m 644 systemd/tagalong.modules-load $(DESTDIR)$(PREFIX)/lib/modules-load.d/tagalong.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/tagalong config/*.toml systemd/*.conf LICENSE LICENSE-MIT LICENSE-APACHE
	[ -e $(DESTDIR)/etc/tagalong/tagalong.toml ] || \
		install -D -m 644 config/minimal.toml $(DESTDIR)/etc/tagalong/tagalong.toml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(GENERATED)/man1/*
	install -D -m 644 $(GENERATED)/completions/tagalong.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tagalong
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(GENERATED)/completions/_tagalong
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(GENERATED)/completions/tagalong.fish
	@[ -n "$(DESTDIR)" ] || printf '%s\n' 'Start it now and at every boot:' \
		'  systemd-sysusers && systemctl daemon-reload && systemctl enable --now tagalong.socket tagalong-control.socket tagalong'

# Leaves the configuration and the state.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/tagalong $(DESTDIR)$(PREFIX)/lib/systemd/system/tagalong.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/tagalong.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/tagalong-control.socket \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/tagalong.conf $(DESTDIR)$(PREFIX)/lib/modules-load.d/tagalong.conf \
		$(DESTDIR)$(PREFIX)/share/man/man1/tagalong*.1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tagalong \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tagalong $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tagalong.fish
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/tagalong

clean:
	cargo clean
