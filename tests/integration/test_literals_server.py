"""Literals against servers: stored as the same bytes, and a key's condition finds only the row.

Row images come from the binlog. Each row is deleted, written again by literals, and the new
image must be the same.
"""

from __future__ import annotations

import contextlib
import random
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from drc.binlog.events import Column, TableMap
from drc.rows.collation import CHARACTER_SETS
from drc.rows.images import column_walkers
from drc.rows.literals import SESSION, NoLiteralError, key_condition, literal, quote
from drc.sandbox.servers import SandboxSite
from tests.integration.binlog import changes, executed, transactions
from tests.integration.test_slots_server import TYPES
from tests.integration.test_types import COLUMNS

pytestmark = pytest.mark.servers

_RANDOM_ROWS = 60
_ASSIGNED_ONLY = ("c_json", "c_geometry", "c_point", "c_vector")


def _floats(code: str) -> list[str]:
    """Return literals of random bit patterns and of edge cases."""
    rng = random.Random(code)
    size = struct.calcsize(code)
    values = [struct.unpack(code, rng.randbytes(size))[0] for _ in range(_RANDOM_ROWS)]
    smallest = struct.unpack(code, (1).to_bytes(size, "little"))[0]
    values = [v for v in values if abs(v) < float("inf")] + [smallest, -smallest, -0.0]
    return [text if "e" in (text := repr(v)) else text + "e0" for v in values]


def _moments(digits: int, years: tuple[int, int]) -> list[str]:
    rng = random.Random(digits)
    return [
        f"'{rng.randint(*years):04}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        f" {rng.randrange(24):02}:{rng.randrange(60):02}:{rng.random() * 59.9:09.6f}'"
        for _ in range(_RANDOM_ROWS)
    ]


def _times(digits: int) -> list[str]:
    rng = random.Random(digits)
    return [
        f"'{rng.choice(['', '-'])}{rng.choice([0, rng.randrange(838)])}:{rng.randrange(60)}"
        f":{rng.choice([0, rng.random() * 59.9]):.6f}'"
        for _ in range(_RANDOM_ROWS)
    ]


def _decimals(precision: int, scale: int) -> list[str]:
    rng = random.Random(precision)
    digits = [rng.randrange(10 ** rng.randint(1, precision)) for _ in range(_RANDOM_ROWS)]
    return [f"{rng.choice(['', '-'])}{d}e-{scale}" for d in [*digits, 10**precision - 1]]


# (type of the key, length of its prefix or 0, values)
KEYS: list[tuple[str, int, list[str]]] = [
    *((kind, prefix, values) for kind, prefix, values, _ in TYPES),
    *((kind, 0, [*values]) for name, kind, *values in COLUMNS
      if name not in _ASSIGNED_ONLY and not any(w in kind for w in ("BLOB", "TEXT", "NULL"))),
    ("TIMESTAMP(6)", 0, ["'1970-01-01 00:00:01'", "0", "'2038-01-19 03:14:07.999999'"]),
    ("DATE", 0, ["'2024-02-31'", "'0000-00-00'", "'2015-00-21'", "'0001-01-01'"]),
    ("DATETIME(2)", 0, ["'2023-02-31 23:59:59.99'", "'0000-00-00'", "'2015-00-00 01:02:03'"]),
    ("BIT(64)", 0, ["0", "x'ffffffffffffffff'", "x'8000000000000000'"]),
    ("ENUM('x','','1','0','2')", 0, ["0", "1", "2", "3", "4", "5"]),
    ("SET(" + ",".join(f"'s{i}'" for i in range(64)) + ")", 0,
     ["18446744073709551615", "9223372036854775808", "0"]),
    ("FLOAT", 0, _floats("<f")),
    ("DOUBLE", 0, _floats("<d")),
    ("FLOAT(10,2)", 0, ["12345678.9", "0.1", "-1234.56"]),
    ("DOUBLE(20,3)", 0, ["1234567890123.4567", "0.001"]),
    *((f"DECIMAL({p},{s})", 0, _decimals(p, s)) for p, s in
      [(65, 30), (30, 30), (65, 0), (18, 9), (20, 1), (9, 2), (1, 1)]),
    *((f"TIME({d})", 0, _times(d)) for d in range(7)),
    *((f"DATETIME({d})", 0, _moments(d, (0, 9999))) for d in range(7)),
    *((f"TIMESTAMP({d})", 0, _moments(d, (1971, 2037))) for d in range(7)),
    ("CHAR(9)", 2, ["'a'", "'a  b'", "'ab'", "'abc'", "'a b'", "''"]),
    ("BINARY(9)", 2, ["x'61'", "x'610000'", "x'6162'", "x'61626300'", "''"]),
    *((f"VARCHAR(9) CHARACTER SET {charset}", 0,
       ["'a'", "'A1'", "'b '", "''", "'Ж'", "'汉'", "'ä'", "'é1'", "'א'", "'ก'", "'ｶ'"])
      for charset in sorted(set(CHARACTER_SETS.values()) - {"binary"})),
]  # fmt: skip


class Logged(NamedTuple):
    """A table of the server, with the images of all rows."""

    table: TableMap
    images: list[bytes]


Tables = dict[str, Logged]


@pytest.fixture(scope="module", params=["pair", "pair80"])
def site(request: pytest.FixtureRequest) -> SandboxSite:
    box = request.getfixturevalue(request.param)
    found: SandboxSite = box.sites["a"]
    return found


@pytest.fixture(scope="module")
def cursor(site: SandboxSite) -> Iterator[Any]:
    with contextlib.closing(site.connect()) as conn, conn.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="module")
def written(site: SandboxSite, cursor: Any) -> Iterator[tuple[Tables, Tables]]:
    """Fill a table for each kind of key and a table of all types; then fill again by literals."""
    cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', NAMES utf8mb4")
    cursor.execute("DROP DATABASE IF EXISTS lit")
    cursor.execute("CREATE DATABASE lit CHARACTER SET utf8mb4")
    cursor.execute("USE lit")
    before = executed(site)
    for number, (kind, prefix, values) in enumerate(KEYS):
        key = f"v({prefix})" if prefix else "v"
        cursor.execute(f"CREATE TABLE k{number} (id INT, v {kind} NOT NULL, PRIMARY KEY ({key}))")
        rows = ", ".join(f"({i}, {value})" for i, value in enumerate(values))
        cursor.execute(f"INSERT IGNORE INTO k{number} (id, v) VALUES {rows}")
    _create_zoo(cursor, vectors=site.version != "8.0")
    out = _read(site, before)
    before = executed(site)
    cursor.execute("SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH', time_zone = '+08:00', NAMES latin1")
    cursor.execute(SESSION)
    cursor.execute("BEGIN")
    for table, images in out.values():
        cursor.execute(f"DELETE FROM {table.table}")
        for image in images:
            _insert(cursor, table, image)
    cursor.execute("COMMIT")
    again = _read(site, before)
    yield out, again
    cursor.execute("DROP DATABASE lit")


def _create_zoo(cursor: Any, *, vectors: bool) -> None:
    columns = [c for c in COLUMNS if c[0] != "c_json" and (vectors or c[0] != "c_vector")]
    defined = ", ".join(f"`{name}` {kind}" for name, kind, *_ in columns)
    cursor.execute(f"CREATE TABLE zoo (id INT AUTO_INCREMENT PRIMARY KEY, {defined})")
    names = ", ".join(f"`{name}`" for name, *_ in columns)
    for i in range(2):
        values = ", ".join(c[2 + i] for c in columns)
        cursor.execute(f"INSERT INTO zoo (id, {names}) VALUES ({i}, {values})")
    cursor.execute("INSERT INTO zoo (id) VALUES (2)")


def _read(site: SandboxSite, since: Any) -> dict[str, Logged]:
    images: dict[str, list[bytes]] = defaultdict(list)
    maps: dict[str, TableMap] = {}
    for transaction, _ in transactions(site, since):
        for table, _, after in changes(transaction):
            if after is None:
                continue
            maps[table.table] = table
            images[table.table].append(after)
    return {name: Logged(maps[name], images[name]) for name in maps}


def _values(table: TableMap, image: bytes) -> Iterable[tuple[Column, bytes | None]]:
    walkers = column_walkers(table, range(len(table.columns)))
    return zip(table.columns, walkers[image[: walkers.null_bytes]](image, 0)[1], strict=True)


def _insert(cursor: Any, table: TableMap, image: bytes) -> None:
    pairs = [(quote(column.name), literal(column, v)) for column, v in _values(table, image)]
    names, values = (", ".join(side) for side in zip(*pairs, strict=True))
    cursor.execute(f"INSERT INTO {table.table} ({names}) VALUES ({values})")


@pytest.fixture
def tables(written: tuple[Tables, Tables]) -> Tables:
    return written[0]


def test_literals_store_the_same_bytes(written: tuple[Tables, Tables]) -> None:
    first, again = written
    for name, (_, images) in first.items():
        assert again[name].images == images, name
    assert len(first) == len(KEYS) + 1


def test_a_key_finds_its_row_alone(cursor: Any, tables: Tables) -> None:
    found = 0
    for number, (kind, prefix, _) in enumerate(KEYS):
        table, images = tables[f"k{number}"]
        for image in images:
            where = key_condition(table, image)
            cursor.execute(f"SELECT id FROM k{number} WHERE {where}")
            (_, own), _ = _values(table, image)
            assert own
            expected = ((int.from_bytes(own, "little"),),)
            assert cursor.fetchall() == expected, (kind, prefix, where)
            found += 1
    assert found > 5 * len(KEYS)


@pytest.mark.parametrize(
    ("kind", "prefix", "one", "two"),
    [
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", 0, "a", "Á"),
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", 0, "a", "a "),
        ("VARCHAR(9) COLLATE utf8mb4_bin", 0, "a", "a "),
        ("VARCHAR(9) COLLATE utf8mb4_bin", 0, "a", "A"),
        ("CHAR(9) COLLATE utf8mb4_0900_ai_ci", 2, "a", "a  b"),
        ("CHAR(9) COLLATE utf8mb4_0900_ai_ci", 2, "ab", "ÁBC"),
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", 2, "a", "a  b"),
        ("TEXT CHARACTER SET gbk", 2, "张三", "张三四"),
        ("DECIMAL(5,2)", 0, "0", "-0"),
        ("DOUBLE", 0, "0", "-0e0"),
    ],
)
def test_a_key_finds_what_the_server_takes_for_it(
    site: SandboxSite, cursor: Any, tables: Tables, kind: str, prefix: int, one: str, two: str
) -> None:
    before = executed(site)
    key = f"v({prefix})" if prefix else "v"
    cursor.execute("DROP TABLE IF EXISTS same")
    cursor.execute(f"CREATE TABLE same (v {kind}, PRIMARY KEY ({key}))")
    cursor.execute("INSERT INTO same VALUES (%s)", (one,))
    table, images = _read(site, before)["same"]
    same = not cursor.execute("INSERT IGNORE INTO same VALUES (%s)", (two,))
    cursor.execute("DELETE FROM same")
    cursor.execute("INSERT INTO same VALUES (%s)", (two,))
    assert cursor.execute(f"SELECT v FROM same WHERE {key_condition(table, images[0])}") == same


def test_a_row_set_to_itself_does_not_change(cursor: Any, tables: Tables) -> None:
    table, images = tables["zoo"]
    for image in images:
        pairs = [f"{quote(c.name)} = {literal(c, value)}" for c, value in _values(table, image)]
        where = key_condition(table, image)
        assert cursor.execute(f"UPDATE zoo SET {', '.join(pairs[1:])} WHERE {where}") == 0
        assert cursor.execute(f"UPDATE zoo SET c_tiny = -7 WHERE {where}") == 1


def test_a_key_over_many_columns(site: SandboxSite, cursor: Any, tables: object) -> None:
    before = executed(site)
    cursor.execute(
        "CREATE TABLE `o'``d` (`a``;'` INT, b VARCHAR(9), c BLOB, x INT,"
        " PRIMARY KEY (c(2), b, `a``;'`))"
    )
    cursor.execute(
        "INSERT INTO `o'``d` VALUES (1, 'x', 'ab1', 0), (1, 'y', 'ab2', 1), (2, 'x', 'ab3', 2)"
    )
    table, images = _read(site, before)["o'`d"]
    for i, image in enumerate(images):
        cursor.execute(f"SELECT x FROM {quote(table.table)} WHERE {key_condition(table, image)}")
        assert cursor.fetchall() == ((i,),)


def test_json_has_no_literal(site: SandboxSite, cursor: Any, tables: object) -> None:
    before = executed(site)
    cursor.execute("CREATE TABLE j (id INT PRIMARY KEY, j JSON)")
    cursor.execute("INSERT INTO j VALUES (1, '{}'), (2, NULL)")
    table, images = _read(site, before)["j"]
    (_, (column, document)), (_, (_, null)) = (_values(table, image) for image in images)
    with pytest.raises(NoLiteralError, match="column `j` as SQL: the value is of type 245"):
        literal(column, document)
    assert literal(column, null) == "NULL"
