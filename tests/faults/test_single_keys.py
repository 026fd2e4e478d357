"""Concurrent writes to keys and values of every kind, once each, on real servers."""

from __future__ import annotations

import pytest

from drc.sandbox import Sandbox
from tests.faults.fix_daemon import LONG
from tests.faults.fix_duel import StartDuel, Statement

pytestmark = [pytest.mark.servers, LONG]

UNIQUE = "CREATE TABLE t (id INT PRIMARY KEY, e VARCHAR(9) UNIQUE, n INT)"
PEOPLE = "INSERT INTO t VALUES (1, 'p', 0), (2, 'q', 0)"
PARKED = ("multiple_unique_conflicts", "open")
REMOTE, LOCAL = "remote", "local"
EXISTS, DIFFERS = "insert_exists", "update_origin_differs"

SWAP = (
    "BEGIN",
    "UPDATE t SET e = 't' WHERE id = 1",
    "UPDATE t SET e = 'p' WHERE id = 2",
    "UPDATE t SET e = 'q' WHERE id = 1",
    "COMMIT",
)
COUNT = "UPDATE t SET n = 5 WHERE id = 1"


# ------------------------------------------------------------ secondary unique keys


def test_two_inserts_of_one_unique_value_are_parked(pair: Sandbox, duel: StartDuel) -> None:
    one = duel(pair, UNIQUE, PEOPLE)
    one.write("a", "INSERT INTO t VALUES (3, 'x', 0)", "INSERT INTO t VALUES (5, 'free', 0)")
    one.write("b", "INSERT INTO t VALUES (4, 'x', 0)", "INSERT INTO t VALUES (6, 'flows', 0)")
    one.meet()
    assert [row[0] for row in one.rows(site="a")] == [1, 2, 3, 5, 6]
    assert [row[0] for row in one.rows(site="b")] == [1, 2, 4, 5, 6]
    assert one.brief("a") == [("id=4", PARKED[0], "open")]
    assert one.brief("b") == [("id=3", PARKED[0], "open")]


def test_two_updates_to_one_unique_value_are_parked(pair: Sandbox, duel: StartDuel) -> None:
    one = duel(pair, UNIQUE, PEOPLE)
    one.write("a", "UPDATE t SET e = 'x' WHERE id = 1")
    one.write("b", "UPDATE t SET e = 'x' WHERE id = 2", "INSERT INTO t VALUES (6, 'flows', 0)")
    one.meet()
    assert one.rows(site="a") == [(1, "x", 0), (2, "q", 0), (6, "flows", 0)]
    assert one.rows(site="b") == [(1, "p", 0), (2, "x", 0), (6, "flows", 0)]
    assert one.brief("a") == [("id=2", PARKED[0], "open")]
    assert one.brief("b") == [("id=1", PARKED[0], "open")]


def test_a_swap_of_unique_values_wins_against_an_earlier_write(
    pair: Sandbox, duel: StartDuel
) -> None:
    one = duel(pair, UNIQUE, PEOPLE)
    one.write("b", COUNT)
    one.write("a", *SWAP)
    one.meet()
    assert one.rows() == [(1, "q", 0), (2, "p", 0)]
    one.assert_same()


def test_half_a_swap_of_unique_values_is_parked_at_both_sites(
    pair: Sandbox, duel: StartDuel
) -> None:
    one = duel(pair, UNIQUE, PEOPLE)
    one.write("a", *SWAP)
    one.write("b", COUNT)
    one.meet()
    assert one.rows(site="a") == [(1, "q", 0), (2, "p", 0)]
    assert one.rows(site="b") == [(1, "p", 5), (2, "q", 0)]
    for site in "ab":
        assert PARKED in [(entry.kind, entry.state) for entry in one.log(site)]


# ------------------------------------------------------------ keys and values

TEXT = (
    "CREATE TABLE t (s VARCHAR(9) COLLATE utf8mb4_0900_ai_ci, k INT, v VARCHAR(9),"
    " PRIMARY KEY (s, k))"
)
NAMED = "INSERT INTO t VALUES ('A', 1, 'base'), ('B', 1, 'base')"
RENAME = "UPDATE t SET s = 'a', v = 'renamed' WHERE s = 'A' AND k = 1"
OTHER = ("B", 1, "base")
# (earlier write, later write, rows afterwards); the writes are at different sites, the later wins.
SPELLED = {
    "two spellings are inserted": (
        "INSERT INTO t VALUES ('C', 2, 'first')",
        "INSERT INTO t VALUES ('c', 2, 'second')",
        [("A", 1, "base"), OTHER, ("c", 2, "second")],
    ),
    "spelled otherwise, then updated": (
        RENAME,
        "UPDATE t SET v = 'second' WHERE s = 'A'",
        [("A", 1, "second"), OTHER],
    ),
    "updated, then spelled otherwise": (
        "UPDATE t SET v = 'first' WHERE s = 'A'",
        RENAME,
        [("a", 1, "renamed"), OTHER],
    ),
    "updated, then spelled otherwise and back": (
        "UPDATE t SET v = 'first' WHERE s = 'A'",
        f"BEGIN; {RENAME}; UPDATE t SET s = 'A' WHERE s = 'a'; COMMIT",
        [("A", 1, "renamed"), OTHER],
    ),
}


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("case", SPELLED)
def test_keys_that_the_server_takes_for_equal_are_one_row(
    case: str, first: str, second: str, pair: Sandbox, duel: StartDuel
) -> None:
    one = duel(pair, TEXT, NAMED)
    earlier, later, rows = SPELLED[case]
    one.write(first, *earlier.split("; "))
    one.write(second, *later.split("; "))
    one.meet()
    assert one.rows() == rows
    one.assert_same()
    assert [entry.winner for entry in one.log(first)] == [REMOTE]
    assert [entry.winner for entry in one.log(second)] == [LOCAL]


BLOB = bytes(range(256))
VALUES: tuple[Statement, ...] = (
    ("UPDATE t SET j = %s, b = %s, n = 7 WHERE id = 1", ('{"k": [1, null, "é"]}', BLOB)),
    "UPDATE t SET j = NULL, b = NULL, n = NULL WHERE id = 1",
)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nulls_json_and_blobs_are_written_whole(
    order: tuple[int, int], pair: Sandbox, duel: StartDuel
) -> None:
    one = duel(
        pair,
        "CREATE TABLE t (id INT PRIMARY KEY, j JSON, b BLOB, n INT)",
        "INSERT INTO t VALUES (1, '{}', 'x', 0)",
    )
    for site, number in zip("ab", order, strict=True):
        one.write(site, VALUES[number])
    one.meet()
    one.assert_same()
    ((_, _, blob, n),) = one.rows()
    assert (blob, n) == ((BLOB, 7) if order[1] == 0 else (None, None))
    assert one.brief("a") == [("id=1", DIFFERS, REMOTE)]
    assert one.brief("b") == [("id=1", DIFFERS, LOCAL)]


# ------------------------------------------------------------ transactions and servers

PLAIN = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))"
BASE = "INSERT INTO t VALUES (1, 'one'), (2, 'two')"
MANY = 5000
LARGE = (
    "BEGIN",
    "UPDATE t SET v = 'large' WHERE id = 1",
    f"INSERT INTO t WITH RECURSIVE s AS (SELECT 10 i UNION ALL SELECT i + 1 FROM s"
    f" WHERE i < {MANY + 9}) SELECT i, REPEAT('x', 100) FROM s",
    "UPDATE t SET v = 'large, too' WHERE id = 2",
    "COMMIT",
)
XA = ("XA START 'x'", "UPDATE t SET v = 'xa' WHERE id = 1", "XA END 'x'", "XA PREPARE 'x'")
RIVAL = "UPDATE t SET v = 'rival' WHERE id IN (1, 2)"


@pytest.mark.parametrize("first", ["large", "rival"])
def test_a_large_transaction_meets_a_rival(first: str, pair: Sandbox, duel: StartDuel) -> None:
    one = duel(pair, PLAIN, BASE, apply={"transaction_stream_bytes": 1 << 16})
    writes = [("a", LARGE), ("b", (RIVAL,))]
    for site, statements in writes if first == "large" else reversed(writes):
        one.write(site, *statements)
    one.meet()
    one.assert_same()
    rows = one.rows()
    assert len(rows) == MANY + 2
    stays = ["rival", "rival"] if first == "large" else ["large", "large, too"]
    assert [v for _, v in rows[:2]] == stays
    assert [entry.key for entry in one.log("b")] == ["id=1", "id=2"]


@pytest.mark.parametrize("first", ["xa", "rival"])
def test_an_xa_transaction_meets_a_rival(first: str, pair: Sandbox, duel: StartDuel) -> None:
    one = duel(pair, PLAIN, BASE)
    writes = [("a", (*XA, "XA COMMIT 'x'")), ("b", (RIVAL,))]
    for site, statements in writes if first == "xa" else reversed(writes):
        one.write(site, *statements)
    one.meet()
    one.assert_same()
    assert one.rows() == [(1, "rival" if first == "xa" else "xa"), (2, "rival")]
    assert {entry.key for entry in one.log("b")} == {"id=1"}


OLD = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))"


@pytest.mark.parametrize("versions", ["pair80", "pair_mixed"])
def test_servers_without_tags_agree(
    versions: str, duel: StartDuel, request: pytest.FixtureRequest
) -> None:
    one = duel(request.getfixturevalue(versions), OLD, f"{BASE}, (3, 'three'), (4, 'four')")
    for site in "ab":
        one.write(
            site,
            f"UPDATE t SET v = 'from {site}' WHERE id = 1",
            f"INSERT INTO t VALUES (7, 'from {site}')",
        )
    one.write("a", "DELETE FROM t WHERE id = 2", "UPDATE t SET v = 'a' WHERE id = 3")
    one.write("b", "UPDATE t SET v = 'b' WHERE id = 2", "DELETE FROM t WHERE id = 3")
    one.meet()
    one.assert_same()
    assert one.rows() == [(1, "from b"), (2, "b"), (4, "four"), (7, "from b")]
    assert {entry.winner for entry in one.log("a")} == {REMOTE}
    assert {entry.winner for entry in one.log("b")} == {LOCAL}
    assert {entry.key for entry in one.log("a")} == {"id=1", "id=2", "id=3", "id=7"}
