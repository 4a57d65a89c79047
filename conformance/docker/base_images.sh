#!/usr/bin/env bash
# base_images.sh NAME...: makes sure that the engine has the base images which the Dockerfile names.
#
# Where they cannot be pulled, stand-ins are made: a minimal Debian by debootstrap, as the real ones are,
# and for rust:1-bookworm a C++ compiler and a copy of this machine's Rust toolchain on top. Run as root.
set -euo pipefail

present() { docker image inspect "$1" >/dev/null 2>&1; }

stand_in_debian() {
    local folder
    folder=$(mktemp -d)
    debootstrap --variant=minbase --include=ca-certificates bookworm "$folder/root" >"$folder/log" 2>&1 || {
        tail -20 "$folder/log" >&2
        exit 1
    }
    # Registries may be reached through a proxy whose certificate only this machine knows.
    cp /etc/ssl/certs/ca-certificates.crt "$folder/root/etc/ssl/certs/ca-certificates.crt"
    tar -C "$folder/root" --exclude=./var/cache/apt/archives -c . | docker import - debian:bookworm-slim
    rm -rf "$folder"
}

stand_in_rust() {
    local folder
    ensure debian:bookworm-slim
    folder=$(mktemp -d)
    # Compiler, linker, library and cargo; documentation and sources stay behind.
    mkdir "$folder/toolchain"
    tar -C "$(rustc --print sysroot)" --exclude=./share --exclude=./lib/rustlib/src -c . |
        tar -C "$folder/toolchain" -x
    cat >"$folder/Dockerfile" <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make pkg-config \
    && rm -rf /var/lib/apt/lists/*
COPY toolchain /usr/local
DOCKERFILE
    docker build --network host --tag rust:1-bookworm "$folder"
    rm -rf "$folder"
}

ensure() {
    if present "$1"; then
        return
    fi
    echo "base images: pulling $1"
    if timeout 120 docker pull --quiet "$1" 2>/dev/null; then
        return
    fi
    echo "base images: $1 cannot be pulled, making a stand-in"
    case $1 in
        debian:bookworm-slim) stand_in_debian ;;
        rust:1-bookworm) stand_in_rust ;;
        *)
            echo "base images: no stand-in for $1" >&2
            exit 1
            ;;
    esac
}

for name in "$@"; do
    ensure "$name"
done
