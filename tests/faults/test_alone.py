"""A site over Kafka: served with its own MySQL alone, while the peer's is away or frozen."""

from __future__ import annotations

import time

import pytest

from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from drc.sandbox.servers import SandboxSite
from tests.faults.fix_daemon import LONG, Daemon, StartDaemons, assert_identical

pytestmark = pytest.mark.servers

WAIT_S = 60


def await_row(site: SandboxSite, select: str, running: Daemon) -> None:
    deadline = time.monotonic() + WAIT_S
    while not site.query(select):
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.05)


@LONG
@pytest.mark.parametrize(("which", "how"), [("pair", "stopped"), ("pair80", "frozen")])
def test_a_daemon_starts_while_the_peers_server_is_away(
    which: str,
    how: str,
    request: pytest.FixtureRequest,
    kafka: KafkaCluster,
    schema: str,
    daemons: StartDaemons,
) -> None:
    box: Sandbox = request.getfixturevalue(which)
    running = daemons(box, kafka=kafka, name=f"alone-{how}")
    a, b = box.sites["a"], box.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v INT)", account="app")
    running["a"].drain(schema)
    since = running["a"].executed()
    assert running["a"].stop() == 0
    # Only b's server UUID shows that a schema change is b's; a's publisher remembers the UUID.
    b.query(f"CREATE TABLE `{schema}`.of_b (id INT PRIMARY KEY)", account="app")
    b.query(f"INSERT INTO `{schema}`.t VALUES (2, 2)", account="app")
    running["b"].await_published("b")
    assert running["b"].stop() == 0
    b.pause() if how == "frozen" else b.stop()
    try:
        running["a"].start()
        await_row(a, f"SELECT 1 FROM `{schema}`.t WHERE id = 2", running["a"])
        a.query(f"INSERT INTO `{schema}`.t VALUES (1, 1)", account="app")
        running["a"].await_published("a")
    finally:
        b.resume() if how == "frozen" else b.start()
    running["b"].start()
    running["a"].drain(schema)
    assert_identical(box, schema)
    running["a"].assert_accounted(since)
    assert [one.stop() for one in running.values()] == [0, 0]
