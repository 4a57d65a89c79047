#!/usr/bin/env bash
# Proves the image and docker-compose.yml with a real engine and a real client (pika).
#
#   run.sh BINARY   packs a binary that was built on this machine
#   run.sh          builds the whole image, RocksDB included: some ten minutes
#
# Starts an engine of its own when none answers (as root), and makes stand-ins for the base images when
# they cannot be pulled. LEVERET_TEST_PORT (default 22590) is the published port.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=${1:-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/leveret/docker
work=$(mktemp -d)
dockerd_pid=
container=

export COMPOSE_PROJECT_NAME=leveret-test
export LEVERET_PORT=${LEVERET_TEST_PORT:-22590}
export RABBITMQ_DEFAULT_USER=alice RABBITMQ_DEFAULT_PASS='s#cret' RABBITMQ_DEFAULT_VHOST=orders
passed=0

say() { echo "test-docker: $*"; }

fail() {
    say "FAILED: $*" >&2
    compose logs --tail 50 >&2 || true
    exit 1
}

pass() {
    passed=$((passed + 1))
    say "ok: $*"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -f "$root/docker-compose.yml" "$@"
    else
        docker-compose -f "$root/docker-compose.yml" "$@"
    fi
}

clean_up() {
    set +e
    if docker info >/dev/null 2>&1; then
        compose down --volumes --timeout 5 >/dev/null 2>&1
    fi
    if [[ -n $dockerd_pid ]]; then
        kill "$dockerd_pid"
        wait "$dockerd_pid"
        # What the engine has mounted below its folder and leaves there.
        umount "$work"/exec/netns/* 2>/dev/null
    fi
    rm -rf "$work"
}
trap clean_up EXIT

# An engine with its images in the cache folder, its socket in a folder of this run, and no firewall
# rules: published ports then go through its own proxy.
start_engine() {
    docker info >/dev/null 2>&1 && return
    say "no engine answers, starting one"
    mkdir -p "$cache"
    export DOCKER_HOST=unix://$work/docker.sock
    dockerd --data-root "$cache/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
        --host "$DOCKER_HOST" --iptables=false --ip6tables=false >"$work/dockerd.log" 2>&1 &
    dockerd_pid=$!
    for _ in $(seq 120); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$dockerd_pid" 2>/dev/null || break
        sleep 0.5
    done
    tail -20 "$work/dockerd.log" >&2
    say "the engine does not start" >&2
    exit 1
}

build_image() {
    "$here/base_images.sh" debian:bookworm-slim
    if [[ -n $binary ]]; then
        # All of the Dockerfile but its build stage, and the binary from here in the place of that.
        docker build --target runtime --tag leveret-runtime "$root"
        mkdir "$work/context"
        strip --strip-debug -o "$work/context/leveret" "$binary"
        printf 'FROM leveret-runtime\nCOPY leveret /usr/local/bin/leveret\n' >"$work/context/Dockerfile"
        docker build --tag leveret "$work/context"
    else
        "$here/base_images.sh" rust:1-bookworm
        docker build --network host --tag leveret "$root"
    fi
}

# Polls until the engine itself calls the container healthy, that is, until `leveret ping` succeeds in it.
wait_healthy() {
    for _ in $(seq 240); do
        [[ $(state '{{.State.Health.Status}}') == healthy ]] && return
        sleep 0.5
    done
    fail "the container does not become healthy"
}

state() { docker inspect --format "$1" "$container"; }

# Starts what docker-compose.yml describes, with an image that is there, and waits until it is healthy.
up() {
    compose up --detach --no-build
    container=$(compose ps --quiet leveret)
    wait_healthy
}

client() {
    "$cache/venv/bin/python" "$here/client.py" --port "$LEVERET_PORT" --user "$RABBITMQ_DEFAULT_USER" \
        --password "$RABBITMQ_DEFAULT_PASS" --vhost "$RABBITMQ_DEFAULT_VHOST" "$@" || fail "client $*"
}

install_client() {
    [[ -x $cache/venv/bin/python ]] || python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
}

start_engine
install_client
build_image
pass "the image is built"

compose down --volumes --timeout 5 >/dev/null 2>&1 || true
up
pass "compose up, and the health check succeeds"

[[ $(docker exec "$container" id -u) == 999 ]] || fail "the broker runs as root"
pass "the broker is not root"

client refuse-guest
pass "only the user of RABBITMQ_DEFAULT_USER exists"

client publish 100
compose restart
wait_healthy
client expect 100
pass "100 persistent messages survive a restart"

docker kill --signal KILL "$container" >/dev/null
docker start "$container" >/dev/null
wait_healthy
client expect 100
pass "and a kill"

compose down --timeout 20
up
client expect 100
client consume 100
pass "and a new container with the same volume"

compose stop --timeout 20
[[ $(state '{{.State.ExitCode}}') == 0 ]] || fail "SIGTERM ends the broker with $(state '{{.State.ExitCode}}')"
pass "SIGTERM ends the broker with 0"

say "$passed passed, 0 failed"
