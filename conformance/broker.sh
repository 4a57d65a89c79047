# A broker of its own for the length of a script; sourced by conformance/run.sh and examples/run.sh.
#
#   program            what messages begin with; set by the script
#   root               the folder of the project; set by the script
#   AMQP_URL           set here: where the broker listens
#   LEVERET            the binary to start (${CARGO_TARGET_DIR:-target}/release/leveret)
#   CONFORMANCE_PORTS  the range, FIRST-LAST, in which to look for a free port for it

scratch='' # the folder of the broker that start_broker has started
broker=''  # its pid

die() {
    echo "$program: $*" >&2
    exit 1
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
            echo "$program: the broker ended with $status" >&2
            ((outcome)) || outcome=1
        fi
    fi
    rm -rf "$scratch"
    exit "$outcome"
}

# python_environment FOLDER REQUIREMENTS: a virtual environment in FOLDER with what the file lists.
python_environment() {
    local venv=$1 requirements=$2
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv" || return
    if ! cmp -s "$requirements" "$venv/installed-requirements.txt"; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || return
        cp "$requirements" "$venv/installed-requirements.txt"
    fi
}
