"""The brokers: how each is started on an empty folder, and how it is stopped."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import processes

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 60
REST_SECONDS = 25
RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class StartError(Exception):
    """A broker did not come up."""


class Broker:
    """One broker on ports from `port` on, with all it keeps in `folder`."""

    name = ""

    def __init__(self, port, folder):
        self.port, self.folder, self.process = port, folder / self.name, None

    @property
    def uri(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"

    @property
    def pid(self):
        return self.process.pid

    def clear(self):
        """Forgets everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        """Starts the broker. Returns the seconds until it greeted its first client."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command, environment = self.prepare()
        log = open(self.folder / "output.log", "ab")
        started = time.monotonic()
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log, start_new_session=True)
        log.close()
        while not greets(self.port):
            if self.process.poll() is not None or time.monotonic() - started > START_SECONDS_MAX:
                log = (self.folder / "output.log").read_text(encoding="utf-8", errors="replace").splitlines()
                raise StartError(f"{self.name} does not start: {log[-1] if log else 'it says nothing'}")
            time.sleep(0.002)
        return time.monotonic() - started

    def idle_memory(self):
        """Resident bytes, once the start has settled."""
        processes.wait_until_calm(self.pid)
        return processes.resident_bytes(self.pid)

    def rested_memory(self):
        """Resident bytes a while after the start, when allocators have given back what they needed for it only."""
        time.sleep(REST_SECONDS)
        return self.idle_memory()

    def stop(self, kill=False):
        """Stops the broker and whatever it has started."""
        if self.process is None:
            return
        members = processes.family(self.pid)
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for member in members[1:]:
            try:
                os.kill(member, signal.SIGKILL)
            except OSError:
                pass
        self.process = None

    def prepare(self):
        """Writes what the broker needs. Returns its command and environment."""
        raise NotImplementedError

    def version(self):
        """The version as the broker's own command tells it."""
        return ""


class Floor(Broker):
    name = "floor"

    def __init__(self, port, folder, relay):
        super().__init__(port, folder)
        self.relay = relay

    def prepare(self):
        return [str(self.relay), f"127.0.0.1:{self.port}"], {}


class Leveret(Broker):
    name = "leveret"

    def __init__(self, port, folder, binary):
        super().__init__(port, folder)
        self.binary = binary

    def prepare(self):
        config = self.folder / "leveret.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        return [str(self.binary), "--config", str(config), "--data-dir", str(self.folder / "data")], {}

    def version(self):
        out = subprocess.run([str(self.binary), "--version"], capture_output=True, text=True, check=False).stdout
        return out.strip().removeprefix("leveret").strip()


class RabbitMQ(Broker):
    name = "rabbitmq"

    def prepare(self):
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.file.level = warning\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "home").mkdir(exist_ok=True)
        environment = {
            "HOME": str(self.folder / "home"),
            "RABBITMQ_NODENAME": f"peer{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(self.port + 1),
            # A port mapper of its own, which ends with it.
            "ERL_EPMD_PORT": str(self.port + 2),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return [str(RABBITMQ_SERVER)], environment

    def stop(self, kill=False):
        if self.process is None:
            return
        super().stop(kill)
        environment = {**os.environ, "ERL_EPMD_PORT": str(self.port + 2), "HOME": str(self.folder / "home")}
        subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, check=False)

    def version(self):
        query = ["dpkg-query", "--show", "--showformat", "${Version}", "rabbitmq-server"]
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def choose(names, port, folder, leveret, relay):
    """The brokers of these names, each with its ports."""
    made = {
        "floor": lambda: Floor(port, folder, relay),
        "rabbitmq": lambda: RabbitMQ(port + 5, folder),
        "leveret": lambda: Leveret(port + 10, folder, leveret),
    }
    unknown = [name for name in names if name not in made]
    if unknown:
        raise SystemExit(f"no such brokers: {', '.join(unknown)}")
    if "rabbitmq" in names and not RABBITMQ_SERVER.exists():
        raise SystemExit("RabbitMQ is not installed: apt-get install rabbitmq-server, or leave it out with --brokers")
    return [made[name]() for name in names]


def greets(port):
    """Whether an AMQP 0-9-1 client is greeted with connection.start."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            head = client.recv(11)
            return head[:3] == b"\x01\x00\x00" and head[7:11] == b"\x00\x0a\x00\x0a"
    except OSError:
        return False
