"""Slots of rows that a real server logged, compared with the server's own unique indexes.

For each type that a key can hold: values that a unique index takes for equal must have the same
slot, or no slot. Values that the index tells apart should have two slots, but for known folding.
"""

import contextlib
import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from drc.binlog import events as ev
from drc.gtid import GtidSet
from drc.rows.slots import canonicalizer, compile_slots, unknown
from drc.sandbox import Sandbox
from tests.integration.binlog import changes, executed, transactions

pytestmark = pytest.mark.servers

TEXT = [
    "a",
    "A",
    "a ",
    "á",
    "Ａ",
    "b",
    "",
    " ",
    "\u00a0",
    "ss",
    "ß",
    "张三",
    "张三 ",
    "张四",
    "ab",
    "aB",
]
TEXT = [f"'{text}'" for text in TEXT]
LATIN = ["a", "A", "a ", "ä", "Å", "[", "", " ", "ü", "y", "ss", "ß", "ab", "aB"]
LATIN = [f"'{text}'" for text in LATIN]
BYTES = ["x''", "x'00'", "x'61'", "x'6100'", "x'6120'", "x'41'", "x'616263'", "x'616264'"]
NUMBERS = ["0", "1", "-1", "127", "-128", "1.4", "'01'"]

# (type, length of the prefix in the key or 0, values, whether different means different slots)
TYPES: list[tuple[str, int, list[str], bool]] = [
    ("TINYINT", 0, NUMBERS, True),
    ("TINYINT UNSIGNED", 0, ["0", "1", "127", "128", "255"], True),
    ("SMALLINT", 0, [*NUMBERS, "-32768", "255"], True),
    ("MEDIUMINT", 0, [*NUMBERS, "-8388608", "65535"], True),
    ("INT", 0, [*NUMBERS, "-2147483648"], True),
    ("INT UNSIGNED", 0, ["0", "1", "4294967295"], True),
    ("BIGINT", 0, [*NUMBERS, "-9223372036854775808"], True),
    ("BIGINT UNSIGNED", 0, ["0", "1", "18446744073709551615"], True),
    ("DECIMAL(10,3)", 0, ["0", "-0.000", "-0.0004", "1.5", "1.500", "-1.5", "1e3"], True),
    ("DECIMAL(65,30)", 0, ["0", "-0", "1", "-1", "1e-30"], True),
    ("FLOAT", 0, ["0", "-0e0", "1.1", "1.10000001", "-1.1"], True),
    ("DOUBLE", 0, ["0", "-0e0", "1.1", "1.10000001", "-1.1"], True),
    ("DATE", 0, ["'2024-02-29'", "'20240229'", "'1000-01-01'", "'9999-12-31'"], True),
    ("TIME", 0, ["'00:00:00'", "'-00:00:00'", "'838:59:59'", "'-838:59:59'"], True),
    ("TIME(3)", 0, ["'00:00:00'", "'0:0:0.0004'", "'-0:0:0.001'", "'0:0:0.001'"], True),
    ("DATETIME", 0, ["'2024-02-29 00:00:00'", "'2024-02-29'", "'2024-02-29 0:0:1'"], True),
    ("DATETIME(6)", 0, ["'2024-02-29'", "'2024-02-29 0:0:0.000001'"], True),
    ("TIMESTAMP", 0, ["'2024-02-29 00:00:00'", "'2024-02-29'", "'2024-03-01'"], True),
    ("TIMESTAMP(2)", 0, ["'2024-02-29 0:0:0.001'", "'2024-02-29'", "'2024-2-29 0:0:0.01'"], True),
    ("YEAR", 0, ["1901", "2155", "'0000'", "'70'", "1970"], True),
    ("ENUM('a','b','C')", 0, ["'a'", "'A'", "1", "2", "'c'"], True),
    ("SET('a','b','c')", 0, ["'a,b'", "'b,a'", "3", "''", "'A'"], True),
    ("BIT(1)", 0, ["b'0'", "1"], True),
    ("BIT(17)", 0, ["b'0'", "1", "65536", "b'1'"], True),
    ("BINARY(3)", 0, BYTES, True),
    ("BINARY(3)", 2, BYTES, True),
    ("VARBINARY(9)", 0, BYTES, True),
    ("VARBINARY(300)", 2, BYTES, True),
    ("BLOB", 3, BYTES, True),
    ("TINYBLOB", 2, BYTES, True),
    *(
        (
            f"{kind} CHARACTER SET {charset} COLLATE {collation}",
            prefix,
            values,
            # CHAR strips spaces after folding, more than the server does, as NBSP folds to a space.
            exact and (kind[:4], collation) != ("CHAR", "utf8mb4_0900_ai_ci"),
        )
        for charset, collation, values, exact in [
            ("utf8mb4", "utf8mb4_0900_ai_ci", TEXT, True),
            ("utf8mb4", "utf8mb4_0900_as_ci", TEXT, False),
            ("utf8mb4", "utf8mb4_0900_as_cs", TEXT, True),
            ("utf8mb4", "utf8mb4_0900_bin", TEXT, True),
            ("utf8mb4", "utf8mb4_bin", TEXT, True),
            ("utf8mb4", "utf8mb4_general_ci", TEXT, False),
            ("utf8mb4", "utf8mb4_unicode_ci", TEXT, True),
            ("utf8mb3", "utf8mb3_general_ci", TEXT, False),
            ("latin1", "latin1_swedish_ci", LATIN, True),
            ("latin1", "latin1_bin", LATIN, True),
            ("ascii", "ascii_general_ci", ["'a'", "'A'", "'a '", "'b'", "''"], True),
            ("gbk", "gbk_chinese_ci", [*TEXT[:3], "'张三'", "'张三 '", "'~'", "'Y'"], True),
            ("gbk", "gbk_bin", [*TEXT[:3], "'张三'", "'张三 '", "'~'", "'Y'"], True),
            ("utf16", "utf16_bin", TEXT, True),
            ("utf8mb4", "utf8mb4_de_pb_0900_ai_ci", TEXT, False),
        ]
        for kind, prefix in [
            ("CHAR(5)", 0),
            ("VARCHAR(5)", 0),
            ("VARCHAR(300)", 2),
            ("TEXT", 2),
            ("CHAR(255)", 1),
        ]
    ),
]


@pytest.fixture(scope="module")
def site(pair: Sandbox) -> Any:
    return pair.sites["a"]


@pytest.fixture(scope="module")
def logged(site: Any) -> Iterable[dict[str, tuple[ev.TableMap, list[bytes]]]]:
    """Fill a table for each type; return table maps and row images from the binlog."""
    before = executed(site)
    with contextlib.closing(site.connect()) as conn, conn.cursor() as cursor:
        cursor.execute("SET sql_mode = '', NAMES utf8mb4")
        cursor.execute("CREATE DATABASE slots")
        for number, (kind, _, values, _) in enumerate(TYPES):
            cursor.execute(f"CREATE TABLE slots.t{number} (id INT PRIMARY KEY, v {kind})")
            tuples = ",".join(f"({i},{value})" for i, value in enumerate(values))
            cursor.execute(f"INSERT INTO slots.t{number} VALUES {tuples}")
    yield _read(site, before)
    site.query("DROP DATABASE slots")


def _read(site: Any, before: GtidSet) -> dict[str, tuple[ev.TableMap, list[bytes]]]:
    out: dict[str, tuple[ev.TableMap, list[bytes]]] = {}
    for transaction, _ in transactions(site, before):
        for table, _, image in changes(transaction):
            assert image is not None
            out.setdefault(table.table, (table, []))[1].append(image)
    return out


def _equal_pairs(cursor: Any, number: int, prefix: int, count: int) -> set[tuple[int, int]]:
    """Ask a unique index of the server for the pairs of equal rows."""
    key = f"v({prefix})" if prefix else "v"
    cursor.execute(f"CREATE TABLE slots.u LIKE slots.t{number}")
    cursor.execute(f"ALTER TABLE slots.u ADD UNIQUE ({key})")
    equal = set()
    for one, two in itertools.combinations(range(count), 2):
        cursor.execute("BEGIN")
        cursor.execute(f"INSERT INTO slots.u SELECT * FROM slots.t{number} WHERE id = {one}")
        copy = f"INSERT IGNORE INTO slots.u SELECT * FROM slots.t{number} WHERE id = {two}"
        if not cursor.execute(copy):
            equal.add((one, two))
        cursor.execute("ROLLBACK")
    cursor.execute("DROP TABLE slots.u")
    return equal


@pytest.mark.parametrize("number", range(len(TYPES)), ids=lambda n: f"{TYPES[n][0]}-{TYPES[n][1]}")
@pytest.mark.filterwarnings("ignore:.*Duplicate entry")
def test_a_unique_index_and_slots_agree(site: Any, logged: Any, number: int) -> None:
    _, prefix, values, exact = TYPES[number]
    table, images = logged[f"t{number}"]
    assert len(images) == len(values)
    form = canonicalizer(table.columns[1], prefix)
    if "_de_pb_" in TYPES[number][0]:
        assert form is unknown
    slots = [s and s[1] for s in map(compile_slots(table, [((1, prefix),)]), images)]
    with contextlib.closing(site.connect()) as conn, conn.cursor() as cursor:
        equal = _equal_pairs(cursor, number, prefix, len(values))
    for one, two in itertools.combinations(range(len(values)), 2):
        if slots[one] is None or slots[two] is None:
            continue
        if (one, two) in equal:
            assert slots[one] == slots[two], (values[one], values[two])
        elif exact:
            assert slots[one] != slots[two], (values[one], values[two])


def test_most_values_have_a_slot(logged: Any) -> None:
    """Check that None is rare, as the tests above allow None everywhere."""
    found = missing = 0
    for number, (kind, prefix, _, _) in enumerate(TYPES):
        table, images = logged[f"t{number}"]
        answers = list(map(compile_slots(table, [((1, prefix),)]), images))
        if "_de_pb_" not in kind:
            missing += answers.count(None)
            found += len(answers) - answers.count(None)
    assert missing * 20 < found
