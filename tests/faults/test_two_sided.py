"""Both sites under load at once: identical, nothing bounced, nothing twice, after any kill."""

from __future__ import annotations

import contextlib
import random
import time

import pymysql
import pytest

from drc.sandbox import Sandbox
from tests.faults.fix_daemon import FULL, LONG, StartDaemon, Sysbench, Unending, assert_identical

pytestmark = pytest.mark.servers

ROWS = 20_000  # of each site's half of every table
SECONDS = 60 if FULL else 5
KILLS = 25  # every fifth kill is of the broker, if there is a broker


def both(pair: Sandbox, schema: str, *, compress: bool = False) -> tuple[Sysbench, Sysbench]:
    """Prepare tables at `a` for both halves; return a load for each site."""
    Sysbench(pair.sites["a"], schema, rows=2 * ROWS).prepare()
    return (
        Sysbench(pair.sites["a"], schema, rows=ROWS, compress=compress),
        Sysbench(pair.sites["b"], schema, rows=ROWS, compress=compress),
    )


def run_both(a: Sysbench, b: Sysbench, seconds: float) -> dict[str, dict[str, int]]:
    a.start(seconds)
    b.start(seconds, offset=ROWS)
    return {"a": a.finish(), "b": b.finish()}


@pytest.mark.parametrize(
    ("which", "log"),
    [
        pytest.param("pair", "direct", marks=LONG),
        pytest.param("pair80", "direct", marks=LONG),
        ("pair_mixed", "direct"),
        ("pair", "kafka"),
        pytest.param("pair80", "kafka", marks=LONG),
        pytest.param("pair_mixed", "kafka", marks=LONG),
    ],
)
def test_two_sided_load(
    which: str, log: str, request: pytest.FixtureRequest, schema: str, daemon: StartDaemon
) -> None:
    box: Sandbox = request.getfixturevalue(which)
    kafka = request.getfixturevalue("kafka") if log == "kafka" else None
    running = daemon(box, kafka=kafka, name=which.replace("_", "-"))
    a, b = both(box, schema, compress=which == "pair_mixed")
    running.drain(schema)
    since = running.executed()
    told = run_both(a, b, SECONDS)
    seconds = running.drain(schema)
    print(f"\n{which} over {log}: {told}, drained in {seconds:.1f} s")
    assert all(t["transactions"] > 100 for t in told.values())
    assert_identical(box, schema)
    found = running.assert_accounted(since)
    # Acknowledged transactions and the marker of the drain are there: no more, no less.
    native = {name: totals.native for name, totals in found.sites.items()}
    assert native == {name: t["transactions"] + 1 for name, t in told.items()}
    assert running.stop() == 0
    if FULL and log == "direct":
        alone = {name: t["deadlocks"] for name, t in run_both(a, b, SECONDS).items()}
        met = {name: t["deadlocks"] for name, t in told.items()}
        print(f"deadlocks that clients met: {met} with replication, {alone} without")


def cut_links(pair: Sandbox) -> None:
    """End every connection of the daemon, as a firewall would; the daemon lives on."""
    for site in pair.sites.values():
        for (number,) in site.query(
            "SELECT id FROM information_schema.processlist WHERE user IN"
            " ('drc_applier', 'drc_source')"
        ):
            with contextlib.suppress(pymysql.err.OperationalError):  # may have ended by itself
                site.query(f"KILL {number}")


def test_links_cut_at_random(pair: Sandbox, schema: str, daemon: StartDaemon) -> None:
    """Check that the next session asks the ledger: work in flight is forgotten."""
    rng = random.Random(11)
    running = daemon(pair)
    a, b = both(pair, schema)
    running.drain(schema)
    since = running.executed()
    loads = {"a": Unending(a, 0), "b": Unending(b, ROWS)}
    try:
        for _ in range(2 * KILLS if FULL else 3):
            running.await_commits()
            time.sleep(rng.uniform(0, 0.3))  # the time of the cut is the test's input
            cut_links(pair)
    finally:
        for load in loads.values():
            load.finish()
    running.drain(schema)
    assert_identical(pair, schema)
    running.assert_accounted(since)
    assert running.stop() == 0
    assert "fenced" not in running.log.read_text()  # no other daemon was there


@LONG
@pytest.mark.parametrize("log", ["direct", "kafka"])
def test_killed_at_random_with_the_store_deleted(
    log: str, request: pytest.FixtureRequest, pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    kafka = request.getfixturevalue("kafka") if log == "kafka" else None
    rng = random.Random(7)
    running = daemon(pair, kafka=kafka)
    a, b = both(pair, schema)
    running.drain(schema)
    since = running.executed()
    loads = {"a": Unending(a, 0), "b": Unending(b, ROWS)}
    try:
        for blow in range(KILLS):
            running.await_commits()  # both streams are at work again
            time.sleep(rng.uniform(0, 1))  # the time of the kill is the test's input
            if kafka and blow % 5 == 1:
                broker = kafka.nodes[0]
                broker.kill9()
                broker.start()
                broker.wait_ready()
                continue
            running.kill9()
            running.forget_store()
            running.start()
    finally:
        told = {name: load.finish() for name, load in loads.items()}
    running.drain(schema)
    assert_identical(pair, schema)
    found = running.assert_accounted(since)
    native = {name: totals.native for name, totals in found.sites.items()}
    assert native == {name: transactions + 1 for name, transactions in told.items()}
    print(f"\n{KILLS} kills under load, {told}")
    assert running.stop() == 0
