"""The comparison against real servers: finds every difference, and no other."""

from __future__ import annotations

import random
import struct

import pymysql
import pytest

from drc.sandbox import Sandbox
from drc.verify import TableComparison, compare

pytestmark = pytest.mark.servers

Box = Sandbox

ZOO = """
CREATE TABLE zoo (
  k1 VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci, k2 DECIMAL(10,3), k3 TIME(2),
  k4 ENUM('z','a',''), k5 DOUBLE, PRIMARY KEY (k1, k2, k3, k4, k5),
  f FLOAT, d DOUBLE, bits BIT(13), flags SET('a','b','c'), y YEAR, dt DATETIME(6), ts TIMESTAMP(3),
  js JSON, g GEOMETRY, vec VECTOR(4), gbk VARCHAR(20) CHARACTER SET gbk, bin BINARY(6),
  hid INT INVISIBLE, virt INT AS (y + 1) VIRTUAL, stor BLOB AS (CONCAT(bin, 'x')) STORED)
"""


def both(box: Sandbox, schema: str, *statements: str) -> list[pymysql.Connection]:
    conns = []
    for site in box.sites.values():
        conn = site.connect("app")
        with conn.cursor() as cursor:
            cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {schema}")
            cursor.execute(f"USE {schema}")
            for statement in statements:
                cursor.execute(statement)
        conns.append(conn)
    return conns


def run(conn: pymysql.Connection, *statements: str) -> None:
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def check(box: Sandbox, schema: str) -> list[TableComparison]:
    conns = [site.connect("app") for site in box.sites.values()]
    try:
        return compare(*conns, schemas=(schema,))
    finally:
        for conn in conns:
            conn.close()


def fill(conns: list[pymysql.Connection]) -> None:
    rng = random.Random(3)
    for _ in range(400):
        f = struct.unpack("<f", rng.randbytes(3) + b"\x3f")[0]
        values = (
            f"'{rng.choice(['ä', 'ae', 'a', 'A', 'z', ''])}{rng.randrange(99)}'",
            f"{rng.uniform(-9e6, 9e6):.3f}",
            f"'{rng.choice('-0')}{rng.randrange(838)}:{rng.randrange(60)}:01.{rng.randrange(99)}'",
            str(rng.randrange(4)),
            repr(rng.uniform(-1, 1) * 10 ** rng.randrange(-300, 300)),
            repr(f),
            repr(rng.gauss(0, 1)),
            f"b'{rng.randrange(8192):b}'",
            str(rng.randrange(8)),
            str(rng.choice([0, 1901, 2155])),
            rng.choice(["'0000-00-00'", "'2015-00-21'", "'2026-01-02 03:04:05.000001'"]),
            rng.choice(["'0000-00-00'", "'1970-01-01 00:00:01'", "NULL"]),
            rng.choice(["""'{"a": [1, -0.0, null]}'""", "'null'", "NULL"]),
            f"ST_GeomFromText('POINT({rng.randrange(90)} 2)', {rng.choice([0, 4326])})",
            f"STRING_TO_VECTOR('[{rng.random()}, -0.0, 3e-38, 4]')",
            "_utf8mb4'中文'",
            f"x'{rng.randbytes(rng.randrange(6)).hex()}00'",
            str(rng.randrange(9)),
        )
        names = "k1,k2,k3,k4,k5,f,d,bits,flags,y,dt,ts,js,g,vec,gbk,bin,hid"
        sql = f"INSERT IGNORE INTO zoo ({names}) VALUES ({', '.join(values)})"
        for conn in conns:
            run(conn, sql)


def test_four_wrong_rows_of_many_are_found(pair: Box, schema: str) -> None:
    conns = both(
        pair,
        schema,
        "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50), version INT, at TIMESTAMP(6))",
        "SET cte_max_recursion_depth = 100000",
        """INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
           WHERE i < 20000) SELECT i * 2, CONCAT('n', i), 2, '2026-01-01' FROM n""",
    )
    assert all(c.identical and c.checksums_equal for c in check(pair, schema))
    b = conns[1]
    run(
        b,
        "DELETE FROM t WHERE id = 2000",
        "INSERT INTO t VALUES (3001, 'extra', 1, NOW())",
        "UPDATE t SET name = 'N500' WHERE id = 1000",
        "UPDATE t SET version = 1, at = '2025-12-31 23:59:59.999999' WHERE id = 40000",
    )
    (found,) = check(pair, schema)
    assert not found.identical
    assert not found.checksums_equal
    assert (found.rows_a, found.rows_b) == (20000, 20000)
    assert (found.only_a, found.only_b, found.altered) == (1, 1, 2)
    differ = {d.key["id"]: (d.a is None, d.b is None, d.columns) for d in found.differences}
    assert differ == {
        "2000": (False, True, []),
        "3001": (True, False, []),
        "1000": (False, False, ["name"]),
        "40000": (False, False, ["version", "at"]),
    }


def test_equal_rows_of_every_kind_are_equal(pair: Box, schema: str) -> None:
    fill(both(pair, schema, ZOO))
    (found,) = check(pair, schema)
    assert found.identical
    assert found.checksums_equal
    assert found.rows_a > 300


CHANGES = {
    "f": "f = f * (1 + 1e-6)",
    "d": "d = -0e0",
    "bits": "bits = bits ^ 1",
    "flags": "flags = flags ^ 4",
    "y": "y = IF(y = 0, 2000, 0)",
    "dt": "dt = IF(dt = '0000-00-00', '2015-00-21', '0000-00-00')",
    "ts": "ts = '2026-01-01 00:00:00.001'",
    "js": "js = '[-0.0]'",
    "g": "g = ST_SRID(g, IF(ST_SRID(g) = 0, 3857, 0))",
    "vec": "vec = STRING_TO_VECTOR('[0, 0, 3e-38, 4]')",
    "gbk": "gbk = CONCAT(gbk, ' ')",
    "bin": "bin = x'ff'",
    "hid": "hid = hid + 1",
}


@pytest.mark.parametrize("column", CHANGES)
def test_a_change_of_one_column_is_seen(pair: Box, schema: str, column: str) -> None:
    conns = both(pair, schema, ZOO)
    fill(conns)
    run(conns[0], "UPDATE zoo SET d = 0e0")
    run(conns[1], "UPDATE zoo SET d = 0e0", f"UPDATE zoo SET {CHANGES[column]} LIMIT 1")
    (found,) = check(pair, schema)
    assert found.altered == 1, found
    assert column in found.differences[0].columns


def test_keys_merge_in_every_type_of_key(pair: Box, schema: str) -> None:
    """Remove rows at either side: the walk must stay in step over the whole composite key."""
    conns = both(pair, schema, ZOO)
    fill(conns)
    counts: list[int] = []
    for conn in conns:
        with conn.cursor() as cursor:
            cursor.execute(f"DELETE FROM zoo WHERE RAND({len(counts)}) < 0.2")
            counts.append(cursor.rowcount)
    (found,) = check(pair, schema)
    total = found.rows_a + counts[0]
    assert found.rows_b + counts[1] == total
    assert found.altered == 0
    assert 0 < found.only_a <= counts[1]
    assert found.rows_a - found.only_a == found.rows_b - found.only_b


@pytest.mark.parametrize(
    "collation",
    ["utf8mb4_0900_ai_ci", "utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_0900_bin", "gbk_bin",
     "utf8mb4_de_pb_0900_as_cs", "latin1_swedish_ci", "ascii_bin", "utf8mb4_ja_0900_as_cs_ks"],
)  # fmt: skip
def test_text_keys_sort_as_their_collation_does(pair: Box, schema: str, collation: str) -> None:
    charset = collation.partition("_")[0]
    conns = both(
        pair,
        schema,
        f"CREATE TABLE t (k VARCHAR(30) CHARACTER SET {charset} COLLATE {collation} PRIMARY KEY)",
    )
    rng = random.Random(5)
    letters = "aAbBzZ 09_-\t\x01" + ("äßéÉ" if charset in ("latin1", "utf8mb4") else "")
    letters += "中あアー" if charset == "utf8mb4" else ""
    for _ in range(300):
        text = "".join(rng.choices(letters, k=rng.randrange(4)))
        for conn in conns:
            if rng.random() < 0.9:
                with conn.cursor() as cursor:
                    cursor.execute("INSERT IGNORE INTO t VALUES (%s)", (text,))
    (found,) = check(pair, schema)
    assert found.rows_a - found.only_a == found.rows_b - found.only_b
    with conns[0].cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchone() == (found.rows_a,)
    assert found.only_a
    assert found.only_b


def test_a_hidden_primary_key_is_a_column_and_the_key(pair: Box, schema: str) -> None:
    conns = both(
        pair,
        schema,
        "SET sql_generate_invisible_primary_key = ON",
        "CREATE TABLE t (v INT)",
        "INSERT INTO t VALUES (1), (2)",
    )
    assert check(pair, schema)[0].identical
    run(conns[0], "UPDATE t SET my_row_id = 7 WHERE v = 2")
    (found,) = check(pair, schema)
    assert [list(d.key.items()) for d in found.differences] == [
        [("my_row_id", "2")],
        [("my_row_id", "7")],
    ]


def test_a_table_without_key_is_compared_as_a_bag(pair: Box, schema: str) -> None:
    conns = both(pair, schema, "CREATE TABLE t (v INT, f FLOAT)")
    run(conns[0], "INSERT INTO t VALUES (1, 0.1), (2, 0.2), (2, 0.2)")
    run(conns[1], "INSERT INTO t VALUES (2, 0.2), (2, 0.2), (1, 0.1)")
    assert check(pair, schema)[0].identical
    run(conns[1], "UPDATE t SET v = 1 WHERE v = 2 LIMIT 1")
    (found,) = check(pair, schema)
    assert not found.identical
    assert not found.keyed


def test_a_table_or_column_that_one_side_lacks_is_named(pair: Box, schema: str) -> None:
    conns = both(pair, schema, "CREATE TABLE t (a INT PRIMARY KEY, b CHAR(3))")
    run(conns[0], "CREATE TABLE only_here (a INT)")
    run(conns[1], "ALTER TABLE t MODIFY b CHAR(4)")
    first, second = check(pair, schema)
    assert (first.table, first.problem) == ("only_here", "does not exist at b")
    assert "char(4)" in second.problem
    assert not first.identical
    assert not second.identical


def test_a_value_above_the_protocols_packet_is_compared(pair: Box, schema: str) -> None:
    conns = both(pair, schema, "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)")
    for conn in conns:
        run(conn, "INSERT INTO t VALUES (1, REPEAT('x', 20000000)), (2, REPEAT('y', 16777215 - 6))")
    assert check(pair, schema)[0].identical
    run(conns[1], "UPDATE t SET b = CONCAT(SUBSTR(b, 2), 'z') WHERE id = 1")
    (found,) = check(pair, schema)
    assert found.altered == 1
    assert found.differences[0].columns == ["b"]
