#!/usr/bin/env bash
# Runs the examples against a live broker: run.sh [NAME...]   (all by default, e.g. work_queue)
#
#   AMQP_URL                    the broker; without it a Leveret broker is started and stopped here
#   LEVERET, CONFORMANCE_PORTS  which binary, and which ports: see conformance/broker.sh
#   XDG_CACHE_HOME              what the examples need is installed below its leveret/ folder (~/.cache)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/leveret
program=examples
seconds_max=30 # for each example
source "$root/conformance/broker.sh"

main() {
    local names=("$@") name failed=()
    has python3 && has go && has cargo || die 'install what is missing first: conformance/setup.sh build test'
    mkdir -p "$cache"
    build
    ((${#names[@]})) || mapfile -t names < <(all)
    [[ -n ${AMQP_URL:-} ]] || start_broker
    export AMQP_URL
    for name in "${names[@]}"; do
        run "$name" || failed+=("$name")
    done
    ((!${#failed[@]})) || die "failed: ${failed[*]}"
    echo "examples: passed: ${#names[@]}"
}

# What is in the folders; an example that is added there is run.
all() {
    (cd "$here" && ls python/*.py go/*/main.go rust/src/bin/*.rs) |
        sed -E 's,^python/|^rust/src/bin/|^go/|/main\.go$|\.(py|rs)$,,g' | sort
}

build() {
    python_environment "$cache/examples" "$here/python/requirements.txt"
    (cd "$here/go" && go vet ./... && mkdir -p "$cache/examples/go" && go build -o "$cache/examples/go/" ./...)
    (cd "$here/rust" && cargo build --release --locked --quiet)
}

# run NAME: prints what the example has seen; 1 unless it ended with 0 in time.
run() {
    local name=$1 command
    if [[ -e $here/python/$name.py ]]; then
        command=("$cache/examples/bin/python" -B "$here/python/$name.py")
    elif [[ -e $here/go/$name/main.go ]]; then
        command=("$cache/examples/go/$name")
    elif [[ -e $here/rust/src/bin/$name.rs ]]; then
        command=("${CARGO_TARGET_DIR:-$here/rust/target}/release/$name")
    else
        die "no example named $name; there are: $(all | xargs)"
    fi
    printf '\n== %s\n' "$name"
    timeout "$seconds_max" "${command[@]}"
}

main "$@"
