"""Three sites over Kafka, all written at the same time: all become equal, nothing bounces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drc.sandbox import Sandbox, SiteSpec
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import FULL, LONG, StartDaemons, Sysbench, Unending, assert_identical

pytestmark = [pytest.mark.servers, LONG]

ROWS = 5_000  # of each site's third of every table
ROUNDS = 5 if FULL else 1  # of killing each daemon once


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run three sites; the third has no GTID tags."""
    with Sandbox(tmp_path_factory.mktemp("three"), die_with_parent=True) as box:
        box.up([SiteSpec("a", "9.7"), SiteSpec("b", "9.7"), SiteSpec("c", "8.0")])
        yield box


def test_three_sites(
    three: Sandbox, kafka: KafkaCluster, schema: str, daemons: StartDaemons
) -> None:
    running = daemons(three, kafka=kafka, name="three", detect=False)
    first, *_ = running.values()
    Sysbench(three.sites["a"], schema, rows=3 * ROWS).prepare()
    first.drain(schema)
    since = first.executed()
    loads = {
        name: Unending(Sysbench(site, schema, rows=ROWS), number * ROWS, rate=150)
        for number, (name, site) in enumerate(three.sites.items())
    }
    try:
        for number in range(ROUNDS):
            for name, one in running.items():
                first.await_commits()
                one.kill9()
                # Only the GTID of the origin shows that a schema change is replicated.
                table = f"CREATE TABLE `{schema}`.{name}{number} (id INT PRIMARY KEY)"
                three.sites[name].query(table, account="app")
                one.start()
    finally:
        told = {name: load.finish() for name, load in loads.items()}
    seconds = first.drain(schema)
    print(f"\nthree sites: {told}, drained in {seconds:.1f} s")
    assert_identical(three, schema)
    found = first.assert_accounted(since)
    assert len(found.directions) == 6
    native = {name: totals.native for name, totals in found.sites.items()}
    assert native == {name: count + 1 + ROUNDS for name, count in told.items()}
    assert [one.stop() for one in running.values()] == [0, 0, 0]
