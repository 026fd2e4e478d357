"""Each kind of concurrent write, once, on real servers: the row that stays, and the entries."""

from __future__ import annotations

import pytest

from drc.sandbox import Sandbox
from tests.faults.fix_daemon import LONG
from tests.faults.fix_duel import Duel, StartDuel

pytestmark = [pytest.mark.servers, LONG]

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))"
ROWS = "INSERT INTO t VALUES (1, 'one'), (2, 'two')"
REMOTE, LOCAL, OPEN = "remote", "local", "open"

INSERT = "INSERT INTO t VALUES (3, 'from {}')"
UPDATE = "UPDATE t SET v = 'from {}' WHERE id = 1"
DELETE = "DELETE FROM t WHERE id = 1"
AGAIN = "REPLACE INTO t VALUES (1, 'again')"
KEPT = [(1, "one"), (2, "two")]

EXISTS, DIFFERS, DELETED = "insert_exists", "update_origin_differs", "update_deleted"
DELETE_DIFFERS, DELETE_MISSING = "delete_origin_differs", "delete_missing"

# (write of a, later write of b, rows afterwards, (key, kind) at a, (key, kind) at b). The later
# write wins: b's write is remote at a, and local at b.
CASES = {
    "insert and insert": (INSERT, INSERT, [*KEPT, (3, "from b")], ("3", EXISTS), ("3", EXISTS)),
    "update and update": (
        UPDATE,
        UPDATE,
        [(1, "from b"), KEPT[1]],
        ("1", DIFFERS),
        ("1", DIFFERS),
    ),
    "update, then delete": (UPDATE, DELETE, KEPT[1:], ("1", DELETE_DIFFERS), ("1", DELETED)),
    "delete, then update": (
        DELETE,
        UPDATE,
        [(1, "from b"), KEPT[1]],
        ("1", DELETED),
        ("1", DELETE_DIFFERS),
    ),
    "delete and delete": (DELETE, DELETE, KEPT[1:], ("1", DELETE_MISSING), ("1", DELETE_MISSING)),
    "insert, then one that came and went": (
        INSERT,
        f"BEGIN; {INSERT}; DELETE FROM t WHERE id = 3; COMMIT",
        KEPT,
        ("3", DELETE_DIFFERS),
        ("3", DELETED),
    ),
    "one that came and went, then insert": (
        f"BEGIN; {INSERT}; DELETE FROM t WHERE id = 3; COMMIT",
        INSERT,
        [*KEPT, (3, "from b")],
        ("3", DELETED),
        ("3", DELETE_DIFFERS),
    ),
    "key moved away, then update of the old one": (
        "UPDATE t SET id = 1 + 6 WHERE id = 1",
        UPDATE,
        [(1, "from b"), KEPT[1], (7, "one")],
        ("1", DELETED),
        ("1", DELETE_DIFFERS),
    ),
    "update, then its key moved away": (
        UPDATE,
        "UPDATE t SET id = 1 + 6 WHERE id = 1",
        [KEPT[1], (7, "one")],
        ("1", DELETE_DIFFERS),
        ("1", DELETED),
    ),
    "insert, then a key moved to it": (
        INSERT,
        "UPDATE t SET id = 3 WHERE id = 1",
        [KEPT[1], (3, "one")],
        ("3", EXISTS),
        ("3", EXISTS),
    ),
}


def begin(duel: StartDuel, box: Sandbox, *more: str, **options: object) -> Duel:
    return duel(box, TABLE, ROWS, *more, **options)


def run(one: Duel, site: str, statements: str) -> None:
    one.write(site, *statements.format(*site * 3).split("; "))


@pytest.mark.parametrize("case", CASES)
def test_the_later_write_stays(case: str, pair: Sandbox, duel: StartDuel) -> None:
    first, second, rows, (key_a, kind_a), (key_b, kind_b) = CASES[case]
    one = begin(duel, pair)
    run(one, "a", first)
    run(one, "b", second)
    one.meet()
    assert one.rows() == rows
    one.assert_same()
    assert one.brief("a") == [(f"id={key_a}", kind_a, REMOTE)]
    assert one.brief("b") == [(f"id={key_b}", kind_b, LOCAL)]


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_a_row_deleted_and_inserted_again_meets_an_update(
    first: str, second: str, pair: Sandbox, duel: StartDuel
) -> None:
    one = begin(duel, pair)
    one.write(first, DELETE, AGAIN)
    run(one, second, UPDATE)
    one.meet()
    assert one.rows() == [(1, f"from {second}"), KEPT[1]]
    one.assert_same()
    assert {winner for _, _, winner in one.brief(first)} == {REMOTE}
    assert {winner for _, _, winner in one.brief(second)} == {LOCAL}


def test_of_a_transaction_only_the_row_with_a_rival_is_judged(
    pair: Sandbox, duel: StartDuel
) -> None:
    one = begin(duel, pair)
    one.write("a", "BEGIN", UPDATE.format("a"), "UPDATE t SET v = 'free' WHERE id = 2", "COMMIT")
    run(one, "b", UPDATE)
    one.meet()
    assert one.rows() == [(1, "from b"), (2, "free")]
    one.assert_same()
    assert one.brief("a") == [("id=1", DIFFERS, REMOTE)]
    assert one.brief("b") == [("id=1", DIFFERS, LOCAL)]


def test_writes_before_and_after_a_conflict_flow(pair: Sandbox, duel: StartDuel) -> None:
    one = begin(duel, pair)
    inserts = [f"INSERT INTO t VALUES ({key}, 'a')" for key in range(10, 60)]
    one.write("a", *inserts[:25], UPDATE.format("a"), *inserts[25:])
    run(one, "b", UPDATE)
    one.meet()
    one.assert_same()
    assert len(one.rows()) == 52
    assert one.brief("b") == [("id=1", DIFFERS, LOCAL)]


def test_what_has_no_rival_but_is_missing_or_there_is_told(pair: Sandbox, duel: StartDuel) -> None:
    """Make the sites differ first, by writes past the binlog."""
    one = begin(duel, pair, "INSERT INTO t VALUES (4, 'four'), (5, 'five')")
    with pair.sites["b"].connect("root") as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"DELETE FROM `{one.schema}`.t WHERE id IN (1, 5)")
        cursor.execute(f"INSERT INTO `{one.schema}`.t VALUES (3, 'astray')")
    run(one, "a", f"{UPDATE}; {INSERT}; DELETE FROM t WHERE id = 5")
    one.meet()
    assert one.rows() == [(1, "from a"), KEPT[1], (3, "from a"), (4, "four")]
    one.assert_same()
    assert one.log("a") == []
    assert one.log("b") == [
        ("id=1", "update_missing", REMOTE, "auto", 0),
        ("id=3", EXISTS, REMOTE, "auto", 0),
        ("id=5", DELETE_MISSING, REMOTE, "auto", 0),
    ]


# ------------------------------------------------------------ policies


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_a_preferred_site_wins_whoever_was_later(
    first: str, second: str, pair: Sandbox, duel: StartDuel
) -> None:
    priority = {"policy": "site_priority", "sites": ["b", "a"]}
    one = begin(duel, pair, conflicts=priority)
    run(one, first, UPDATE)
    run(one, second, UPDATE)
    one.meet()
    assert one.rows() == [(1, "from b"), KEPT[1]]
    one.assert_same()
    assert one.brief("a") == [("id=1", DIFFERS, REMOTE)]
    assert one.brief("b") == [("id=1", DIFFERS, LOCAL)]


def test_a_parked_row_stays_as_each_site_has_it(
    pair: Sandbox, duel: StartDuel, schema: str
) -> None:
    one = begin(duel, pair, conflicts={"tables": {f"{schema}.t": {"policy": "park"}}})
    run(one, "a", f"{UPDATE}; INSERT INTO t VALUES (8, 'free')")
    run(one, "b", UPDATE)
    one.meet()
    assert one.rows(site="a") == [(1, "from a"), KEPT[1], (8, "free")]
    assert one.rows(site="b") == [(1, "from b"), KEPT[1], (8, "free")]
    for site in "ab":
        assert one.log(site) == [("id=1", DIFFERS, OPEN, "open", 1)]
    run(one, "a", "UPDATE t SET v = 'agreed' WHERE id = 1")  # a has seen b's write, which b keeps
    one.running.drain(schema)
    assert one.rows() == [(1, "agreed"), KEPT[1], (8, "free")]
    one.assert_same()
