# make run   installs what is missing, builds, and boots the demo machine
# make unit  the tests that take seconds
# make test  all of them
SWIFT ?= $(shell command -v swift || echo /opt/swift/usr/bin/swift)
PREFIX ?= /usr/local
DOCKER ?= docker
IMAGE ?= snabbvm
DEMO := build/share/snabbvm
STEPS ?= 5000
# A target imports what Package.swift says that it depends on, and nothing else.
STRICT := --explicit-target-dependency-import-check error -Xswiftc -warnings-as-errors
RUN_TESTS := SWIFT="$(SWIFT)" FLAGS="$(STRICT)" Tests/run

BUILD_PACKAGES := gcc libarchive-dev libc6-dev libcurl4-openssl-dev libpci-dev libssl-dev libyaml-dev make pkg-config zlib1g-dev
DEMO_PACKAGES := cpio grub-common grub-efi-amd64-bin grub-pc-bin mtools xorriso xz-utils zstd
RUN_PACKAGES := ca-certificates dnsmasq-base gpgv iproute2 nftables openssh-client ovmf pci.ids qemu-system-x86 qemu-utils seabios tmux xorriso
TEST_PACKAGES := bash bsdutils bzip2 curl dpdk-dev e2fsprogs ethtool fish gnupg groff-base iputils-ping lz4 mount openssh-server openssl p7zip-full passt procps \
	python3 strace tar tcpdump tesseract-ocr tigervnc-tools util-linux vncsnapshot xz-utils zip zsh zstd

BENCH_PACKAGES := aria2 binutils coreutils curl dpdk-dev genisoimage gzip nbdkit nginx-light procps python3 qemu-block-extra strace \
	util-linux xz-utils zstd

FRESH_PACKAGES := debootstrap iproute2 mount util-linux
DEB_PACKAGES := $(FRESH_PACKAGES) dpkg-dev xz-utils

.PHONY: run unit test test-all fuzz soak-disks build release demo switch deb test-deb test-swift-6.0 e2e-pci bench bench-compare bench-images bench-network bench-switch lint imports format install image e2e build-packages packages test-packages deb-packages bench-packages clean

run: packages release demo
	build/bin/snabbvm demo --user-data demo/user-data

# What needs no machine, no server and no namespace.
unit: build-packages switch
	$(RUN_TESTS) unit

test: test-packages lint demo
	$(RUN_TESTS) all

# Everything: also what needs an engine, an emulated machine, or a fresh Debian.
test-all: test e2e e2e-pci test-deb test-swift-6.0

# The mutated input of the tests, and much more of it.
fuzz: test-packages demo
	SNABBVM_FUZZ_INPUTS=6000 $(RUN_TESTS) FuzzTests

# The walk over kept disks and images, for as many steps as one likes; SEED goes along a way that was printed.
soak-disks: test-packages demo
	SNABBVM_WALK_STEPS=$(STEPS) $(if $(SEED),SNABBVM_WALK_SEED=$(SEED)) $(RUN_TESTS) DiskWalkTests

build:
	$(SWIFT) build $(STRICT)

# What users run: static but for the C libraries.
release:
	$(SWIFT) build -c release --static-swift-stdlib --product snabbvm $(STRICT) -Xlinker --no-export-dynamic -Xlinker --icf=safe -Xlinker -z -Xlinker now
	install -D -m 755 .build/release/snabbvm build/bin/snabbvm
	strip build/bin/snabbvm

demo: $(DEMO)/demo.iso switch

# The switch programs and the names of images, where the launcher looks for them.
switch:
	mkdir -p $(DEMO)/switch
	cp docker/switch/*.lua $(DEMO)/switch
	cp docker/images.json $(DEMO)/images.json

$(DEMO)/demo.iso: demo/build demo/init demo/grub.cfg
	demo/build $(DEMO)

# NIC ports by PCI address: in an emulated machine with emulated NICs.
e2e-pci: test-packages release demo
	Tests/e2e-pci/run

bench: bench-packages release demo
	Benchmarks/run

# This version beside an older one: OLD=PROGRAM.
bench-compare: bench-packages release demo
	Benchmarks/compare $(OLD)

# How images are fetched, beside curl, aria2c, QEMU's own driver and nbdkit.
bench-images: bench-packages release demo
	Benchmarks/images

# The machine's eth0 in each mode, beside a bridge made by hand.
bench-network: bench-packages release demo
	Benchmarks/network

# The switches alone; on a machine with nothing else to do.
bench-switch: bench-packages release
	Benchmarks/switch
	Benchmarks/switch-times

lint:
	$(SWIFT) format lint --strict --recursive Sources Tests Package.swift
	SWIFT=$(SWIFT) Tests/lint/imports --check

# Draws in ARCHITECTURE.md which target imports which.
imports:
	SWIFT=$(SWIFT) Tests/lint/imports --write

format:
	$(SWIFT) format --in-place --recursive Sources Tests Package.swift

install: release demo
	install -D -m 755 build/bin/snabbvm $(DESTDIR)$(PREFIX)/bin/snabbvm
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/snabbvm $(DEMO)/demo.iso docker/images.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/snabbvm/switch docker/switch/*.lua
	build/bin/snabbvm manual | install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/man/man1/snabbvm.1
	build/bin/snabbvm completion bash | install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/bash-completion/completions/snabbvm
	build/bin/snabbvm completion zsh | install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_snabbvm
	build/bin/snabbvm completion fish | install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/snabbvm.fish

# build/snabbvm_VERSION_ARCHITECTURE.deb, for the release of Debian that this machine has, and later ones.
deb: deb-packages release demo
	packaging/deb/build

# Installs it on a fresh Debian, and boots the demo machine there.
test-deb: deb
	Tests/deb/run

# Compiles with Debian 13's own compiler, and runs the unit tests, in a fresh Debian 13. Where there can be none it says so.
test-swift-6.0:
	-@./packages $(FRESH_PACKAGES) git
	Tests/swift-6.0/run

# The container image; IMAGE_ARGS for the build, such as --build-arg SNABB=….
image:
	$(DOCKER) build -t $(IMAGE) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(IMAGE_ARGS) .

# The image in a Docker engine: the one that is there, or one of its own, on a machine that has none.
e2e: packages demo
	Tests/e2e-docker/run

# What compiling takes, and no more.
build-packages:
	@./packages $(BUILD_PACKAGES) $(DEMO_PACKAGES)

packages:
	@./packages $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(RUN_PACKAGES)

test-packages:
	@./packages $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)

deb-packages:
	@./packages $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(DEB_PACKAGES)

bench-packages:
	@./packages $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(RUN_PACKAGES) $(BENCH_PACKAGES)

clean:
	rm -rf .build build
