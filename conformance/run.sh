#!/usr/bin/env bash
# Runs the conformance suites: run.sh [python] [go] [rust] [java] [node]   (all five by default)
#
#   AMQP_URL             the broker to test; without it a Leveret broker is started and stopped here
#   LEVERET, CONFORMANCE_PORTS  which binary, and which ports: see broker.sh
#   XDG_CACHE_HOME       what the suites need is installed below its leveret/ folder (~/.cache)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$root/conformance
cache=${XDG_CACHE_HOME:-$HOME/.cache}/leveret
all=(python go rust java node)
program=conformance
source "$here/broker.sh"

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

run_python() {
    local venv=$cache/venv
    python_environment "$venv" "$here/python/requirements.txt" || return
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
