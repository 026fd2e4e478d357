"""Promises for a pair: whole transactions, silence when idle, bounded memory."""

from __future__ import annotations

import threading
import time

import pymysql
import pytest

from drc.sandbox import Sandbox
from drc.sandbox.servers import SandboxSite
from tests.faults.fix_daemon import FULL, LONG, Daemon, StartDaemon, assert_identical

pytestmark = pytest.mark.servers

READS = 10_000 if FULL else 1_500
IDLE_S = 60 if FULL else 5
RSS_MAX = 400 << 20
ACCOUNTS = 200
OPENING = 1000


def binlog_bytes(site: SandboxSite) -> int:
    return sum(row[1] for row in site.query("SHOW BINARY LOGS"))


def move_money(site: SandboxSite, schema: str, stop: threading.Event, seed: int) -> None:
    """Move amounts between the two tables until told to stop; the sum of both never changes."""
    number = seed
    with site.connect("app", autocommit=False) as conn, conn.cursor() as cursor:
        while not stop.is_set():
            number = (number * 48271) % 0x7FFFFFFF
            low, high = sorted((number % ACCOUNTS, number // 7 % ACCOUNTS))
            try:
                cursor.execute(
                    f"UPDATE `{schema}`.giro SET amount = amount - 3 WHERE id = %s", (low,)
                )
                cursor.execute(
                    f"UPDATE `{schema}`.savings SET amount = amount + 3 WHERE id = %s", (high,)
                )
                conn.commit()
            except pymysql.err.OperationalError as error:
                if error.args[0] not in (1205, 1213):
                    raise
                conn.rollback()


def test_a_reader_never_sees_half_a_transaction(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair)
    a, b = pair.sites["a"], pair.sites["b"]
    values = ", ".join(f"({i}, {OPENING})" for i in range(ACCOUNTS))
    for table in ("giro", "savings"):
        a.query(f"CREATE TABLE `{schema}`.{table} (id INT PRIMARY KEY, amount INT)", account="app")
        a.query(f"INSERT INTO `{schema}`.{table} VALUES {values}", account="app")
    running.drain(schema)
    stop = threading.Event()
    writers = [
        threading.Thread(target=move_money, args=(a, schema, stop, seed)) for seed in (1, 2, 3)
    ]
    for writer in writers:
        writer.start()
    wrong, seen = 0, set()
    both = (
        f"SELECT (SELECT SUM(amount) FROM `{schema}`.giro),"
        f" (SELECT SUM(amount) FROM `{schema}`.savings)"
    )
    with b.connect("app") as conn, conn.cursor() as cursor:
        for _ in range(READS):
            cursor.execute(both)
            ((giro, savings),) = cursor.fetchall()
            wrong += giro + savings != 2 * ACCOUNTS * OPENING
            seen.add(giro)
    stop.set()
    for writer in writers:
        writer.join()
    running.drain(schema)
    print(f"\n{READS} reads, {wrong} wrong, {len(seen)} different states")
    assert wrong == 0
    assert len(seen) > 20  # the reader did see the money move
    assert_identical(pair, schema)


@pytest.mark.parametrize("which", [pytest.param("pair", marks=LONG), "pair80"])
def test_idle_sites_write_nothing(
    which: str, request: pytest.FixtureRequest, schema: str, daemon: StartDaemon
) -> None:
    box: Sandbox = request.getfixturevalue(which)
    running = daemon(box)
    running.drain(schema)
    # Before silence can be measured, the last transactions must have been skipped on the way back.
    settled = [binlog_bytes(site) for site in box.sites.values()]
    # The clock must have been noted, too, which happens a second or two after the last change.
    deadline = time.monotonic() + 30
    while True:
        time.sleep(3.0)
        now = [binlog_bytes(site) for site in box.sites.values()]
        if now == settled:
            break
        assert time.monotonic() < deadline, "the sites keep writing"
        settled = now
    time.sleep(IDLE_S)  # silence has no event to wait for
    assert [binlog_bytes(site) for site in box.sites.values()] == settled
    assert running.stop() == 0


def large(site: SandboxSite, *statements: str) -> None:
    with site.connect("app", read_timeout=600) as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION cte_max_recursion_depth = 2000000")
        for statement in statements:
            cursor.execute(statement)


def compare_and_weigh(running: Daemon, box: Sandbox, schema: str) -> None:
    running.drain(schema)
    assert_identical(box, schema)
    peak = running.rss_bytes_max()
    print(f"\npeak resident memory of the daemon: {peak >> 20} MiB")
    assert peak < RSS_MAX


def test_a_million_rows_in_one_transaction(pair: Sandbox, schema: str, daemon: StartDaemon) -> None:
    rows = 1_000_000 if FULL else 60_000
    running = daemon(pair)
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    large(
        pair.sites["a"],
        f"CREATE TABLE `{schema}`.m (id INT PRIMARY KEY, v VARCHAR(200))",
        f"INSERT INTO `{schema}`.m {numbers} SELECT i, REPEAT('v', 100) FROM n",
        f"UPDATE `{schema}`.m SET v = CONCAT('w', v) WHERE id % 5 = 0",
        "SET SESSION binlog_transaction_compression = ON",
        f"DELETE FROM `{schema}`.m WHERE id % 2 = 0",
    )
    compare_and_weigh(running, pair, schema)


def test_a_row_of_64_megabytes(pair: Sandbox, schema: str, daemon: StartDaemon) -> None:
    running = daemon(pair)
    large(
        pair.sites["b"],
        f"CREATE TABLE `{schema}`.h (id INT PRIMARY KEY, v LONGBLOB)",
        f"INSERT INTO `{schema}`.h VALUES (1, REPEAT('drc-data', {8 << 20}))",
        f"INSERT INTO `{schema}`.h VALUES (2, REPEAT('x', 17000000)), (3, 'small')",
        f"UPDATE `{schema}`.h SET v = 'gone' WHERE id = 2",
    )
    compare_and_weigh(running, pair, schema)


def test_a_large_transaction_is_all_or_nothing_for_readers(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair)
    a, b = pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.m (id INT PRIMARY KEY, v VARCHAR(200))", account="app")
    running.drain(schema)
    counts: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        with b.connect("app") as conn, conn.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(f"SELECT COUNT(*) FROM `{schema}`.m")
                counts.add(cursor.fetchall()[0][0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)"
    large(a, f"INSERT INTO `{schema}`.m {numbers} SELECT i, REPEAT('v', 100) FROM n")
    running.drain(schema)
    stop.set()
    watcher.join()
    assert counts <= {0, 120_000}
    assert_identical(pair, schema)


def test_a_lost_row_stops_the_stream_by_name_and_it_goes_on_once_mended(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair, detect=False)
    a, b = pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v INT)", account="app")
    a.query(f"INSERT INTO `{schema}`.t VALUES (1, 1), (2, 2), (3, 3)", account="app")
    running.drain(schema)
    with b.connect("root") as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"DELETE FROM `{schema}`.t WHERE id = 2")
    for row in (1, 2, 3):
        a.query(f"UPDATE `{schema}`.t SET v = v + 10 WHERE id = {row}", account="app")
    deadline = time.monotonic() + 30
    while "1032" not in running.tail():
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.1)
    # Changes before the missing row are applied, later changes are not; the other way goes on.
    assert b.query(f"SELECT v FROM `{schema}`.t ORDER BY id") == [(11,), (3,)]
    b.query(f"INSERT INTO `{schema}`.t VALUES (9, 9)", account="app")
    while not a.query(f"SELECT 1 FROM `{schema}`.t WHERE id = 9"):
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.05)
    while "daemon of a site ended" not in running.tail():
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.05)
    assert running.stop() == 3
    said = running.tail()
    for wanted in (f'"table": "{schema}.t"', '"key": "id=2"', '"gtid": ', '"site": "b"', '"hint"'):
        assert wanted in said, wanted
    with b.connect("root") as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"INSERT INTO `{schema}`.t VALUES (2, 2)")
    running.start()
    running.drain(schema)
    assert_identical(pair, schema)
