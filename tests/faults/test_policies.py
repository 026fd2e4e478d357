"""Policies by table and column, on real servers: both sites write apart, meet, and agree."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from decimal import Decimal

import pymysql
import pytest

from drc.cli import invoke as drc_command
from drc.sandbox import Sandbox
from drc.state.store import Store
from tests.faults.fix_daemon import LONG, StartDaemon, assert_identical
from tests.faults.fix_duel import Duel, StartDuel
from tests.faults.test_conflicts import HOT_KEYS, Client, kills, prepare, storm

pytestmark = pytest.mark.servers

MAXIMUM = (
    "CREATE TABLE m (id INT PRIMARY KEY, n INT, d DECIMAL(20, 4), day DATE, at DATETIME(3),"
    " seen TIMESTAMP(6) NULL, lap TIME(2), v VARCHAR(20))"
)
COLUMNS = (
    "CREATE TABLE c (id INT PRIMARY KEY, x INT, y INT, doc JSON, t TEXT, e ENUM('p', 'q'), f FLOAT,"
    " s INT AS (x + y) STORED, w INT AS (x - y) VIRTUAL, INDEX (w))"
)
OWNED = "CREATE TABLE o (id INT PRIMARY KEY, unit BIGINT NOT NULL, v VARCHAR(20))"
DECIDED = (
    "CREATE TABLE f (id INT PRIMARY KEY, n INT, d DECIMAL(9, 2), v VARCHAR(9), doc JSON, f FLOAT,"
    " e ENUM('p', 'q'), raw VARBINARY(9), at DATETIME(3), c CHAR(9))"
)
PARENT = "CREATE TABLE p (id INT PRIMARY KEY)"
CHILD = (
    "CREATE TABLE child (id INT PRIMARY KEY, parent INT, CONSTRAINT of_p FOREIGN KEY (parent)"
    " REFERENCES p (id))"
)
JOINS = {"n": "max", "d": "min", "day": "max", "at": "max", "seen": "max", "lap": "min"}


def policies(schema: str) -> dict[str, object]:
    """Return a policy for each table, in the form of the configuration."""
    return {
        f"{schema}.m": {"columns": JOINS},
        f"{schema}.c": {"policy": "column_merge"},
        f"{schema}.f": {"policy": "function", "function": "tests.faults.deciding:parcel"},
        f"{schema}.o": {
            "policy": "owner_unit",
            "owner_column": "unit",
            "owners": {"7": "a", "8": "b"},
        },
    }


def duel_under_policies(pair: Sandbox, duel: StartDuel, schema: str) -> Duel:
    """Start a duel with a table for each policy, each with some first rows."""
    return duel(
        pair,
        MAXIMUM,
        "INSERT INTO m VALUES"
        " (1, 5, 5, '2025-01-01', '2025-01-01', '2025-01-01', '1:00:00', 'old'),"
        " (2, 5, 5, NULL, NULL, NULL, NULL, 'old')",
        COLUMNS,
        "INSERT INTO c (id, x, y, doc, t, e, f) VALUES (1, 1, 1, '{}', 'old', 'p', 1),"
        " (2, 1, 1, '{}', 'old', 'p', 1)",
        DECIDED,
        "INSERT INTO f VALUES "
        + ", ".join(
            f"({key}, 1, 1, 'old', '{{}}', 1, 'p', '', '2025-01-01', 'c')" for key in range(1, 5)
        ),
        PARENT,
        CHILD,
        "INSERT INTO p VALUES (1), (2)",
        OWNED,
        "INSERT INTO o VALUES (1, 7, 'old'), (2, 8, 'old'), (3, 9, 'old'), (4, 7, 'old')",
        conflicts={"tables": policies(schema)},
    )


def test_what_both_wrote_is_merged_by_the_policy(
    pair: Sandbox, duel: StartDuel, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = duel_under_policies(pair, duel, schema)
    one.write(
        "a",
        "UPDATE m SET n = 7, d = 4.5, day = '2025-03-01', at = '2025-01-02 03:04:05.678',"
        " seen = '2025-05-01', lap = '0:59:00', v = 'a' WHERE id = 1",
        "UPDATE m SET n = 9, v = 'a again' WHERE id = 1",
        "UPDATE m SET n = 4, v = 'lowered' WHERE id = 2",
        "UPDATE c SET x = 10, t = 'a' WHERE id = 1",
        "UPDATE c SET e = 'q', f = 1.1 WHERE id = 1",
        "BEGIN",
        "UPDATE c SET x = 2 WHERE id = 2",
        "UPDATE c SET x = 1 WHERE id = 2",
        "COMMIT",
        "UPDATE o SET v = 'a' WHERE id < 4",
        "UPDATE o SET v = 'a', unit = 8 WHERE id = 4",
        """UPDATE f SET n = 5, v = 'a', doc = '{"a": 0.1}', f = 1.1, e = 'q', raw = 0x0061,"""
        " at = '2025-01-02 03:04:05.678', c = 'a' WHERE id < 4",
        "UPDATE f SET v = 'a' WHERE id = 4",
        "INSERT INTO child VALUES (1, 1), (2, 2), (3, NULL)",
    )
    one.write(
        "b",
        "UPDATE m SET n = 8, d = 4.25, day = '2025-02-01', at = '2025-01-02 03:04:05.677',"
        " seen = '2025-05-01 00:00:00.000001', lap = '-0:00:01.5', v = 'b' WHERE id = 1",
        "UPDATE m SET n = 6, v = 'b' WHERE id = 2",
        "UPDATE c SET y = 20, t = 'b' WHERE id = 1",
        """UPDATE c SET doc = '{"b": 1.5}' WHERE id = 1""",
        "UPDATE c SET y = 3 WHERE id = 2",
        "UPDATE o SET v = 'b'",
        """UPDATE f SET n = 3, v = 'b', doc = '{"b": 0.2}', f = 2.2, raw = 0x62,"""
        " at = '2025-02-03 04:05:06.789', c = 'b' WHERE id < 4",
        "DELETE FROM f WHERE id = 4",
        "DELETE FROM p WHERE id = 1",
    )
    one.meet()
    assert_the_greatest_stays(one)
    assert_each_column_has_its_last_writer(one)
    assert_the_owner_wins(one)
    assert_the_function_decides(one)
    config = ("-c", str(one.running.path))
    capsys.readouterr()
    assert drc_command(["conflicts", "orphans", "--json", *config]) == 1
    orphans = json.loads(capsys.readouterr().out)["orphans"]
    assert [(o["site"], o["constraint"], o["rows"], o["sample"]) for o in orphans] == [
        (site, "of_p", 1, [{"parent": 1}]) for site in "ab"
    ]
    assert drc_command(["conflicts", "replay", "--table", f"{schema}.*", *config]) == 0


def assert_the_greatest_stays(one: Duel) -> None:
    for site in "ab":
        assert one.rows("m", site)[0] == (
            *(1, 9, Decimal("4.2500"), datetime(2025, 3, 1).date()),
            datetime(2025, 1, 2, 3, 4, 5, 678000),
            datetime(2025, 5, 1, 0, 0, 0, 1),
            timedelta(seconds=-1.5),
            "b",
        )
    # Site a cannot know that 5 was there; b sees 5 withdrawn, and leaves the row to an operator.
    assert ("id=2", "update_origin_differs", "open") in one.brief("b")


def assert_each_column_has_its_last_writer(one: Duel) -> None:
    for site in "ab":
        first, second = one.rows("c", site)
        assert first == (1, 10, 20, '{"b": 1.5}', "b", "q", 1.1, 30, -10)  # the server adds up
        assert (*second[:3], *second[-2:]) == (2, 1, 3, 4, -2)


def assert_the_owner_wins(one: Duel) -> None:
    for site in "ab":
        rows = one.rows("o", site)
        assert rows[:3] == [(1, 7, "a"), (2, 8, "b"), (3, 9, "b")]
        assert ("id=4", "update_origin_differs", "open") in one.brief(site)


def assert_the_function_decides(one: Duel) -> None:
    moments = datetime(2025, 1, 2, 3, 4, 5, 678000), datetime(2025, 2, 3, 4, 5, 6, 789000)
    kept = ('{"a": 0.1}', 1.1, "q", b"\0a")
    for site in "ab":
        first, second, _, last = one.rows("f", site)
        assert first == (1, 7, Decimal("7.25"), "a+b", *kept, moments[1], "b")
        assert second == (2, 5, Decimal("1.00"), "a", *kept, moments[0], "a")
        assert last[3] == "a"
        assert ("id=3", "update_origin_differs", "open") in one.brief(site)


class Columns(Client):
    """An application that changes some columns of hot rows, and a column that only grows."""

    def _change(self, cursor: pymysql.cursors.Cursor) -> tuple[int, int]:
        key, chosen = self._rng.randrange(HOT_KEYS), self._rng.randrange(1, 8)
        sets = [f"{name} = {self._rng.random()}" for i, name in enumerate("vwx") if chosen >> i & 1]
        if self._rng.random() < 0.3:
            sets.append("n = n + 1")
        cursor.execute(f"UPDATE hot SET {', '.join(sets)} WHERE id = {key}")
        if self._rng.random() < 0.1:  # changed and changed back
            cursor.execute("UPDATE hot SET v = '' WHERE id = %s", (key,))
        return key, 0


@LONG
@pytest.mark.timeout(900)
def test_columns_of_hot_rows_converge(pair: Sandbox, schema: str, daemon: StartDaemon) -> None:
    policy = {"policy": "column_merge", "columns": {"n": "max"}}
    running = daemon(pair, conflicts={"tables": {f"{schema}.hot": policy}})
    prepare(pair, schema, running)
    first, *_ = pair.sites.values()
    first.query(f"ALTER TABLE `{schema}`.hot ADD w TEXT, ADD x DOUBLE", (), "app")
    running.drain(schema)
    for site in pair.sites.values():
        site.query("DELETE FROM drc.conflict")
    rng = random.Random(1)
    storm(pair, schema, Columns, during=lambda: kills(running, rng))
    running.drain(schema)
    assert_identical(pair, schema)
    for site in pair.sites.values():
        assert site.query("SELECT DISTINCT winner FROM drc.conflict") == [("merged",)]
    for status in Store(running.config.state_url).statuses().values():
        assert status.watcher
        assert status.watcher.late_conflicts == 0
