#!/usr/bin/env bash
# Installs what this machine lacks, and nothing that it has: setup.sh [build] [test] [docker]
#   build   to compile the broker: a C++ compiler and libclang, for RocksDB
#   test    to run the real clients: Python, Go, Java and Node; RabbitMQ to compare with and
#           valgrind to count instructions, if they can be had
#   docker  to build and run the container: an engine, docker-compose, debootstrap
# Debian and its kin only, as root or with sudo; elsewhere it says what to install.
set -euo pipefail

missing=()          # packages without which the work cannot go on
missing_optional=() # packages without which a part of the tests is left out

has() { command -v "$1" >/dev/null 2>&1; }

# need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

# Its C interface: libclang.so, libclang.so.1, libclang-14.so.1. libclang-cpp.so, which many a machine has, does not do.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] || ldconfig -p 2>/dev/null | grep -Eq 'libclang(-[0-9]+)?\.so' ||
        compgen -G '/usr/lib/llvm-*/lib/libclang.so*' || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*'
}

has_jdk() { has javac && javac -version; }

# On Debian `import venv` works without the package that venv needs to make one.
has_venv() { python3 -c 'import venv, ensurepip'; }

has_rabbitmq() { [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server || -x /usr/sbin/rabbitmq-server ]]; }

has_compose() { docker compose version || docker-compose version; }

check_build() {
    need make has make
    need g++ has g++
    need libclang-dev has_libclang
    if ! has cargo; then
        echo "setup: install Rust first: https://rustup.rs" >&2
        exit 1
    fi
}

check_test() {
    need python3 has python3
    need python3-venv has_venv
    need golang-go has go
    need default-jdk-headless has_jdk
    need maven has mvn
    need nodejs has node
    need npm has npm
    has_rabbitmq || missing_optional+=(rabbitmq-server)
    has valgrind || missing_optional+=(valgrind)
}

check_docker() {
    need docker.io has dockerd
    need docker-compose has_compose
    need debootstrap has debootstrap
    need python3-venv has_venv
}

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n -- "$@"; fi
}

can_install() {
    has apt-get && { [[ $(id -u) == 0 ]] || { has sudo && sudo -n true 2>/dev/null; }; }
}

# Packages of servers start their service at once, on the very ports that users' brokers listen on.
# Debian asks /usr/sbin/policy-rc.d before; 101 says no.
forbid_services() {
    policy=/usr/sbin/policy-rc.d
    [[ -e $policy ]] && return
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
        install --no-install-recommends "$@" </dev/null
}

install() {
    if ! can_install; then
        echo "setup: this machine lacks: ${missing[*]} ${missing_optional[*]}" >&2
        echo "setup: install them with: sudo apt-get install ${missing[*]} ${missing_optional[*]}" >&2
        [[ ${#missing[@]} == 0 ]]
        return
    fi
    echo "setup: installing ${missing[*]} ${missing_optional[*]}"
    forbid_services
    as_root apt-get -q -o DPkg::Lock::Timeout=600 update
    if [[ ${#missing[@]} -gt 0 ]]; then
        apt_install "${missing[@]}"
    fi
    for package in "${missing_optional[@]}"; do
        apt_install "$package" || echo "setup: $package cannot be installed, going on without it" >&2
    done
    # Nor shall it start at the next boot: the tests run it themselves, on ports of their own.
    if has systemctl && [[ " ${missing_optional[*]} " == *" rabbitmq-server "* ]]; then
        as_root systemctl disable rabbitmq-server >/dev/null 2>&1 || true
    fi
}

# Formatter and lints are parts of a Rust toolchain that a minimal installation leaves out.
check_components() {
    for component in rustfmt clippy; do
        cargo "${component/rust/}" --version >/dev/null 2>&1 || rustup component add "$component"
    done
}

for part in "$@"; do
    case $part in
        build | test | docker) "check_$part" ;;
        *)
            echo "setup: unknown part '$part'" >&2
            exit 2
            ;;
    esac
done
if [[ ${#missing[@]} -gt 0 || ${#missing_optional[@]} -gt 0 ]]; then
    install
fi
check_components
