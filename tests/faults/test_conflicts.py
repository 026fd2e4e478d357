"""Concurrent writes to the same rows at both sites: the sites agree."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import pymysql
import pytest

from drc.cli import invoke as drc_command
from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from drc.sandbox.process import free_port
from drc.sandbox.servers import SandboxSite
from drc.state.store import Store
from tests.faults.fix_daemon import FULL, Daemon, StartDaemon, assert_identical
from tests.faults.test_control import TOKEN

HOT_KEYS = 16
CLIENTS = 4
SECONDS = 60 if FULL else 5
ROUNDS = 5 if FULL else 1
IN_MEMORY = 1000  # keys of the index, the fewest that may be configured
APART = 1500  # rows that both sites write while nothing is replicated
PAUSE_S = 0.0 if FULL else 0.01  # of a client: conflicts of a storm are settled row by row
LOGS = ["direct", "kafka"]
# A client's transaction may lose a lock to another transaction, as on any busy server.
_LOST = frozenset({1062, 1205, 1213})


class Client:
    """An application at a site: inserts, updates, deletes and inserts the same keys again."""

    def __init__(self, site: SandboxSite, schema: str, seed: int, stop: threading.Event) -> None:
        self._site, self._schema, self._stop = site, schema, stop
        self._rng = random.Random(seed)
        self.committed = 0
        self.added: Counter[int] = Counter()  # by key, acknowledged
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with self._site.connect("app") as conn, conn.cursor() as cursor:
            cursor.execute(f"USE `{self._schema}`")
            while not self._stop.wait(PAUSE_S):
                added: Counter[int] = Counter()
                try:
                    self._begin(cursor)
                    for _ in range(self._rng.choice((1, 1, 1, 2))):
                        key, amount = self._change(cursor)
                        added[key] += amount
                    cursor.execute("COMMIT")
                except pymysql.MySQLError as error:
                    if error.args[0] not in _LOST:
                        raise
                    cursor.execute("ROLLBACK")
                    continue
                self.committed += 1
                self.added.update(added)

    def _begin(self, cursor: pymysql.cursors.Cursor) -> None:
        cursor.execute("BEGIN")

    def _change(self, cursor: pymysql.cursors.Cursor) -> tuple[int, int]:
        """Change a row; return the key and the amount added to the counter."""
        key, text = self._rng.randrange(HOT_KEYS), f"{self._site.name}{self._rng.random()}"
        what = self._rng.random()
        if what < 0.2:
            cursor.execute("DELETE FROM hot WHERE id = %s", (key,))
        elif what < 0.4:
            cursor.execute("REPLACE INTO hot VALUES (%s, %s, 0)", (key, text))
        else:
            cursor.execute("UPDATE hot SET v = %s, n = n + 1 WHERE id = %s", (text, key))
        return key, 0


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest) -> KafkaCluster | None:
    cluster: KafkaCluster | None = None
    if request.param == "kafka":
        cluster = request.getfixturevalue("kafka")
    return cluster


def prepare(pair: Sandbox, schema: str, running: Daemon) -> None:
    first = next(iter(pair.sites.values()))
    first.query(
        f"CREATE TABLE `{schema}`.hot (id INT PRIMARY KEY, v VARCHAR(40), n BIGINT)", (), "app"
    )
    rows = ", ".join(f"({key}, '', 0)" for key in range(HOT_KEYS))
    first.query(f"INSERT INTO `{schema}`.hot VALUES {rows}", (), "app")
    running.drain(schema)


def storm(
    pair: Sandbox,
    schema: str,
    make: Callable[[SandboxSite, str, int, threading.Event], Client] = Client,
    during: Callable[[], None] = lambda: None,
) -> list[Client]:
    """Let clients at both sites write for a while."""
    stop = threading.Event()
    sites = list(pair.sites.values())
    clients = [make(site, schema, n, stop) for site in sites for n in range(CLIENTS)]
    deadline = time.monotonic() + SECONDS
    try:
        during()
        stop.wait(max(0.0, deadline - time.monotonic()))
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert all(client.committed for client in clients)
    return clients


def kills(running: Daemon, rng: random.Random) -> None:
    for _ in range(3):
        time.sleep(rng.uniform(0.5, SECONDS / 4))  # the time of the kill is the test's input
        running.kill9()
        running.start()


class Logged:
    """The conflict log of a site: the conflicts, and the winner between two GTIDs."""

    def __init__(self, site: SandboxSite) -> None:
        self.conflicts: set[tuple[str, int]] = set()  # (GTID, slot of the row)
        self.rivals: set[tuple[str, int]] = set()
        self.winners: dict[frozenset[str], str] = {}
        for gtid, slot, ets, origin, winner, rivals in site.query(
            "SELECT gtid, slot, ets, origin, winner, rivals FROM drc.conflict"
        ):
            self.conflicts.add((gtid, slot))
            found = json.loads(rivals)
            assert found, "no conflict is unexplained"
            self.rivals |= {(rival["gtid"], slot) for rival in found}
            newest = max(found, key=lambda rival: (rival["ets"], rival["origin"]))
            won = (ets, origin) > (newest["ets"], newest["origin"])
            assert winner == ("remote" if won else "local")
            self.winners[frozenset((gtid, newest["gtid"]))] = gtid if won else newest["gtid"]


def assert_logs_agree(pair: Sandbox) -> None:
    """Check that each rival is in the other site's log, and no two entries have two winners."""
    a, b = (Logged(site) for site in pair.sites.values())
    assert a.conflicts
    assert a.rivals <= b.conflicts
    assert b.rivals <= a.conflicts
    both = a.winners.keys() & b.winners.keys()
    assert {p: a.winners[p] for p in both} == {p: b.winners[p] for p in both}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_hot_rows_written_at_both_sites_converge(
    pair: Sandbox, schema: str, daemon: StartDaemon, log: KafkaCluster | None, round_: int
) -> None:
    running = daemon(pair, kafka=log)
    prepare(pair, schema, running)
    rng = random.Random(round_)

    for site in pair.sites.values():
        site.query("DELETE FROM drc.conflict")
    storm(pair, schema, during=lambda: kills(running, rng))
    running.drain(schema)
    assert_identical(pair, schema)
    assert_logs_agree(pair)
    for said in Store(running.config.state_url).statuses().values():
        assert said.watcher
        assert said.watcher.late_conflicts == 0


def _await_watched(running: Daemon, keys: int) -> None:
    """Wait until each site's index has ``keys`` keys, some of them on disk."""
    deadline = time.monotonic() + 60
    store = Store(running.config.state_url)
    while True:
        said = [site.watcher for site in store.statuses().values()]
        if all(one and one.slots >= keys and one.spilled_slots for one in said):
            return
        assert time.monotonic() < deadline, (said, running.tail())
        time.sleep(0.05)


def test_what_both_wrote_in_a_long_partition_is_found_on_disk(
    pair: Sandbox, schema: str, daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRC_TOKEN", TOKEN)
    running = daemon(
        pair,
        conflicts={"index_slots_max": IN_MEMORY},
        web={"token_env": "DRC_TOKEN"},
        listen={name: free_port() for name in pair.sites},
    )
    prepare(pair, schema, running)
    sites = list(pair.sites.values())
    rows = ", ".join(f"({key}, '', 0)" for key in range(HOT_KEYS, APART))
    sites[0].query(f"INSERT INTO `{schema}`.hot VALUES {rows}", (), "app")
    running.drain(schema)
    for site in sites:
        site.query("DELETE FROM drc.conflict")

    assert drc_command(["pause", "-c", str(running.path)]) == 0
    for site in sites:  # b writes later
        for first in range(0, APART, 100):
            where = f"id >= {first} AND id < {first + 100}"
            site.query(
                f"UPDATE `{schema}`.hot SET v = %s WHERE {where}", (f"of {site.name}",), "app"
            )
    _await_watched(running, APART)
    assert drc_command(["resume", "-c", str(running.path)]) == 0
    running.drain(schema)
    assert_identical(pair, schema)
    assert sites[0].query(f"SELECT DISTINCT v FROM `{schema}`.hot") == [("of b",)]
    for site in sites:
        assert site.query("SELECT COUNT(DISTINCT slot) FROM drc.conflict") == [(APART,)]
    assert_logs_agree(pair)
