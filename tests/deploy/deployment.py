"""The programs of `examples/deploy/compose.yaml`, without containers: the same commands and configurations."""

import os
import re
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests.deploy.programs import WORKER, Process, environment, find_program, free_port, program
from tests.support.server import ROOT

__all__ = ["FOLDER", "SECRETS", "Deployment", "compose"]

FOLDER = ROOT / "examples/deploy"
SECRETS = {"REDIS_PASSWORD": "redis0123456789", "AUTH_SECRET": "auth0123456789abcdef0123456789abcdef"}
GATEWAYS = ("gateway-1", "gateway-2")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def compose() -> dict[str, Any]:
    """The compose file with the secrets."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(_VARIABLE.sub(lambda found: SECRETS[found[1]], text))


def _replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass(kw_only=True)
class Deployment:
    """Programs of the compose file on loopback. `start`, `stop`, `kill` and `reload` take a service's name."""

    folder: Path
    ports: dict[str, int]
    services: dict[str, Any] = field(default_factory=lambda: compose()["services"])
    fresh: bool = True
    """Start gateways in new interpreters first. When they restart, they are forks: see `tests.support.warm`."""
    _running: dict[str, ExitStack] = field(default_factory=dict[str, ExitStack])
    _processes: dict[str, Process] = field(default_factory=dict[str, Process])

    @classmethod
    @contextmanager
    def running(
        cls, folder: Path, *, others: Sequence[str] = (*GATEWAYS, "worker", "nginx"), fresh: bool = True
    ) -> Generator[Self]:
        """Start Redis and other services; stop them at the end."""
        ports = {name: free_port() for name in ("redis", *GATEWAYS, "nginx")}
        deployment = cls(folder=folder, ports=ports, fresh=fresh)
        with ExitStack() as stack:
            for name in ("redis", *others):
                stack.callback(deployment.stop, name)
            deployment.start("redis")
            with ThreadPoolExecutor() as pool:
                list(pool.map(deployment.start, others))
            yield deployment

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['nginx']}"

    @property
    def redis(self) -> str:
        """URL of Redis, as in the compose file."""
        url: str = self.services["worker"]["environment"]["LG_STREAMING_LOG"]
        return _replaced(url, ("@redis:6379", f"@127.0.0.1:{self.ports['redis']}"))

    def start(self, name: str) -> None:
        log = self.folder / f"{name}-{len(self.logs(name))}.log"
        command, options = self._command(name)
        with ExitStack() as stack:
            self._processes[name] = stack.enter_context(program(command, log, **options))
            self._running[name] = stack.pop_all()

    def stop(self, name: str) -> None:
        if name in self._running:
            self._running.pop(name).close()

    def logs(self, name: str) -> list[Path]:
        """The output of a service, of each of its starts."""
        return list(self.folder.glob(f"{name}-*.log"))

    def kill(self, name: str) -> None:
        """End a service without a warning."""
        self._processes[name].kill()
        self._processes[name].wait()
        self.stop(name)

    def reload(self, name: str) -> None:
        """Let nginx read its configuration again: new workers serve, old ones keep their connections."""
        self._processes[name].send_signal(signal.SIGHUP)

    def nginx_conf(self) -> Path:
        """The configuration of nginx with the ports and folders of this machine."""
        temporary = "".join(f"{name}_temp_path {self.folder}/{name};\n" for name in _TEMPORARY)
        text = _replaced(
            (FOLDER / "nginx.conf").read_text(encoding="utf-8"),
            ("/tmp/nginx.pid", f"{self.folder}/nginx.pid"),
            ("listen 8080", f"listen 127.0.0.1:{self.ports['nginx']}"),
            ("http {", f"http {{\n{temporary}"),
            *((f"{name}:8000", f"127.0.0.1:{self.ports[name]}") for name in GATEWAYS),
        )
        path = self.folder / "nginx.conf"
        path.write_text(text, encoding="utf-8")
        return path

    def nginx(self) -> list[str]:
        """Command of nginx in the foreground."""
        own = ["-p", str(self.folder), "-e", str(self.folder / "error.log")]
        return [find_program("nginx"), "-c", str(self.nginx_conf()), *own, "-g", "daemon off;"]

    def _command(self, name: str) -> tuple[list[str], dict[str, Any]]:
        """The command of a service, and the options of `program`."""
        if name == "nginx":
            return self.nginx(), {"port": self.ports[name]}
        command: list[str] = self.services[name]["command"]
        if name == "redis":
            return [find_program(command[0]), *self._redis_options(command[1])], {"port": self.ports[name]}
        env = environment(self.redis, LG_STREAMING_AUTH__SECRET=SECRETS["AUTH_SECRET"])
        if name == "worker":
            worker = [sys.executable, "-m", *command[:-1], "2"]  # seconds in which its jobs may end
            return worker, {"line": "Listening started", "env": env, "folder": WORKER}
        here = {"python": sys.executable, "0.0.0.0": "127.0.0.1", "10.77.0.10": "127.0.0.1"}
        gateway = [here.get(word, word) for word in command]
        port = self.ports[name]
        fresh = self.fresh and not self.logs(name)
        return [*gateway, f"--port={port}"], {"port": port, "env": env, "folder": WORKER, "fresh": fresh}

    def _redis_options(self, conf: str) -> Iterator[str]:
        users = self.folder / "users.acl"
        users.write_text(compose()["configs"]["users"]["content"], encoding="utf-8")
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        text = (FOLDER / os.path.basename(conf)).read_text(encoding="utf-8")  # noqa: PTH119
        path = self.folder / "redis.conf"
        path.write_text(_replaced(text, ("/etc/redis/users.acl", str(users)), ("dir /data", f"dir {data}")))
        yield str(path)
        yield from ("--bind", "127.0.0.1", "--port", str(self.ports["redis"]))
