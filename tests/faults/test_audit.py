"""The audit against real binlogs: silent when all is right, and each kind of error is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drc import mysql
from drc.gtid import GtidSet
from drc.sandbox import Sandbox
from drc.verify import Audit, audit
from tests.faults.fix_daemon import LONG, Daemon, StartDaemon

pytestmark = pytest.mark.servers

ROWS = 20


def executed(box: Sandbox) -> dict[str, GtidSet]:
    out = {}
    for name, site in box.sites.items():
        with site.connect("root") as conn:
            out[name] = mysql.server_facts(conn).gtid_executed
    return out


def write(box: Sandbox, site: str, schema: str, ids: range, *before: str) -> None:
    with box.sites[site].connect("app", database=schema) as conn, conn.cursor() as cursor:
        for statement in before:
            cursor.execute(statement)
        for i in ids:
            cursor.execute("INSERT INTO t VALUES (%s, REPEAT('x', 300))", (i,))


@pytest.fixture(
    params=[pytest.param("pair", marks=LONG), pytest.param("pair80", marks=LONG), "pair_mixed"]
)
def replicated(
    request: pytest.FixtureRequest, daemon: StartDaemon, schema: str
) -> tuple[Daemon, Callable[[], Audit]]:
    """Write all kinds of transactions at both sites; return the stopped daemon and an audit."""
    box: Sandbox = request.getfixturevalue(request.param)
    running = daemon(box)
    since = executed(box)
    box.sites["a"].query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v TEXT)", account="app")
    running.drain(schema)
    write(box, "a", schema, range(ROWS))
    write(box, "b", schema, range(100, 100 + ROWS), "SET binlog_transaction_compression = ON")
    with box.sites["b"].connect("app", database=schema) as conn, conn.cursor() as cursor:
        for xid, outcome in (("kept", "COMMIT"), ("lost", "ROLLBACK")):
            cursor.execute(f"XA START '{xid}'")
            cursor.execute("INSERT INTO t VALUES (200, %s)", (xid,))
            for step in ("END", "PREPARE", outcome):
                cursor.execute(f"XA {step} '{xid}'")
            cursor.execute("DELETE FROM t WHERE id = 200")
    running.drain(schema)
    assert running.stop() == 0
    return running, lambda: audit(running.config, since)


def test_all_is_accounted_for(replicated: tuple[Daemon, Callable[[], Audit]]) -> None:
    found = replicated[1]()
    assert found.ok, found.document()
    numbers = {d.origin: (d.required, d.arrived >= d.required) for d in found.directions}
    # Each side has a marker twice; the last DELETE of b changes nothing.
    assert numbers == {"a": (1 + ROWS + 2, True), "b": (ROWS + 2 + 1 + 2, True)}


def test_every_kind_of_error_is_named(
    replicated: tuple[Daemon, Callable[[], Audit]], schema: str
) -> None:
    running, account = replicated
    a, b = running.box.sites.values()
    before = executed(running.box)
    write(running.box, "a", schema, range(50, 52))
    missing = executed(running.box)["a"] - before["a"]
    claim = "UPDATE drc.ledger SET gtids = %s WHERE origin = 'a' LIMIT 1"
    with b.connect("root") as conn, conn.cursor() as cursor:
        twice = GtidSet.parse(
            b.query("SELECT gtids FROM drc.ledger WHERE origin = 'a' ORDER BY seq DESC LIMIT 1")[0][
                0
            ]
        )
        cursor.execute(claim, (str(twice),))
        cursor.execute("UPDATE drc.ledger SET gtids = '' WHERE origin = 'a'")
        cursor.execute(claim, (str(twice),))
        (uuid_b,) = b.query("SELECT @@server_uuid")[0]
        cursor.execute(claim, (f"{uuid_b}:1",))
        (uuid_a,) = a.query("SELECT @@server_uuid")[0]
        cursor.execute(claim, (f"{uuid_a}:999999",))
    found = account()
    assert not found.ok
    to_b, to_a = found.directions
    assert (to_b.missing, to_b.twice) == (str(missing), str(twice))
    assert (to_b.bounced, to_b.unknown) == (f"{uuid_b}:1", f"{uuid_a}:999999")
    assert to_a.ok
