"""Causes that keep a stream from applying: a table of cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drc.errors import DataError, ReseedError, TransientError
from drc.monitor.blocked import Blocked, Facts, Holder, explain

FINE = Facts("a", "b", {"a": ("db-a", 3306), "b": ("db-b", 3307)})
HOLDER = Holder("shop.orders", 42, "app@10.0.0.7", 35, "")
BUSY = replace(FINE, waited_s=14, phase="run", table="shop.big", transactions=2, gtids="u:1-2")
ERROR = DataError("row is missing", table="shop.t", hint="mend it")
CASES = {
    "paused": (
        replace(FINE, state="paused", reason="a dump"),
        "paused",
        "a dump",
        "drc resume a b",
    ),
    "by request": (replace(FINE, state="stopped"), "stopped", "by request", "drc start a b"),
    "on an error": (
        replace(FINE, state="stopped", error=ERROR),
        "stopped",
        "of shop.t: row is missing; mend it",
        "drc start a b",
    ),
    "reseed": (
        replace(FINE, state="need_reseed", error=ReseedError("purged")),
        "need_reseed",
        "purged",
        "drc start a b",
    ),
    "target away": (
        replace(FINE, away={"a": "gone", "b": "refused"}, waited_s=99),
        "target",
        "of b does not answer: refused",
        "systemctl start mysqld  # at db-b:3307",
    ),
    "source away": (
        replace(FINE, state="connecting", error=TransientError("lost"), away={"a": "refused"}),
        "source",
        "of a does not answer: refused",
        "systemctl start mysqld  # at db-a:3306",
    ),
    "another site away": (replace(FINE, away={"c": "refused"}), "", "", ""),
    "broker": (
        replace(FINE, broker_away="k1:9092", silent_s=99, silence_max_s=8),
        "broker",
        "no broker of a's topic answers: k1:9092",
        "systemctl start kafka",
    ),
    "interrupted": (
        replace(FINE, state="connecting", error=TransientError("link lost", stage="read")),
        "source",
        "link lost",
        "drc check",
    ),
    "log interrupted": (
        replace(FINE, state="connecting", error=TransientError("no broker", stage="fetch")),
        "broker",
        "no broker",
        "drc check",
    ),
    "just dialling": (replace(FINE, state="connecting", waited_s=1), "", "", ""),
    "dialling for long": (
        replace(FINE, state="connecting", reason="dialling", waited_s=9),
        "connecting",
        "for 9 s: dialling",
        "drc check",
    ),
    "row lock": (
        replace(BUSY, waited_s=2, holder=HOLDER),
        "lock",
        "a lock on shop.orders, which app@10.0.0.7 has held for up to 35 s in connection 42 of b,"
        " which is idle",
        'mysql -h db-b -P 3307 -e "KILL 42"',
    ),
    "global lock": (
        replace(BUSY, holder=HOLDER._replace(table="", statement="SELECT 1")),
        "lock",
        "the whole server, which app@10.0.0.7 has held for up to 35 s in connection 42 of b,"
        " which runs 'SELECT 1'",
        "KILL 42",
    ),
    "a moment": (replace(BUSY, waited_s=0.9, holder=HOLDER), "", "", ""),
    "slow table": (BUSY, "table", "2 transactions (u:1-2) have been at work on shop.big", "SHOW"),
    "a bit slow": (replace(BUSY, waited_s=2.5), "", "", ""),
    "schema change": (
        replace(BUSY, phase="schema change", statement="ALTER TABLE t"),
        "table",
        "a schema change has run for 14 s: ALTER TABLE t at b",
        "SHOW FULL PROCESSLIST",
    ),
    "watcher": (replace(BUSY, phase="certify"), "watcher", "binlog of b itself", "drc status"),
    "not told": (replace(BUSY, locks_hidden=True), "table", "performance_schema", "GRANT SELECT"),
    "publisher": (
        replace(FINE, silent_s=9, silence_max_s=8),
        "publisher",
        "a has published nothing for 9 s",
        "drc run --site a",
    ),
    "an idle log": (replace(FINE, silent_s=7, silence_max_s=8), "", "", ""),
    "no log": (replace(FINE, silent_s=99), "", "", ""),
    "fine": (FINE, "", "", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_says_what_holds_a_stream(name: str) -> None:
    facts, what, part, command = CASES[name]
    said = explain(facts)
    if not what:
        assert said is None
        return
    assert isinstance(said, Blocked)
    assert said.what == what
    assert part in said.sentence
    assert command in said.command
