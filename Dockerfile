# syntax=docker/dockerfile:1
# The node as an image: nothing but the binary and what it links to, for any user but root.
#
#   docker build -t outrigger:0.1.0 .
#   docker run --rm -v outrigger:/var/lib/outrigger -p 7480:7480 outrigger:0.1.0

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs README.md ./
COPY proto proto
COPY src src
COPY examples examples
COPY docs docs
COPY benches benches
COPY tests tests
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --bin outrigger \
    && install -D target/release/outrigger /image/usr/local/bin/outrigger \
    && install -d /image/var/lib/outrigger

# Users and certificates, libc and libgcc; no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.description="A sidecar datastore: one event log with versioned projections per microservice" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build --chown=65532:65532 /image/ /
USER 65532:65532
WORKDIR /var/lib/outrigger
VOLUME /var/lib/outrigger
EXPOSE 7400 7480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=1h --start-interval=1s --retries=3 \
    CMD ["/usr/local/bin/outrigger", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/outrigger"]
CMD ["serve"]
