"""A broker or target that takes nothing for a while: memory is bounded, no help is needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil
import pytest

from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from drc.sandbox.servers import SandboxSite
from tests.faults.fix_daemon import FULL, LONG, Daemon, StartDaemon, assert_identical

pytestmark = [pytest.mark.servers, LONG]

ROWS = 2048  # of 1 KiB each, in a transaction
BATCHES = 500 if FULL else 110  # more than 200 MiB
GROWTH_MAX = 150 << 20
AWAY_S = 60 if FULL else 10
CPU_SHARE_MAX = 0.25  # a busy loop takes all of a core


def write(site: SandboxSite, schema: str) -> None:
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    with site.connect("app") as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION cte_max_recursion_depth = 10000")
        for batch in range(BATCHES):
            cursor.execute(
                f"INSERT INTO `{schema}`.t {numbers} SELECT i + %s, RANDOM_BYTES(1024) FROM n",
                (batch * 2 * ROWS,),
            )


def begin(running: Daemon, schema: str) -> dict[psutil.Process, int]:
    """Create the table everywhere; return the resident bytes of each process."""
    site = running.box.sites["a"]
    site.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v VARBINARY(1024))", account="app")
    running.drain(schema)
    return {process: process.memory_info().rss for process in running.processes()}


def finish(running: Daemon, schema: str, before: dict[psutil.Process, int]) -> None:
    """Wait until all has arrived; check the data, and the peak of memory up to now."""
    seconds = running.drain(schema)
    growth = max(running.rss_peak(process) - was for process, was in before.items())
    print(f"\ncaught up in {seconds:.1f} s; memory grew by {growth >> 20} MiB at most")
    assert_identical(running.box, schema)
    assert growth < GROWTH_MAX
    assert set(running.processes()) == set(before)  # no process was started again
    assert running.stop() == 0


@contextlib.contextmanager
def taking_nothing(site: SandboxSite, how: str) -> Iterator[None]:
    if how == "locked":
        with site.connect("root") as conn, conn.cursor() as cursor:
            cursor.execute("FLUSH TABLES WITH READ LOCK")
            yield
    else:
        site.pause()
        try:
            yield
        finally:
            site.resume()


@pytest.mark.parametrize("log", ["direct", "kafka"])
@pytest.mark.parametrize("how", ["locked", "frozen"])
def test_a_target_that_takes_nothing(
    how: str,
    log: str,
    request: pytest.FixtureRequest,
    pair: Sandbox,
    schema: str,
    daemon: StartDaemon,
) -> None:
    kafka = request.getfixturevalue("kafka") if log == "kafka" else None
    running = daemon(pair, kafka=kafka, name=f"blocked-{how}")
    before = begin(running, schema)
    a, b = pair.sites["a"], pair.sites["b"]
    with taking_nothing(b, how):
        write(a, schema)
        if kafka:
            running.await_published("a")
        if how == "locked":
            assert b.query(f"SELECT COUNT(*) FROM `{schema}`.t") == [(0,)]
    finish(running, schema, before)


def test_brokers_that_are_away(
    pair: Sandbox, kafka: KafkaCluster, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair, kafka=kafka, name="bounds")
    before = begin(running, schema)
    for node in kafka.nodes:
        node.kill9()
    try:
        write(pair.sites["a"], schema)
        spent = [sum(p.cpu_times()[:2]) for p in before]
        time.sleep(AWAY_S)  # the length of the outage is the test's input
        spent = [sum(p.cpu_times()[:2]) - was for p, was in zip(before, spent, strict=True)]
    finally:
        for node in kafka.nodes:
            node.start()
        kafka.wait_all()
    print(f"\nCPU of each process in {AWAY_S} s without a broker: {spent}")
    assert max(spent) < CPU_SHARE_MAX * AWAY_S
    finish(running, schema, before)
