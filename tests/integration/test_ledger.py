"""The ledger on a real server: a single applier, whole batches, and refusals of a lane."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest

from drc import mysql
from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.cli import invoke as drc_command
from drc.clock import Mark
from drc.config import Config, load
from drc.errors import DataError, TransientError
from drc.gtid import Gtid, GtidSet, parse_uuid
from drc.pipe.queue import TransactionQueue
from drc.sandbox import ConfigSpec, Sandbox
from drc.sandbox.servers import SandboxSite
from drc.schema import ledger
from drc.source.reader import Delivery, Reader
from drc.source.tagger import Tagger
from drc.target import replay
from drc.target.lane import Lane
from drc.testing.tables import table_map

pytestmark = pytest.mark.servers

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.fixture
def config(pair: Sandbox, tmp_path: Path) -> Config:
    path = pair.write_config(tmp_path / "pair.toml", ConfigSpec(name="ledgertest"))
    assert drc_command(["migrate", "-c", str(path)]) == 0
    pair.sites["b"].query("DELETE FROM drc.ledger")
    return load(path)


def format_of(config: Config, site: str) -> bytes:
    source = mysql.connect(config, site, "source")
    reader = Reader(
        source,
        TransactionQueue(1 << 20),
        Tagger((), Mark()),
        Delivery(mysql.server_facts(source).gtid_executed),
        server_id=4242,
        stream="test",
        heartbeat_s=1.0,
        stream_bytes=1 << 20,
    )
    with contextlib.closing(reader):
        return reader.format_description(10)


@pytest.fixture
def lanes(config: Config) -> Iterator[tuple[Lane, Lane]]:
    """Open two lanes of the same stream that know nothing of each other."""
    fde = format_of(config, "a")

    def connect(client_flag: int) -> pymysql.Connection[Any]:
        return mysql.connect(config, "b", "applier", client_flag=client_flag)

    both = tuple(Lane(connect, fde, tag=True, lock_wait_s=5) for _ in range(2))
    yield both[0], both[1]
    for lane in both:
        lane.close()


def test_a_second_applier_of_the_same_batch_is_refused(
    config: Config, lanes: tuple[Lane, Lane]
) -> None:
    with contextlib.closing(mysql.connect(config, "b", "applier")) as conn:
        state = ledger.create(conn, "a", GtidSet())
        text = f"{UUID}:1"
        first, second = lanes
        first.begin(ledger.update_sql("a", state.seq + 1, text, text, Mark(), 1, 0), ())
        first.commit()
        with pytest.raises(TransientError, match="another applier"):
            second.begin(ledger.update_sql("a", state.seq + 1, text, f"{text}-9", Mark(), 9, 0), ())
        second.rollback()
        found = ledger.read(conn, "a")
    assert found is not None
    assert (found.seq, str(found.decided)) == (state.seq + 1, text)


def row_events(schema: str, kind: int, key: int) -> list[bytes]:
    table = table_map(schema, "t", [Column("id", ev.TYPE_LONG, 0, nullable=False)], [0])
    return [table.event, ev.rows_event(table, kind, [b"\0" + key.to_bytes(4, "little")])]


def make_table(site: SandboxSite, schema: str) -> None:
    site.query(f"CREATE DATABASE `{schema}`")
    site.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY)")
    site.query(f"INSERT INTO `{schema}`.t VALUES (1)")


def test_rows_and_their_ledger_row_are_one_transaction(
    config: Config, pair: Sandbox, schema: str, lanes: tuple[Lane, Lane]
) -> None:
    b = pair.sites["b"]
    make_table(b, schema)
    with contextlib.closing(mysql.connect(config, "b", "applier")) as conn:
        state = ledger.create(conn, "a", GtidSet())
        text = f"{UUID}:1"
        update = ledger.update_sql("a", state.seq + 1, text, text, Mark(), 1, 0)

        def seen() -> tuple[object, ...]:
            return ledger.read(conn, "a"), b.query(f"SELECT id FROM `{schema}`.t")

        before = (state, [(1,)])
        lanes[0].begin(update, row_events(schema, ev.WRITE_ROWS, 2))
        assert seen() == before
        lanes[0].rollback()
        assert seen() == before
        lanes[0].begin(update, row_events(schema, ev.WRITE_ROWS, 2))
        lanes[0].commit()
        assert seen() == (ledger.LedgerState(state.seq + 1, GtidSet.parse(text)), [(1,), (2,)])


@pytest.mark.parametrize(
    ("kind", "key", "errno"), [(ev.WRITE_ROWS, 1, 1062), (ev.DELETE_ROWS, 2, 1032)]
)
def test_a_row_that_is_there_already_or_missing_is_refused(
    pair: Sandbox, schema: str, lanes: tuple[Lane, Lane], kind: int, key: int, errno: int
) -> None:
    make_table(pair.sites["b"], schema)
    lanes[0].execute("BEGIN")
    with pytest.raises(DataError) as caught:
        lanes[0].apply(row_events(schema, kind, key))
    assert caught.value.errno == errno
    lanes[0].rollback()


@pytest.mark.parametrize(
    "lock", ["UPDATE {}.t SET n = 2 WHERE id = 1", "INSERT INTO {}.t VALUES (2, 0)"]
)
@pytest.mark.parametrize("waiter", ["a local user", "our next batch"])
def test_a_lane_knows_of_local_users_who_wait_for_it(
    config: Config, pair: Sandbox, schema: str, lanes: tuple[Lane, Lane], lock: str, waiter: str
) -> None:
    """Check an insert, too: the row has no lock of its own until a session waits for the row."""
    b = pair.sites["b"]
    b.query(f"CREATE DATABASE `{schema}`")
    b.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, n INT)")
    b.query(f"INSERT INTO `{schema}`.t VALUES (1, 1), (3, 3)")
    statement, theirs = lock.format(f"`{schema}`"), f"UPDATE `{schema}`.t SET n = 4 WHERE id = 3"
    lanes[0].execute("BEGIN")
    lanes[0].execute(statement)
    with (
        contextlib.closing(b.connect("app")) as one,
        contextlib.closing(b.connect("app")) as two,
        one.cursor() as user,
        two.cursor() as other,
        ThreadPoolExecutor(2) as pool,
    ):

        def waits(execute: Callable[[str], object], sql: str, all_together: int) -> None:
            waiting.append(pool.submit(execute, sql))
            while len(b.query("SELECT 1 FROM performance_schema.data_lock_waits")) < all_together:
                assert not waiting[-1].done()

        waiting: list[Future[object]] = []
        user.execute("BEGIN")
        user.execute(theirs)
        waits(other.execute, theirs, 1)  # waits for a user, not for the lane
        assert not lanes[0].awaited()
        waits(user.execute if waiter == "a local user" else lanes[1].execute, statement, 2)
        assert lanes[0].awaited() is (waiter == "a local user")
        lanes[0].rollback()
        waiting[1].result(10)
        one.rollback()
        waiting[0].result(10)


def test_a_lane_that_may_not_ask_thinks_that_users_wait(
    config: Config, pair: Sandbox, schema: str
) -> None:
    b = pair.sites["b"]
    b.query(f"CREATE USER `{schema}`@'%%' IDENTIFIED BY 'meek'")
    b.query(f"GRANT REPLICATION CLIENT, REPLICATION_APPLIER ON *.* TO `{schema}`@'%%'")

    def connect(client_flag: int) -> pymysql.Connection[Any]:
        return pymysql.connect(
            host=b.host, port=b.port, user=schema, password="meek", client_flag=client_flag
        )

    lane = Lane(connect, format_of(config, "a"), tag=False, lock_wait_s=5)
    lane.execute("BEGIN")
    assert lane.awaited()
    lane.rollback()
    lane.close()


def test_a_schema_change_is_made_once(pair: Sandbox, schema: str, lanes: tuple[Lane, Lane]) -> None:
    """Replay again on a second lane, as after a death between the change and the ledger row."""
    make_table(pair.sites["b"], schema)
    query = ev.QueryEvent(schema, b"ALTER TABLE t RENAME TO u", {})
    gtid = Gtid(parse_uuid(UUID), int(schema[1:]))
    replay.replay(lanes[0], query, gtid)
    pair.sites["b"].query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY)")
    pair.sites["b"].query(f"DROP TABLE `{schema}`.u")
    replay.replay(lanes[1], query, gtid)
    assert pair.sites["b"].query(f"SHOW TABLES FROM `{schema}`") == [("t",)]
