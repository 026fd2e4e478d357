"""A clock that is wrong, or steps, at a site: the sites agree, and later writes are never lost.

Clients of site `a` set the time of their commits, as a server with such a clock would.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator

import pymysql
import pytest

from drc.sandbox import Sandbox, SiteSpec
from drc.sandbox.servers import SandboxSite
from drc.state.store import Store
from tests.faults.fix_daemon import FULL, LONG, Daemon, StartDaemon, assert_identical
from tests.faults.fix_duel import StartDuel
from tests.faults.test_conflicts import Client, assert_logs_agree, kills, prepare, storm

SKEWS_S = {"ahead": [300], "behind": [-300], "stepping": [-300, 0, 300]}
TURNS = 40 if FULL else 10
_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run servers for this file alone: their clocks stay ahead, and other tests compare times."""
    with Sandbox(tmp_path_factory.mktemp("clocks"), die_with_parent=True) as box:
        box.up([SiteSpec("a", "9.7"), SiteSpec("b", "9.7")])
        yield box


def set_clock(cursor: pymysql.cursors.Cursor, offset_s: int) -> None:
    """Set the commit time of the next transaction."""
    cursor.execute(
        "SET SESSION original_commit_timestamp = %s", (time.time_ns() // 1000 + offset_s * 10**6,)
    )


@LONG
@pytest.mark.timeout(900)
@pytest.mark.parametrize("skew", SKEWS_S)
def test_hot_rows_converge_whatever_the_clock_says(
    skew: str, pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    class Skewed(Client):
        def _begin(self, cursor: pymysql.cursors.Cursor) -> None:
            if self._site.name == "a":
                set_clock(cursor, self._rng.choice(SKEWS_S[skew]))
            super()._begin(cursor)

    running = daemon(pair)
    prepare(pair, schema, running)
    for site in pair.sites.values():
        site.query("DELETE FROM drc.conflict")
    rng = random.Random(skew)
    storm(pair, schema, Skewed, during=lambda: kills(running, rng))
    running.drain(schema)
    assert_identical(pair, schema)
    assert_logs_agree(pair)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("skew", SKEWS_S if FULL else ["stepping"])
def test_a_write_that_has_seen_another_is_never_lost(
    skew: str, pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    """Alternate between the sites: read the other site's write, then write."""
    running = daemon(pair)
    prepare(pair, schema, running)
    a, b = pair.sites.values()
    offsets = itertools.cycle(SKEWS_S[skew])
    for turn in range(TURNS):
        here, there = (a, b) if turn % 2 == 0 else (b, a)
        with here.connect("app") as conn, conn.cursor() as cursor:
            if here is a:
                set_clock(cursor, next(offsets))
            cursor.execute("BEGIN")
            cursor.execute(f"SELECT n FROM `{schema}`.hot WHERE id = 1 FOR UPDATE")
            assert cursor.fetchall() == ((turn,),)
            cursor.execute(f"UPDATE `{schema}`.hot SET n = {turn + 1} WHERE id = 1")
            cursor.execute("COMMIT")
        _await_turn(there, schema, turn + 1)
        if not turn:
            (newest, *_) = b.query("SELECT origin_commit_us FROM drc.ledger ORDER BY seq DESC")
            skewed_s = newest[0] / 10**6 - time.time()
            assert abs(skewed_s - SKEWS_S[skew][0]) < _PATIENCE_S, "the skew is real"
    running.drain(schema)
    assert a.query(f"SELECT n FROM `{schema}`.hot WHERE id = 1") == [(TURNS,)]
    assert_identical(pair, schema)


@pytest.mark.timeout(300)
def test_a_clock_ahead_takes_the_other_along(pair: Sandbox, duel: StartDuel) -> None:
    """Check that the clock ahead advances the other clock.

    Otherwise the site with the right clock would lose every conflict until time has caught up.
    """
    ahead = time.time_ns() // 1000 + 300 * 10**6
    one = duel(
        pair,
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        f"SET SESSION original_commit_timestamp = {ahead}",
        "INSERT INTO t VALUES (1, 'base')",
    )
    for site in "ab":  # a write at each site after the same history: the name decides
        one.write(site, f"UPDATE t SET v = 'from {site}' WHERE id = 1")
    one.meet()
    assert one.rows() == [(1, "from b")]
    one.assert_same()
    query = "SELECT ets, reason FROM drc.conflict"
    assert pair.sites["a"].query(query)[0][0] == pair.sites["b"].query(query)[0][0] > ahead


@pytest.mark.timeout(300)
def test_a_start_reads_again_what_a_peer_has_not_seen(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    """Crash while a write waits at the other site for a lock: the write is still known here."""
    running = daemon(pair)
    prepare(pair, schema, running)
    a, b = pair.sites.values()
    row = f"UPDATE `{schema}`.hot SET v = %s WHERE id = 1"
    with b.connect("app") as held, held.cursor() as holder:
        holder.execute("BEGIN")
        holder.execute(row, ("from b",))
        with a.connect("app") as conn, conn.cursor() as cursor:
            set_clock(cursor, 300)
            cursor.execute(row, ("from a",))
        _await_lock_failure(running)  # longer than the noting of a clock takes
        running.kill9()
        holder.execute("COMMIT")
    running.start()
    running.drain(schema)
    assert_identical(pair, schema)
    assert a.query(f"SELECT v FROM `{schema}`.hot WHERE id = 1") == [("from a",)]


def _await_lock_failure(running: Daemon) -> None:
    deadline, waiting = time.monotonic() + _PATIENCE_S, threading.Event()
    while True:
        status = Store(running.config.state_url).statuses()["b"]
        if any(stream.lock_failures > 1 for stream in status.streams):
            return
        assert time.monotonic() < deadline, status
        waiting.wait(0.05)


def _await_turn(site: SandboxSite, schema: str, turn: int) -> None:
    deadline, waiting = time.monotonic() + _PATIENCE_S, threading.Event()
    while site.query(f"SELECT n FROM `{schema}`.hot WHERE id = 1") != [(turn,)]:
        assert time.monotonic() < deadline, f"turn {turn} does not come to {site.name}"
        waiting.wait(0.02)
