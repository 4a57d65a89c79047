#!/usr/bin/env bash
# Runs the conformance suites: run.sh [python] [go] [rust] [java] [node]   (all five by default)
#
#   AMQP_URL             the broker to test; without it a Leveret broker is started and stopped here
#   LEVERET              the binary to start (${CARGO_TARGET_DIR:-target}/release/leveret)
#   CONFORMANCE_PORTS    the range, FIRST-LAST, in which to look for a free port for it
#   CONFORMANCE_WITHOUT  what the broker does not have yet: dead-letter
#   XDG_CACHE_HOME       what the suites need is installed below its leveret/ folder (~/.cache)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$root/conformance
cache=${XDG_CACHE_HOME:-$HOME/.cache}/leveret
all=(python go rust java node)
scratch='' # the folder of the broker that this script has started
broker=''  # its pid

main() {
    local suites=("$@") suite failed=()
    ((${#suites[@]})) || suites=("${all[@]}")
    for suite in "${suites[@]}"; do
        [[ " ${all[*]} " == *" $suite "* ]] || die "no suite named $suite; there are: ${all[*]}"
    done
    require_toolchains "${suites[@]}"
    mkdir -p "$cache"
    [[ -n ${AMQP_URL:-} ]] || start_broker
    export AMQP_URL
    for suite in "${suites[@]}"; do
        printf '\n== %s\n' "$suite"
        "run_$suite" || failed+=("$suite")
    done
    echo
    ((!${#failed[@]})) || die "failed: ${failed[*]}"
    echo "conformance: passed: ${suites[*]}"
}

die() {
    echo "conformance: $*" >&2
    exit 1
}

# require_toolchains SUITE...: installs what is missing where that is possible, and stops where it is not.
require_toolchains() {
    local suite missing=()
    for suite in "$@"; do
        case $suite in
            python) python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv) ;;
            go) has go || missing+=(golang-go) ;;
            rust) has cargo || die 'no cargo: install Rust from https://rustup.rs (Debian 12 packages a version that is too old)' ;;
            java)
                has javac || missing+=(default-jdk-headless)
                has mvn || missing+=(maven)
                ;;
            node)
                has node || missing+=(nodejs)
                has npm || missing+=(npm)
                ;;
        esac
    done
    ((${#missing[@]})) || return 0
    if ((EUID == 0)) && [[ -e /etc/debian_version ]]; then
        echo "conformance: installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        die "missing toolchains; on Debian: apt-get install ${missing[*]}"
    fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# Starts the broker on a free port with an empty data folder, and sets AMQP_URL.
start_broker() {
    local binary=${LEVERET:-${CARGO_TARGET_DIR:-$root/target}/release/leveret} port attempt
    [[ -x $binary ]] || die "no broker at $binary: build it (cargo build --release), or set LEVERET or AMQP_URL"
    scratch=$(mktemp -d)
    trap stop_broker EXIT
    port=$(free_port)
    echo "listeners.tcp.1 = 127.0.0.1:$port" >"$scratch/leveret.conf"
    "$binary" --config "$scratch/leveret.conf" --data-dir "$scratch/data" >"$scratch/log" 2>&1 &
    broker=$!
    for ((attempt = 0; attempt < 300; attempt++)); do
        kill -0 "$broker" 2>/dev/null || break
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            AMQP_URL=amqp://guest:guest@127.0.0.1:$port/
            return
        fi
        sleep 0.1
    done
    tail -n 40 "$scratch/log" >&2
    die "the broker does not listen on port $port"
}

# A port that nobody listens on; by default one below the ephemeral ports.
free_port() {
    local range=${CONFORMANCE_PORTS:-21000-29999} port attempt
    local first=${range%-*} last=${range#*-}
    for ((attempt = 0; attempt < 100; attempt++)); do
        port=$((first + (RANDOM * 32768 + RANDOM) % (last - first + 1)))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "no free port in $range"
}

# Ends the broker that start_broker has started; its exit code counts, unless the run has failed already.
stop_broker() {
    local outcome=$? status=0 attempt
    trap - EXIT
    if [[ -n $broker ]]; then
        kill -TERM "$broker" 2>/dev/null || true
        for ((attempt = 0; attempt < 300; attempt++)); do
            kill -0 "$broker" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$broker" 2>/dev/null || true
        wait "$broker" || status=$?
        if ((status)); then
            tail -n 40 "$scratch/log" >&2
            echo "conformance: the broker ended with $status" >&2
            ((outcome)) || outcome=1
        fi
    fi
    rm -rf "$scratch"
    exit "$outcome"
}

run_python() {
    local venv=$cache/venv
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv" || return
    if ! cmp -s "$here/python/requirements.txt" "$venv/conformance-requirements.txt"; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            -r "$here/python/requirements.txt" || return
        cp "$here/python/requirements.txt" "$venv/conformance-requirements.txt"
    fi
    (cd "$here/python" && PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pytest)
}

run_go() {
    (cd "$here/go" && go vet ./... && go test -count=1 -timeout 120s -v . | grep -vE '^ *(=== |--- PASS)')
}

run_rust() {
    (cd "$root/conformance/rust" && cargo test --release --locked --quiet --test conformance)
}

run_java() {
    (cd "$here/java" && mvn --batch-mode --no-transfer-progress \
        -Dconformance.target="$cache/java" -Dstyle.color=never test) | grep -vE '^\[INFO\] *($|---|Running|Scanning)'
}

run_node() {
    (
        cd "$here/node" || return
        if ! cmp -s package-lock.json node_modules/.conformance-lock.json; then
            npm ci --no-audit --no-fund --loglevel=error || return
            cp package-lock.json node_modules/.conformance-lock.json
        fi
        npm test --silent
    )
}

main "$@"
