"""Real Redis servers on loopback: one, with TLS, a cluster of three, a pair with a sentinel.

Start them in the main thread: the kernel kills a server when the thread that started it ends, so that none outlives
its tests.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import redis
import trustme

__all__ = [
    "RedisCluster",
    "RedisPair",
    "RedisServer",
    "Tls",
    "free_port",
    "redis_cluster",
    "redis_pair",
    "redis_server",
    "redis_tls",
    "valkey_program",
    "wait_until",
]

SLOTS: Final = 16384
_TIMEOUT: Final = 20.0
_STARTS: Final = 5


def valkey_program() -> str | None:
    """Path of Valkey's server; None if it is not installed."""
    return shutil.which("valkey-server")


def free_port() -> int:
    """A port of loopback that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def wait_until(condition: Callable[[], object], what: str, timeout: float = _TIMEOUT) -> None:
    """Wait for a condition; errors of Redis while it starts or fails over count as false."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except (redis.RedisError, OSError):
            pass
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


class RedisServer:
    """One server. Its data lie in a folder of their own, which `stop` removes.

    Args:
        lines: Lines of its configuration, after those that make it small and fast to start.
        program: The server to start; Redis's by default.
        sentinel: Start a sentinel.
        options: Further lines, with `_` for `-`: ``maxmemory="8mb"``.
    """

    def __init__(
        self, lines: Sequence[str] = (), *, program: str = "redis-server", sentinel: bool = False, **options: Any
    ) -> None:
        found = shutil.which(program)
        assert found is not None, f"{program} is missing: make tools installs redis-server"
        self._command = [found]
        self._lines = [*lines, *(f"{name.replace('_', '-')} {value}" for name, value in options.items())]
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._temporary = tempfile.TemporaryDirectory(prefix="lg-redis-")  # short: a socket's path has 107 bytes
        self.folder = Path(self._temporary.name)
        self.socket = self.folder / "redis.sock"
        self.port = 0

    @property
    def url(self) -> str:
        """URL of the server; with TLS, `Tls.url` completes it."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @contextmanager
    def client(self, **options: Any) -> Generator["redis.Redis"]:
        """A client over the server's Unix socket, which a test's faults on the network do not reach."""
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=_TIMEOUT, **options) as client:
            yield client

    def execute(self, *command: object) -> Any:
        """Execute one command as the default user."""
        with self.client() as client:
            return cast("Any", client.execute_command(*command))

    def start(self) -> None:
        """Start it, and wait until it answers. A first start finds a free port; later ones keep it."""
        for attempt in range(_STARTS):
            if attempt or not self.port:
                self.port = free_port()
            if self._spawn():
                return
        raise AssertionError(f"{self._command[0]} does not start: {self.log()}")

    def log(self) -> str:
        """Lines that the server has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End it and remove its data. Repeated calls do nothing."""
        self.kill()
        self._temporary.cleanup()

    def kill(self) -> None:
        """End it as `kill -9` does; its files stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._paused = False

    def restart(self, *, keep_data: bool) -> None:
        """Start it again on the same port, with its data or without any."""
        if keep_data and self._process is not None:
            self.execute("SAVE")
        self.kill()
        if not keep_data:
            for name in ("dump.rdb", "appendonlydir"):
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        assert self._spawn(), self.log()

    def pause(self) -> None:
        """Stop its process: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let its process go on."""
        if self._process is not None and self._paused:
            self._process.send_signal(signal.SIGCONT)
            self._paused = False

    def flush(self) -> None:
        """Remove all its data."""
        self.execute("FLUSHALL")

    def _spawn(self) -> bool:
        self.socket.unlink(missing_ok=True)
        path = self.folder / "redis.conf"
        if not (self._sentinel and path.exists()):  # a sentinel writes its state to the file
            path.write_text("\n".join(self._config()) + "\n")
        command = [*self._command, str(path), *(["--sentinel"] if self._sentinel else [])]
        if guard := shutil.which("setpriv"):
            command = [guard, "--pdeathsig", "KILL", *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self.execute("PING"):
                    return True
            except redis.AuthenticationError:
                return True
            except (redis.RedisError, OSError):
                time.sleep(0.01)
        self.kill()
        return False

    def _config(self) -> list[str]:
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"unixsocket {self.socket}",
            f"dir {self.folder}",
            f"logfile {self.folder}/log",
            "daemonize no",
        ]
        if not self._sentinel:
            lines += ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
        return [*lines, *(line.replace("{port}", str(self.port)) for line in self._lines)]


@contextmanager
def redis_server(lines: Sequence[str] = (), *, program: str = "redis-server", **options: str) -> Generator[RedisServer]:
    """A running server, see `RedisServer`; ended with the context."""
    server = RedisServer(lines, program=program, sentinel=False, **options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Tls:
    """Certificates of an authority of the tests, and a server that takes connections with TLS only."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    @property
    def url(self) -> str:
        """URL of a client that has a certificate and trusts the server's."""
        files = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
        query = "&".join(f"{option}={self.folder / name}" for option, name in files.items())
        return f"rediss://127.0.0.1:{self.server.port}?{query}"


@contextmanager
def redis_tls() -> Generator[Tls]:
    """A server with TLS that asks its clients for certificates."""
    with tempfile.TemporaryDirectory(prefix="lg-tls-") as name:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        for role in ("server", "client"):
            issued = authority.issue_cert("127.0.0.1", "localhost")
            issued.cert_chain_pems[0].write_to_path(folder / f"{role}.pem")
            issued.private_key_pem.write_to_path(folder / f"{role}.key")
        lines = [
            "port 0",
            "tls-port {port}",
            f"tls-cert-file {folder}/server.pem",
            f"tls-key-file {folder}/server.key",
            f"tls-ca-cert-file {folder}/ca.pem",
            "tls-auth-clients yes",
        ]
        with redis_server(lines) as server:
            yield Tls(server, folder)


class RedisCluster:
    """Three masters without replicas; each serves a third of the slots."""

    def __init__(self, nodes: Sequence[RedisServer]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """URL with the addresses of all nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def join(self) -> None:
        """Make a cluster of the nodes, and wait until each serves."""
        first, size = self.nodes[0], len(self.nodes)
        for number, node in enumerate(self.nodes):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            start, end = number * SLOTS // size, (number + 1) * SLOTS // size - 1
            node.execute("CLUSTER", "ADDSLOTSRANGE", start, end)
            if node is not first:
                node.execute("CLUSTER", "MEET", "127.0.0.1", first.port, _bus_port(first))
        wait_until(lambda: all(self._is_ready(node) for node in self.nodes), "the cluster is ready")

    def owner(self, slot: int) -> RedisServer:
        """The node that serves a slot."""
        return next(node for node in self.nodes if slot in self._slots_of(node))

    def another(self, slot: int) -> RedisServer:
        """A node that does not serve a slot."""
        return next(node for node in self.nodes if slot not in self._slots_of(node))

    def begin_move(self, slot: int, target: RedisServer) -> RedisServer:
        """Begin to move a slot, so that its owner redirects commands on keys that it lacks; return the owner."""
        owner = self.owner(slot)
        target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", _node_id(owner))
        owner.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", _node_id(target))
        return owner

    def move_keys(self, slot: int, owner: RedisServer, target: RedisServer) -> None:
        """Move the keys of a slot."""
        while keys := owner.execute("CLUSTER", "GETKEYSINSLOT", slot, 100):
            owner.execute("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def move(self, slot: int, target: RedisServer) -> None:
        """Move a slot with its keys to another node."""
        owner = self.begin_move(slot, target)
        self.move_keys(slot, owner, target)
        self.finish_move(slot, owner, target)

    def finish_move(self, slot: int, owner: RedisServer, target: RedisServer) -> None:
        """Give a slot, whose keys were moved, to its new owner."""
        for node in (target, owner, *self.nodes):  # as redis-cli does it
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", _node_id(target))

    def _is_ready(self, node: RedisServer) -> bool:
        with node.client() as client:
            info = client.cluster("INFO")
        return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(len(self.nodes))

    def _slots_of(self, node: RedisServer) -> set[int]:
        line = next(line for line in node.execute("CLUSTER", "NODES").splitlines() if "myself" in str(line))
        slots: set[int] = set()
        for part in str(line.decode() if isinstance(line, bytes) else line).split()[8:]:
            if not part.startswith("["):
                start, _, end = part.partition("-")
                slots |= set(range(int(start), int(end or start) + 1))
        return slots


def _node_id(node: RedisServer) -> str:
    found = node.execute("CLUSTER", "MYID")
    return found.decode() if isinstance(found, bytes) else found


def _bus_port(node: RedisServer) -> int:
    return int(node.execute("CONFIG", "GET", "cluster-port")[b"cluster-port"])


@contextmanager
def redis_cluster(size: int = 3, lines: Sequence[str] = ()) -> Generator[RedisCluster]:
    """A cluster that is ready, see `RedisCluster`."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                redis_server(
                    [*lines, "cluster-enabled yes", "cluster-node-timeout 2000", f"cluster-port {free_port()}"]
                )
            )
            for _ in range(size)
        ]
        cluster = RedisCluster(nodes)
        cluster.join()
        yield cluster


class RedisPair:
    """A master with a replica, and a sentinel that watches them under the name `lg`."""

    service = "lg"

    def __init__(self, servers: Sequence[RedisServer], sentinel: RedisServer) -> None:
        self.servers = servers
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        """URL of the service at the sentinel."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.service}"

    @property
    def master(self) -> RedisServer:
        """The master that the sentinel gives to clients."""
        with self.sentinel.client() as client:
            port = cast("dict[str, Any]", client.sentinel_master(self.service))["port"]
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def fail_over(self) -> None:
        """Make the replica the master, and the master its replica."""
        old, new = self.master, self.replica
        # It is refused until the sentinel has asked the replica for its state.
        wait_until(lambda: self.sentinel.execute("SENTINEL", "FAILOVER", self.service), "the failover begins")
        wait_until(lambda: self.master is new and _role(new) == "master", "the failover ends")
        old.execute("REPLICAOF", "127.0.0.1", new.port)  # the sentinel does the same after eight seconds
        for kind in ("normal", "pubsub"):
            old.execute("CLIENT", "KILL", "TYPE", kind)

    def wait_for_replica(self) -> None:
        """Wait until the replica has all that the master has."""
        master, replica = self.master, self.replica
        wait_until(lambda: _info(replica, "replication").get("master_link_status") == "up", "the replica is connected")
        master.execute("WAIT", 1, 5000)


def _info(server: RedisServer, section: str) -> dict[str, Any]:
    with server.client() as client:
        return client.info(section)


def _role(server: RedisServer) -> str:
    return _info(server, "replication")["role"]


@contextmanager
def redis_pair() -> Generator[RedisPair]:
    """A pair with a sentinel, see `RedisPair`."""
    with redis_server() as master, redis_server([f"replicaof 127.0.0.1 {master.port}"]) as replica:
        wait_until(lambda: _info(replica, "replication").get("master_link_status") == "up", "the replica is connected")
        name = RedisPair.service
        lines = [
            f"sentinel monitor {name} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {name} 1000",
            f"sentinel failover-timeout {name} 3000",
        ]
        sentinel = RedisServer(lines, sentinel=True)
        try:
            sentinel.start()
            pair = RedisPair([master, replica], sentinel)
            wait_until(lambda: sentinel.execute("SENTINEL", "REPLICAS", name), "the sentinel has found the replica")
            pair.wait_for_replica()
            yield pair
        finally:
            sentinel.stop()
