"""Column types and kinds of transactions: each arrives byte by byte, from either side."""

from __future__ import annotations

from collections.abc import Callable

import pymysql
import pytest

from drc.sandbox import Sandbox
from drc.sandbox.servers import SandboxSite
from tests.faults.fix_daemon import LONG, Daemon, StartDaemon, assert_identical

pytestmark = pytest.mark.servers

# (column, its definition, two values as SQL). VECTOR is left out below 9.0.
COLUMNS = [
    ("c_tiny", "TINYINT", "-128", "127"),
    ("c_utiny", "TINYINT UNSIGNED", "255", "0"),
    ("c_bool", "BOOL", "TRUE", "FALSE"),
    ("c_small", "SMALLINT", "-32768", "5"),
    ("c_medium", "MEDIUMINT", "-8388608", "8388607"),
    ("c_int", "INT UNSIGNED", "4294967295", "1"),
    ("c_big", "BIGINT UNSIGNED", "18446744073709551615", "7"),
    ("c_dec", "DECIMAL(65,30)", "-12345678901234567890.123456789", "1e-30"),
    ("c_dec0", "DECIMAL(1,0)", "9", "-1"),
    ("c_float", "FLOAT", "1.1", "3.4028234e38"),
    ("c_double", "DOUBLE", "-2.2250738585072014e-308", "0.1"),
    ("c_bit1", "BIT(1)", "b'1'", "b'0'"),
    ("c_bit64", "BIT(64)", "x'8000000000000001'", "0"),
    ("c_year", "YEAR", "0", "2155"),
    ("c_date", "DATE", "'0000-00-00'", "'9999-12-31'"),
    ("c_date2", "DATE", "'2015-00-21'", "'1000-01-01'"),
    ("c_time", "TIME(6)", "'-838:59:59.000000'", "'-00:00:01.500000'"),
    ("c_datetime", "DATETIME(3)", "'0000-00-00 00:00:00'", "'9999-12-31 23:59:59.999'"),
    ("c_ts", "TIMESTAMP(6) NULL", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'"),
    ("c_char", "CHAR(255) CHARACTER SET utf8mb4", "'a  '", "'汉字😀'"),
    ("c_varchar", "VARCHAR(300) CHARACTER SET utf8mb4", "''", "REPEAT('汉', 300)"),
    ("c_latin1", "VARCHAR(20) CHARACTER SET latin1", "_latin1 x'e9e8ff80'", "'z'"),
    ("c_gbk", "VARCHAR(20) CHARACTER SET gbk", "_gbk x'bafabad7d65c'", "'g'"),
    ("c_utf16", "VARCHAR(20) CHARACTER SET utf16", "'u汉'", "''"),
    ("c_binary", "BINARY(4)", "x'01020000'", "x'00000000'"),
    ("c_varbinary", "VARBINARY(9)", "x'000100'", "x''"),
    ("c_tinyblob", "TINYBLOB", "x'00'", "x''"),
    ("c_blob", "BLOB", "REPEAT(x'ff', 3000)", "x'00ff'"),
    ("c_mediumtext", "MEDIUMTEXT", "REPEAT('m', 70000)", "'m'"),
    ("c_longblob", "LONGBLOB", "REPEAT('l', 300000)", "NULL"),
    ("c_enum", "ENUM('x','y','') CHARACTER SET latin1", "'y'", "0"),
    ("c_set", "SET('r','g','b')", "'r,b'", "''"),
    ("c_json", "JSON",
     "JSON_OBJECT('d', CAST(1.50 AS DECIMAL(9,2)), 't', CAST('2020-01-02' AS DATE), 'n', NULL)",
     "CAST('null' AS JSON)"),
    ("c_geometry", "GEOMETRY", "ST_GeomFromText('POINT(1 2)', 4326)",
     "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')"),
    ("c_point", "POINT", "ST_GeomFromText('POINT(3 4)')", "NULL"),
    ("c_hidden", "VARCHAR(9) INVISIBLE DEFAULT 'dflt'", "'hid'", "DEFAULT"),
    ("c_vector", "VECTOR(3)", "TO_VECTOR('[1,2,3]')", "TO_VECTOR('[-1.5,0,3e38]')"),
]  # fmt: skip


def run_all(site: SandboxSite, statements: list[str], *, mode: str = "") -> None:
    with site.connect("app") as conn, conn.cursor() as cursor:
        cursor.execute(f"SET sql_mode = '{mode}'")
        for statement in statements:
            cursor.execute(statement)


def zoo(schema: str, *, vectors: bool) -> tuple[str, list[list[str]]]:
    """Return the CREATE and, for each of two writers, its inserts, updates and deletes."""
    columns = [c for c in COLUMNS if vectors or c[0] != "c_vector"]
    defined = ", ".join(f"`{name}` {kind}" for name, kind, *_ in columns)
    create = (
        f"CREATE TABLE `{schema}`.zoo (id INT PRIMARY KEY, {defined},"
        " g_virtual INT AS (id + 1) VIRTUAL, g_stored INT AS (id * 2) STORED,"
        " UNIQUE (g_virtual), KEY (c_varchar(20)))"
    )
    names = ", ".join(f"`{name}`" for name, *_ in columns)
    writers = []
    for base in (0, 1000):
        out = []
        for i, pick in enumerate((2, 3, 2, 3)):
            values = ", ".join(c[pick] for c in columns)
            out.append(f"INSERT INTO `{schema}`.zoo (id, {names}) VALUES ({base + i}, {values})")
        out.append(f"INSERT INTO `{schema}`.zoo (id) VALUES ({base + 10})")
        for name, _, first, second in columns:
            out.append(f"UPDATE `{schema}`.zoo SET `{name}` = {second} WHERE id = {base}")
            out.append(f"UPDATE `{schema}`.zoo SET `{name}` = {first} WHERE id = {base + 10}")
        out.append(f"DELETE FROM `{schema}`.zoo WHERE id IN ({base + 1}, {base + 2})")
        out.append(f"UPDATE `{schema}`.zoo SET id = {base + 20} WHERE id = {base + 3}")
        writers.append(out)
    return create, writers


@pytest.mark.parametrize("which", ["pair", pytest.param("pair80", marks=LONG)])
def test_every_type_from_either_side(
    which: str, request: pytest.FixtureRequest, schema: str, daemon: StartDaemon
) -> None:
    box: Sandbox = request.getfixturevalue(which)
    running = daemon(box)
    create, writers = zoo(schema, vectors=which == "pair")
    run_all(box.sites["a"], [create])
    running.drain(schema)
    for site, statements in zip(box.sites.values(), writers, strict=True):
        run_all(site, statements)
    running.drain(schema)
    assert_identical(box, schema)
    for site in box.sites.values():
        assert site.query(f"SELECT COUNT(*) FROM `{schema}`.zoo") == [(6,)]
    for site in reversed(box.sites.values()):  # and each row once more, by the other site
        run_all(site, [f"UPDATE `{schema}`.zoo SET c_int = 9, c_time = NULL"])
        running.drain(schema)
    assert_identical(box, schema)


# ---------------------------------------------------------------- kinds of transactions

Write = Callable[[pymysql.Connection, str], None]


def sql(conn: pymysql.Connection, *statements: str) -> None:
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def savepoints(conn: pymysql.Connection, s: str) -> None:
    sql(conn, "BEGIN", "SAVEPOINT a", f"INSERT INTO `{s}`.t (id) VALUES (100)", "SAVEPOINT b",
        f"INSERT INTO `{s}`.t (id) VALUES (101)", "ROLLBACK TO b",
        f"INSERT INTO `{s}`.t (id) VALUES (102)", "COMMIT")  # fmt: skip


def unique_swaps(conn: pymysql.Connection, s: str) -> None:
    sql(conn, f"INSERT INTO `{s}`.t (id, u) VALUES (1, 1), (2, 2)", "BEGIN",
        f"UPDATE `{s}`.t SET u = NULL WHERE id = 1", f"UPDATE `{s}`.t SET u = 1 WHERE id = 2",
        f"UPDATE `{s}`.t SET u = 2 WHERE id = 1", "COMMIT")  # fmt: skip


def xa(conn: pymysql.Connection, s: str) -> None:
    for name, row, end in (("x1", 200, "COMMIT"), ("x2", 201, "ROLLBACK")):
        sql(conn, f"XA START '{name}'", f"INSERT INTO `{s}`.t (id) VALUES ({row})",
            f"XA END '{name}'", f"XA PREPARE '{name}'", f"XA {end} '{name}'")  # fmt: skip
    sql(conn, "XA START 'x3'", f"INSERT INTO `{s}`.t (id) VALUES (202)", "XA END 'x3'",
        "XA COMMIT 'x3' ONE PHASE")  # fmt: skip


def ddl(conn: pymysql.Connection, s: str) -> None:
    sql(conn, f"CREATE TABLE `{s}`.c (id INT PRIMARY KEY) AS SELECT 1 AS id",
        f"ALTER TABLE `{s}`.c ADD w INT DEFAULT 7", f"INSERT INTO `{s}`.c (id) VALUES (5)",
        f"CREATE INDEX i ON `{s}`.c (w)", f"CREATE VIEW `{s}`.v AS SELECT 1 AS one",
        f"INSERT INTO `{s}`.c (id) VALUES (6)", f"TRUNCATE TABLE `{s}`.c",
        f"INSERT INTO `{s}`.c (id) VALUES (7)", f"RENAME TABLE `{s}`.c TO `{s}`.c2",
        f"USE `{s}`", "CREATE TABLE d LIKE t", "INSERT INTO d (id) VALUES (1)",
        "ALTER TABLE d DROP u", "UPDATE d SET v = 'x'", "DROP TABLE d")  # fmt: skip


def triggers(conn: pymysql.Connection, s: str) -> None:
    """Write by a trigger, whose rows are logged: the trigger must not fire again."""
    sql(conn, f"CREATE TABLE `{s}`.audit (id INT AUTO_INCREMENT PRIMARY KEY, t INT)",
        f"CREATE TRIGGER `{s}`.tr AFTER INSERT ON `{s}`.t FOR EACH ROW"
        f" INSERT INTO `{s}`.audit (t) VALUES (NEW.id)",
        f"INSERT INTO `{s}`.t (id) VALUES (300), (301)", f"DROP TRIGGER `{s}`.tr")  # fmt: skip


def compressed(conn: pymysql.Connection, s: str) -> None:
    sql(conn, "SET SESSION binlog_transaction_compression = ON", "BEGIN",
        *(f"INSERT INTO `{s}`.t (id, v) VALUES ({i}, REPEAT('z', 90))" for i in range(400, 450)),
        "COMMIT", f"UPDATE `{s}`.t SET v = CONCAT(v, 'k') WHERE id BETWEEN 400 AND 420",
        f"DELETE FROM `{s}`.t WHERE id = 449", "SET SESSION binlog_transaction_compression = OFF",
        )  # fmt: skip


def partial_json(conn: pymysql.Connection, s: str) -> None:
    j = f"`{s}`.t"
    sql(conn, f"INSERT INTO {j} (id, j) VALUES (500, JSON_OBJECT('a', REPEAT('x', 200), 'b', 1))",
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
        f"UPDATE {j} SET j = JSON_SET(j, '$.b', 2, '$.c', 3) WHERE id = 500",
        f"UPDATE {j} SET j = JSON_REMOVE(j, '$.c'), v = 'p' WHERE id = 500",
        "SET SESSION binlog_row_value_options = ''")  # fmt: skip


def minimal_images(conn: pymysql.Connection, s: str) -> None:
    sql(conn, f"INSERT INTO `{s}`.t (id, v) VALUES (600, 'a'), (601, 'b')",
        "SET SESSION binlog_row_image = MINIMAL", f"UPDATE `{s}`.t SET v = 'm' WHERE id = 600",
        f"DELETE FROM `{s}`.t WHERE id = 601", f"INSERT INTO `{s}`.t (id) VALUES (602)",
        "SET SESSION binlog_row_image = FULL")  # fmt: skip


def foreign_keys(conn: pymysql.Connection, s: str) -> None:
    sql(conn, f"CREATE TABLE `{s}`.p (id INT PRIMARY KEY)",
        f"CREATE TABLE `{s}`.ch (id INT PRIMARY KEY, p INT,"
        f" FOREIGN KEY (p) REFERENCES `{s}`.p (id) ON DELETE CASCADE)",
        f"INSERT INTO `{s}`.p VALUES (1), (2)", f"INSERT INTO `{s}`.ch VALUES (1,1), (2,1), (3,2)",
        f"DELETE FROM `{s}`.p WHERE id = 1", "BEGIN", f"INSERT INTO `{s}`.p VALUES (5)",
        f"INSERT INTO `{s}`.ch VALUES (9, 5)", f"DELETE FROM `{s}`.p WHERE id = 2", "COMMIT",
        )  # fmt: skip


def partitions(conn: pymysql.Connection, s: str) -> None:
    sql(conn, f"CREATE TABLE `{s}`.pt (id INT PRIMARY KEY, v INT)"
        " PARTITION BY HASH(id) PARTITIONS 4",
        f"INSERT INTO `{s}`.pt VALUES (1,1), (2,2), (3,3)", f"UPDATE `{s}`.pt SET id = id + 10",
        f"UPDATE `{s}`.pt SET v = 9", f"DELETE FROM `{s}`.pt WHERE id = 11")  # fmt: skip


def hidden_key(conn: pymysql.Connection, s: str) -> None:
    sql(conn, "SET SESSION sql_generate_invisible_primary_key = ON",
        f"CREATE TABLE `{s}`.gipk (v INT)", f"INSERT INTO `{s}`.gipk VALUES (1), (2), (2)",
        f"UPDATE `{s}`.gipk SET v = v + 1", f"DELETE FROM `{s}`.gipk WHERE v = 2")  # fmt: skip


def odd_names(conn: pymysql.Connection, s: str) -> None:
    sql(conn, f"CREATE TABLE `{s}`.`o'dd ``名;--` (`k ``'` INT PRIMARY KEY, `é` INT UNIQUE)",
        f"INSERT INTO `{s}`.`o'dd ``名;--` VALUES (1, 1), (2, 2)",
        f"UPDATE `{s}`.`o'dd ``名;--` SET `é` = 3 WHERE `k ``'` = 1")  # fmt: skip


def unselected(conn: pymysql.Connection, s: str) -> None:
    """Write to two schemas in a transaction, with a single schema replicated."""
    sql(conn, f"CREATE DATABASE IF NOT EXISTS `{s}_local`",
        f"CREATE TABLE `{s}_local`.x (id INT PRIMARY KEY)", "BEGIN",
        f"INSERT INTO `{s}_local`.x VALUES (1)", f"INSERT INTO `{s}`.t (id) VALUES (700)",
        f"INSERT INTO `{s}_local`.x VALUES (2)", "COMMIT")  # fmt: skip


KINDS: list[Write] = [
    savepoints, unique_swaps, xa, ddl, triggers, compressed, partial_json, minimal_images,
    partitions, odd_names, unselected,
]  # fmt: skip
NEW_KINDS: list[Write] = [foreign_keys, hidden_key]


@pytest.fixture
def prepared(schema: str, daemon: StartDaemon) -> Callable[[Sandbox], Daemon]:
    def start(box: Sandbox) -> Daemon:
        running = daemon(box)
        with box.sites["a"].connect("app") as conn:
            sql(conn, f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v VARCHAR(200),"
                " u INT UNIQUE, j JSON)")  # fmt: skip
        running.drain(schema)
        return running

    return start


@pytest.mark.parametrize("which", ["pair", pytest.param("pair80", marks=LONG)])
def test_kinds_of_transactions(
    which: str,
    request: pytest.FixtureRequest,
    schema: str,
    prepared: Callable[[Sandbox], Daemon],
) -> None:
    box: Sandbox = request.getfixturevalue(which)
    running = prepared(box)
    for kind in KINDS + (NEW_KINDS if which == "pair" else []):
        for site in box.sites.values():
            with site.connect("app") as conn:
                kind(conn, schema)
            running.drain(schema)
            assert_identical(box, schema)
            if site.name == "a":  # so that the other site can write the same again
                with site.connect("app") as conn:
                    clean(conn, schema)
                running.drain(schema)
    assert running.stop() == 0


def clean(conn: pymysql.Connection, schema: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute(f"DELETE FROM `{schema}`.t")
        cursor.execute(
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = %s"
            " AND table_name NOT IN ('t', 'marker') ORDER BY table_name = 'p'",
            (schema,),
        )
        for name, kind in cursor.fetchall():
            what = "VIEW" if kind == "VIEW" else "TABLE"
            cursor.execute(f"DROP {what} `{schema}`." + "`" + name.replace("`", "``") + "`")
        cursor.execute(f"DROP DATABASE IF EXISTS `{schema}_local`")


def test_rotation_and_checksums_switched_under_way(
    pair: Sandbox, schema: str, prepared: Callable[[Sandbox], Daemon]
) -> None:
    running = prepared(pair)
    site = pair.sites["a"]
    try:
        for number, change in enumerate(
            ("FLUSH BINARY LOGS", "SET GLOBAL binlog_checksum = NONE", "FLUSH BINARY LOGS",
             "SET GLOBAL binlog_checksum = CRC32", "FLUSH BINARY LOGS")
        ):  # fmt: skip
            site.query(f"INSERT INTO `{schema}`.t (id) VALUES ({number})", account="app")
            site.query(change)
            site.query(f"UPDATE `{schema}`.t SET v = 'x'", account="app")
    finally:
        site.query("SET GLOBAL binlog_checksum = CRC32")
    running.drain(schema)
    assert_identical(pair, schema)


def test_tags_of_users_are_replicated_and_silent_transactions_are_not(
    pair: Sandbox, schema: str, prepared: Callable[[Sandbox], Daemon]
) -> None:
    running = prepared(pair)
    with pair.sites["a"].connect("root") as conn:
        sql(conn, "SET gtid_next = 'AUTOMATIC:mine'", f"INSERT INTO `{schema}`.t (id) VALUES (1)",
            "SET gtid_next = 'AUTOMATIC'", "BEGIN",
            "INSERT INTO drc.silence (reason) VALUES ('an import that both sites get')",
            f"INSERT INTO `{schema}`.t (id) VALUES (2)", "COMMIT",
            f"INSERT INTO `{schema}`.t (id) VALUES (3)")  # fmt: skip
    running.drain(schema)
    got = pair.sites["b"].query(f"SELECT id FROM `{schema}`.t ORDER BY id")
    assert got == [(1,), (3,)]
