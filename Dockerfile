# The image of snabbvm: `docker build -t snabbvm .`, by the classic builder or BuildKit. The README says what can be set.
ARG SWIFT_IMAGE=swift:6.2-bookworm
ARG DEBIAN_IMAGE=debian:trixie-slim

# The program, and the demo machine.
FROM ${SWIFT_IMAGE} AS build
WORKDIR /source
COPY Makefile packages ./
RUN command -v make || { apt-get update && apt-get install -y --no-install-recommends make; }
RUN make build-packages
COPY demo demo
COPY docker/images.json docker/images.json
COPY docker/switch docker/switch
RUN make demo
COPY Package.swift ./
COPY Sources Sources
RUN make install DESTDIR=/image

# Snabb: as nixpkgs packages it, or the file that SNABB names: a binary, or docker/snabb.none to leave it out.
FROM ${DEBIAN_IMAGE} AS snabb
ARG SNABB=docker/snabb.nix
ARG SNABB_CACHE=https://cache.nixos.org
ARG SNABB_CACHE_KEY=cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=
COPY docker/take-snabb ${SNABB} /snabb/
RUN /snabb/take-snabb "/snabb/${SNABB##*/}" /image

# What runs: QEMU for x86 alone, its firmware, and the tools beside it.
FROM ${DEBIAN_IMAGE} AS runtime
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates dnsmasq-base gpgv iproute2 libarchive13t64 libcurl4t64 libpci3 libssl3t64 libyaml-0-2 nftables \
        openssh-client ovmf pci.ids qemu-system-x86 qemu-utils seabios tmux xorriso
COPY docker/slim /
RUN /slim && rm /slim
COPY --from=snabb /image /
COPY --from=build /image /
COPY LICENSE NOTICE /usr/share/doc/snabbvm/

# As one layer: in layers, what was removed would count all the same.
FROM scratch
COPY --from=runtime / /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="snabbvm" \
    org.opencontainers.image.description="Boots a virtual machine from a container, with NICs at line rate" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A plain `docker stop` waits ten seconds, and by then the NICs must be back. Whoever gives it more says so here, too.
ENV SNABBVM_STOP_TIMEOUT=7
EXPOSE 5901
STOPSIGNAL SIGTERM
# While an image is fetched nothing runs yet.
HEALTHCHECK --interval=30s --timeout=15s --start-period=10m CMD ["snabbvm", "status", "--health"]
ENTRYPOINT ["snabbvm"]
CMD ["--help"]
