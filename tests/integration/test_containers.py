"""The contract of servers: kept by the sandbox and by the official images alike.

The contract needs only a pair and a transport between the sites. The cases on images need a
Docker engine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drc.config import load
from drc.sandbox import ConfigSpec, Sandbox
from drc.sandbox.fetch import fetch_server
from drc.sandbox.process import free_port
from drc.sandbox.servers import SandboxSite
from tests.faults.fix_daemon import LONG, StartDaemon, assert_identical
from tests.integration.fix_containers import (
    ContainerKafka,
    ContainerSite,
    container_kafka,
    container_pair,
    require_engine,
)

pytestmark = pytest.mark.servers

IMAGES = ["mysql:8.0", "mysql:8.4", "mysql:9"]


@contextlib.contextmanager
def stand_ins(folder: Path) -> Iterator[Sandbox]:
    """Run two servers in the state that an image leaves, with root by TCP, without an engine."""
    box, servers, tree = Sandbox(folder), [], fetch_server("9.7")
    try:
        for number, name in enumerate(("a", "b"), 1):
            place = folder / f"{name}.server"
            server = SandboxSite(name, place, tree, free_port(), number, [])
            servers.append(server)
            server.prepare()
            server.start()
            site = ContainerSite(name, folder / name, "mysql:9", number)
            with server._root("") as conn, conn.cursor() as cursor:
                cursor.execute("ALTER USER root@localhost IDENTIFIED BY %s", (site.root_password,))
            site.adopt("127.0.0.1", server.port)
            box.sites[name] = site
        yield box
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="module", params=["sandbox", "stand-ins", *IMAGES])
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    if request.param == "sandbox":
        yield request.getfixturevalue("pair")
        return
    if request.param == "stand-ins":
        with stand_ins(tmp_path_factory.mktemp("stand-ins")) as pair:
            yield pair
        return
    require_engine()
    with container_pair(tmp_path_factory.mktemp("images") / "box", request.param) as pair:
        yield pair


@pytest.fixture(params=["direct", "kafka"])
def log(request: pytest.FixtureRequest, box: Sandbox) -> Iterator[object]:
    """Return None for direct transport, else a cluster of the same kind as the servers."""
    if request.param == "direct":
        yield None
    elif request.node.callspec.params["box"] in IMAGES:
        with container_kafka() as cluster:
            yield cluster
    else:
        yield request.getfixturevalue("kafka")


@LONG
@pytest.mark.timeout(900)  # images may have to be pulled
def test_both_directions_exactly_once(
    box: Sandbox, log: object, schema: str, daemon: StartDaemon
) -> None:
    """Replicate rows and DDL of both sites, an update, a delete; kill the daemon in between."""
    running = daemon(box, kafka=log, name=f"contract-{schema}")
    since = running.executed()
    a, b = box.sites["a"], box.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v JSON, d DECIMAL(9,3))", None, "app")
    running.drain(schema)
    for site, first in ((a, 0), (b, 1)):
        for number in range(first, 40, 2):
            row = (number, f'{{"n": {number}}}', number / 8)
            site.query(f"INSERT INTO `{schema}`.t VALUES (%s, %s, %s)", row, "app")
    running.kill9()
    a.query(f"UPDATE `{schema}`.t SET d = -d WHERE id = 4", None, "app")
    b.query(f"DELETE FROM `{schema}`.t WHERE id = 5", None, "app")
    running.start()
    running.drain(schema)
    assert b.query(f"SELECT COUNT(*), MIN(d) FROM `{schema}`.t")[0][0] == 39
    assert_identical(box, schema)
    running.assert_accounted(since)
    assert running.stop() == 0


# ------------------------------------------------------------ tests without an engine


def test_without_an_engine_tests_skip_at_once_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    begun = time.monotonic()
    with pytest.raises(pytest.skip.Exception, match="no Docker engine here"):
        require_engine()
    assert time.monotonic() - begun < 30  # far from the 60 s that a client waits by default


def test_a_container_is_configured_as_a_site(tmp_path: Path) -> None:
    """Check the configuration of daemons: address and password files of the container."""
    box = Sandbox(tmp_path)
    for number, name in enumerate(("a", "b"), 1):
        site = ContainerSite(name, tmp_path / name, "mysql:8.0", number)
        site.folder.mkdir()
        site.host, site.port = "docker.example", 40000 + number
        for role in ("source", "applier", "operator"):
            site._new_password(f"drc_{role}")
        box.sites[name] = site
    config = load(box.write_config(spec=ConfigSpec(kafka=ContainerKafka("docker.example:9092"))))  # type: ignore[arg-type]
    assert (config.sites["b"].host, config.sites["b"].port) == ("docker.example", 40002)
    assert config.sites["a"].applier.password() == box.sites["a"].password("drc_applier")
    assert config.brokers("a") == ("docker.example:9092",)
    assert (config.kafka.replication_factor, box.sites["a"].version) == (1, "8.0")
