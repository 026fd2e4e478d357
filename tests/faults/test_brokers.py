"""Kafka brokers that die under two-sided load: short stalls, no loss, no operator needed."""

from __future__ import annotations

import contextlib
import time

import pytest

from drc.config import Config
from drc.kafka.kafka_python import open_admin
from drc.sandbox import Sandbox
from drc.sandbox.kafka import Broker, KafkaCluster
from tests.faults.fix_daemon import FULL, LONG, StartDaemon, Sysbench, Unending, assert_identical

pytestmark = pytest.mark.servers

ROWS = 5_000
AWAY_S = 60 if FULL else 8
STALL_S = 10 if FULL else 40  # not exact where the machine runs other tests, too


def leader_of(config: Config, cluster: KafkaCluster) -> Broker:
    """Return the broker that leads the topic of site a."""
    with contextlib.closing(open_admin(config, "a")) as admin:
        topic = admin.describe_topics([config.topic("a")])[0]
    leader: int = topic["partitions"][0]["leader_id"]
    return cluster.nodes[leader - 1]


@LONG
def test_one_broker_dies_then_all(
    pair: Sandbox, kafka3: KafkaCluster, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair, kafka=kafka3, name="brokers")
    Sysbench(pair.sites["a"], schema, rows=2 * ROWS).prepare()
    running.drain(schema)
    since = running.executed()
    loads = {
        "a": Unending(Sysbench(pair.sites["a"], schema, rows=ROWS), 0, rate=200),
        "b": Unending(Sysbench(pair.sites["b"], schema, rows=ROWS), ROWS, rate=200),
    }
    try:
        running.await_commits()
        leader_of(running.config, kafka3).kill9()
        begun = time.monotonic()
        stall = running.longest_stall(lambda: time.monotonic() > begun + 12)
        print(f"\none of three brokers killed: longest stall {stall:.1f} s")
        assert stall < STALL_S
        for node in kafka3.nodes:
            node.kill9()
        time.sleep(AWAY_S)  # the length of the outage is the test's input
        for node in kafka3.nodes:
            node.start()
        kafka3.wait_all()
        running.await_commits()
    finally:
        told = {name: load.finish() for name, load in loads.items()}
    seconds = running.drain(schema)
    print(f"all brokers away for {AWAY_S} s: caught up in {seconds:.1f} s, {told}")
    assert_identical(pair, schema)
    found = running.assert_accounted(since)
    native = {name: totals.native for name, totals in found.sites.items()}
    assert native == {name: transactions + 1 for name, transactions in told.items()}
    assert running.stop() == 0
