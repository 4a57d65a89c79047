"""Starts and stops the brokers under test, each in a folder of its own under the temp directory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_TIMEOUT_S = 90

# What Leveret has built in.
PLUGINS = ("rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange,"
           "rabbitmq_recent_history_exchange,rabbitmq_sharding")

# Both brokers get these lines; the limit is small so that exceeding it is cheap.
COMMON_SETTINGS = "max_message_size = 1048576\n"

# The profile `limited` speaks as a user whose rights follow from the first letters of a name:
# c = configure, w = write, r = read, in this order.
LIMITED_PERMISSIONS = {"configure": "^c", "write": "^c?w", "read": "^c?w?r"}
CREDENTIALS = {"default": ("guest", "guest"), "limited": ("limited", "limited")}


class Endpoint:
    """Where a broker listens, per profile."""

    def __init__(self, addresses):
        self._addresses = addresses

    def address(self, profile):
        return self._addresses.get(profile) or self._addresses["default"]

    def credentials(self, profile):
        return CREDENTIALS[profile]


def free_port(first=21000, last=21499):
    """A port of 127.0.0.1 that nobody listens on, below the range of outgoing connections."""
    for port in range(first + os.getpid() % 250, last):
        with socket.socket() as probe:
            if port not in _handed_out and probe.connect_ex(("127.0.0.1", port)):
                _handed_out.add(port)
                return port
    raise RuntimeError(f"no free port in {first}-{last}")


_handed_out = set()


class Process:
    """A broker process with its folder; stopped by its process group, never by name."""

    def __init__(self, name, folder):
        self.name, self.folder, self.process = name, Path(folder), None

    def spawn(self, command, environment=None):
        log = open(self.folder / f"{self.name}.log", "wb")
        self.process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            cwd=self.folder, env=environment, start_new_session=True)

    def wait_for(self, port):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at its start:\n{self.output()}")
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as probe:
                    probe.sendall(b"AMQP\x00\x00\x09\x01")
                    if probe.recv(1):
                        return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not answer on port {port}:\n{self.output()}")

    def output(self):
        return (self.folder / f"{self.name}.log").read_text(errors="replace")[-4000:]

    def stop(self, how=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class RabbitMQ:
    """A private RabbitMQ: its own node name, ports, epmd, data folder and HOME."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="differential-rabbitmq-"))
        self.port, self.epmd_port, dist_port = free_port(), free_port(), free_port()
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n{COMMON_SETTINGS}"
            f"load_definitions = {self.folder}/definitions.json\n")
        (self.folder / "enabled_plugins").write_text(f"[{PLUGINS}].\n")
        (self.folder / "definitions.json").write_text(json.dumps(_definitions()))
        self.environment = {
            **os.environ, "HOME": str(self.folder),
            "RABBITMQ_MNESIA_BASE": f"{self.folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{self.folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{self.folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.folder}/enabled_plugins",
            "RABBITMQ_NODENAME": f"differential{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist_port), "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._process = Process("rabbitmq-server", self.folder)
        self._epmd = Process("epmd", self.folder)

    def start(self):
        # RabbitMQ would start epmd as a daemon that outlives it; as a child it can be stopped.
        self._epmd.spawn(["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"],
                         self.environment)
        self._process.spawn([str(RABBITMQ_SERVER)], self.environment)
        return self

    def ready(self):
        self._process.wait_for(self.port)
        return Endpoint({"default": ("127.0.0.1", self.port)})

    def stop(self):
        self._process.stop()
        self._epmd.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _definitions():
    users = [
        {"name": "guest", "password": "guest", "tags": "administrator"},
        {"name": "limited", "password": "limited", "tags": ""},
    ]
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": users, "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": "guest", "vhost": "/", **everything},
            {"user": "limited", "vhost": "/", **LIMITED_PERMISSIONS},
        ],
    }


class Leveret:
    """Two Leveret processes: the default user `guest`, and one whose default user is `limited`."""

    def __init__(self, binary):
        self.folder = Path(tempfile.mkdtemp(prefix="differential-leveret-"))
        limited = "default_user = limited\ndefault_pass = limited\n" + "".join(
            f"default_permissions.{kind} = {pattern}\n"
            for kind, pattern in LIMITED_PERMISSIONS.items())
        self._parts = {
            profile: self._spawn(binary, profile, settings)
            for profile, settings in (("default", ""), ("limited", limited))
        }

    def _spawn(self, binary, profile, settings):
        folder, port = self.folder / profile, free_port()
        folder.mkdir()
        config = folder / "leveret.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n{COMMON_SETTINGS}{settings}")
        process = Process(f"leveret ({profile})", folder)
        # Settings from outside would make it another broker than the one that is described here.
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("RABBITMQ_", "LEVERET_"))}
        process.spawn([binary, "--config", str(config), "--data-dir", str(folder / "data")],
                      environment)
        return process, port

    def ready(self):
        for process, port in self._parts.values():
            process.wait_for(port)
        return Endpoint({
            profile: ("127.0.0.1", port) for profile, (_, port) in self._parts.items()})

    def alive(self):
        """Names of the processes that have ended by themselves, with their last output."""
        return {
            process.name: process.output()
            for process, _ in self._parts.values() if process.process.poll() is not None
        }

    def stop(self):
        for process, _ in self._parts.values():
            process.stop(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)


def rabbitmq_version():
    """The version of the installed RabbitMQ, or None."""
    for folder in sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")):
        if RABBITMQ_SERVER.exists():
            return folder.name.removeprefix("rabbitmq_server-")
    return None


def install_rabbitmq():
    """Tries `apt-get install rabbitmq-server` where this user may; True if it is there afterwards."""
    apt_get = shutil.which("apt-get")
    if not apt_get:
        return False
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # RUNLEVEL=1 keeps the package from starting its service.
    command = [*prefix, "env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", apt_get]
    try:
        subprocess.run([*command, "update", "-q"], check=False, capture_output=True, timeout=300)
        subprocess.run([*command, "install", "-y", "-q", "--no-install-recommends",
                        "rabbitmq-server"], check=False, capture_output=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return rabbitmq_version() is not None
