# docker build -t leveret .     compiles the broker and packs it. RocksDB takes some ten minutes, once.

FROM debian:bookworm-slim AS runtime
RUN groupadd --system --gid 999 leveret \
    && useradd --system --uid 999 --gid 999 --home-dir /var/lib/leveret --shell /usr/sbin/nologin leveret \
    && install -d -o leveret -g leveret -m 750 /var/lib/leveret
COPY config/container.conf /etc/leveret/leveret.conf
ENV LEVERET_CONFIG=/etc/leveret/leveret.conf LEVERET_DATA_DIR=/var/lib/leveret
VOLUME /var/lib/leveret
EXPOSE 5672
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["leveret", "ping"]
USER leveret
ENTRYPOINT ["leveret"]

FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The dependencies have a layer of their own, which lasts until Cargo.lock changes. Tests and benchmarks
# are not in the context, so their sections go.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN sed -i -E '/^\[\[(bench|test|example)\]\]/,/^$/d' Cargo.toml \
    && mkdir -p src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src
COPY src src
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin leveret \
    && strip --strip-debug -o /leveret target/release/leveret

FROM runtime
COPY --from=build /leveret /usr/local/bin/leveret
