"""The compose file and its configurations name each other, and each service is checked for health."""

import re
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.deploy.deployment import FOLDER, GATEWAYS, SECRETS, Deployment, compose
from tests.deploy.programs import free_port

FORBIDDEN = ("FLUSHALL", "KEYS *", "SHUTDOWN", "CONFIG SET maxmemory 1", "CLIENT KILL TYPE normal")


def test_the_services_and_their_dependencies() -> None:
    services = compose()["services"]
    assert services.keys() == {"nginx", *GATEWAYS, "worker", "redis"}
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
        for needed, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, name
            assert services[needed]["healthcheck"]["test"], needed
    assert services["nginx"]["depends_on"].keys() == set(GATEWAYS)
    assert services["worker"]["depends_on"].keys() == {"redis"}
    assert all("ports" not in services[name] for name in services if name != "nginx")


def test_gateways_trust_the_address_of_nginx_alone() -> None:
    document = compose()
    services = document["services"]
    addresses = [services[name]["networks"]["inner"]["ipv4_address"] for name in ("nginx", *GATEWAYS)]
    network = ip_network(document["networks"]["inner"]["ipam"]["config"][0]["subnet"])
    assert len(set(addresses)) == 3
    assert all(ip_address(address) in network for address in addresses)
    for name in GATEWAYS:
        command = services[name]["command"]
        assert command[command.index("--forwarded-allow-ips") + 1] == addresses[0]


def test_processes_have_time_to_stop() -> None:
    services = compose()["services"]
    for name in GATEWAYS:
        command: list[str] = services[name]["command"]
        assert seconds(services[name]["stop_grace_period"]) > float(command[command.index("--grace") + 1])
    worker = services["worker"]
    assert seconds(worker["stop_grace_period"]) > float(
        worker["command"][worker["command"].index("--wait-tasks-timeout") + 1]
    )


def seconds(duration: str) -> float:
    found = re.fullmatch(r"(\d+)s", duration)
    assert found is not None
    return float(found[1])


def test_every_file_that_is_mounted_or_built_exists(root: Path) -> None:
    services = compose()["services"]
    mounted = [volume.split(":")[0] for name in services for volume in services[name].get("volumes", [])]
    assert {name for name in mounted if name.startswith("./")} == {"./nginx.conf", "./redis.conf"}
    assert all((FOLDER / name).exists() for name in mounted if name.startswith("./"))
    build = services["worker"]["build"]
    assert (FOLDER / build["context"]).resolve() == root
    dockerfile = (root / build["dockerfile"]).read_text()
    sources = [word for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]]
    assert sources
    assert all((root / source).exists() for source in sources)


def test_the_example_of_the_environment_names_every_secret() -> None:
    names = re.findall(r"^(\w+)=$", (FOLDER / ".env.example").read_text(), re.MULTILINE)
    assert set(names) == SECRETS.keys()


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    deployment = Deployment(folder=tmp_path, ports={name: free_port() for name in (*GATEWAYS, "nginx")})
    done = subprocess.run([*deployment.nginx(), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_redis_keeps_its_data_and_grants_the_least_rights(tmp_path: Path) -> None:
    deployment = Deployment(folder=tmp_path, ports={"redis": free_port()})
    try:
        deployment.start("redis")
        with redis.Redis.from_url(deployment.redis) as client:
            config = client.config_get("*")
            assert {name: config[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")} == {
                "appendonly": "yes",
                "appendfsync": "everysec",
                "maxmemory-policy": "noeviction",
            }
            client.set("lg:x", "kept")
            for command, missing in (
                ("SET other 1", "one of the keys"),
                ("PUBLISH other 1", "one of the channels"),
                *((command, "run the") for command in FORBIDDEN),
            ):
                with pytest.raises(NoPermissionError, match=missing):
                    client.execute_command(*command.split())
        with redis.Redis(port=deployment.ports["redis"]) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        deployment.stop("redis")
        deployment.start("redis")
        with redis.Redis.from_url(deployment.redis) as client:
            assert client.get("lg:x") == b"kept"
    finally:
        deployment.stop("redis")
