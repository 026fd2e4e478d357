"""Servers of a site: past servers count, too, so a promotion makes no transaction native."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from drc import mysql
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.clock import Mark
from drc.errors import DataError, TransientError
from drc.gtid import GtidSet, format_uuid
from drc.monitor import pulse as pulses
from drc.monitor.status import SiteStatus, combine
from drc.mysql import ServerFacts
from drc.preflight.facts import SiteFacts, foreign_uuids
from drc.schema import servers as schema
from drc.schema.facts import LedgerFacts
from drc.schema.servers import remembered_if_readable
from drc.schema.uuids import Servers
from drc.site.watcher import _Candidate, _Read
from drc.source.tagger import Tagger
from drc.testing.binlog import FakeBinlog
from drc.verify.counts import BinlogCount
from tests.unit.monitor.test_status import CONFIG

A, OLD, NEW = b"\xaa" * 16, b"\xbb" * 16, b"\xcc" * 16  # site b had server OLD and now has NEW
A_TEXT, OLD_TEXT = format_uuid(A), format_uuid(OLD)
PROMOTED = Servers.of(("a", A), ("b", OLD), ("b", NEW))


def _facts(uuid: bytes, executed: str) -> ServerFacts:
    return ServerFacts(
        version=(8, 0, 31),
        version_text="8.0.31",
        server_uuid=uuid,
        server_id=1,
        gtid_executed=GtidSet.parse(executed),
        gtid_purged=GtidSet(),
        read_only=False,
        has_tags=False,
    )


def _connect(_config: object, site: str, *_: object, **__: object) -> Any:
    return SimpleNamespace(site=site, close=lambda: None)


def test_servers_of_several_sources_add_up() -> None:
    assert Servers.of(("a", A), ("b", OLD)) | Servers.of(("b", NEW)) == PROMOTED
    assert PROMOTED.at("b") == PROMOTED.foreign_to("a") == PROMOTED.foreign_to("c") - {A}
    assert PROMOTED.foreign_to("b") == {A}
    assert Servers().at("a") == Servers().foreign_to("a") == frozenset()
    noted_twice = Servers.of(("a", A), ("b", A))  # the caller must refuse this server
    assert noted_twice.foreign_to("a") == {A}


def test_a_table_that_cannot_be_read_is_no_servers_but_a_lost_link_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(error: Exception) -> Any:
        def ask(*_: object) -> None:
            raise error

        return ask

    monkeypatch.setattr(mysql, "ask", refuse(DataError("no right", errno=1142)))
    assert remembered_if_readable(SimpleNamespace()) == Servers()  # type: ignore[arg-type]
    monkeypatch.setattr(mysql, "ask", refuse(TransientError("gone")))
    with pytest.raises(TransientError):
        remembered_if_readable(SimpleNamespace())  # type: ignore[arg-type]


def test_a_stream_remembers_the_origin_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a stream notes the server of the origin, too.

    Otherwise the target learns of a promoted origin too late: when another stream begins.
    """
    noted: list[Any] = []
    now = {"a": A, "b": NEW}
    monkeypatch.setattr(mysql, "connect", _connect)
    monkeypatch.setattr(mysql, "tag_session", lambda _: None)
    monkeypatch.setattr(schema, "remembered", lambda _: Servers.of(("a", A), ("b", OLD)))
    monkeypatch.setattr(schema, "ask_servers", lambda _, sites: {site: now[site] for site in sites})
    monkeypatch.setattr(mysql, "ask", lambda _conn, _sql, values: noted.append(values))
    assert schema.foreign_uuids(CONFIG, "b", at="a") == {A}
    assert noted == [("b", format_uuid(NEW))]
    assert schema.foreign_uuids(CONFIG, "a", at="a") == {OLD, NEW}


def test_a_server_that_the_caller_knows_is_noted_and_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    noted: list[Any] = []

    def answers(_: object, sites: Collection[str]) -> dict[str, bytes]:
        asked.extend(sites)
        return dict.fromkeys(sites, A)

    monkeypatch.setattr(mysql, "connect", _connect)
    monkeypatch.setattr(mysql, "tag_session", lambda _: None)
    monkeypatch.setattr(schema, "remembered", lambda _: Servers.of(("a", A), ("b", OLD)))
    monkeypatch.setattr(schema, "ask_servers", answers)
    monkeypatch.setattr(mysql, "ask", lambda _conn, _sql, values: noted.append(values))
    assert schema.foreign_uuids(CONFIG, "b", at="a", server=NEW) == {A}
    assert asked == ["a"]
    assert noted == [("b", format_uuid(NEW))]


def test_status_counts_nothing_of_the_server_before_a_promotion() -> None:
    site = SiteStatus(_facts(A, f"{A_TEXT}:1-9,{OLD_TEXT}:1-4"), {})
    ledger = {"a": LedgerFacts(GtidSet.parse(f"{A_TEXT}:1-7"), 4)}
    promoted = SiteStatus(_facts(NEW, ""), ledger, servers=PROMOTED)
    streams = combine(CONFIG, {"a": site, "b": promoted}, {}, 0).streams
    assert [s.behind_set for s in streams if s.origin == "a"] == [f"{A_TEXT}:8-9"]


def test_status_never_takes_the_origins_own_server_for_another_sites() -> None:
    site = SiteStatus(_facts(A, f"{A_TEXT}:1-9"), {}, servers=Servers.of(("b", A)))
    ledger = {"a": LedgerFacts(GtidSet.parse(f"{A_TEXT}:1-7"), 4)}
    sites = {"a": site, "b": SiteStatus(_facts(NEW, ""), ledger)}
    streams = combine(CONFIG, sites, {}, 0).streams
    assert [s.behind_set for s in streams if s.origin == "a"] == [f"{A_TEXT}:8-9"]


def test_a_pulse_keeps_the_server_that_it_saw_before_a_promotion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulses.Pulse, "_run", lambda _: None)
    monkeypatch.setattr(mysql, "connect", _connect)
    monkeypatch.setattr(mysql, "ask", lambda *_: [])
    found = {site: pulses.Pulse(CONFIG, site, "source") for site in "ab"}
    for site, uuid in (("a", A), ("b", OLD), ("b", NEW)):
        facts = _facts(uuid, "")
        monkeypatch.setattr(mysql, "server_facts", lambda _, facts=facts: facts)
        found[site]._connect()
    assert pulses.foreign(found, "a") == {OLD, NEW}
    assert pulses.foreign(found, "b") == {A}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Servers(), SiteFacts({}, server_uuid=NEW, servers=Servers.of(("b", OLD)))),
        (PROMOTED, SiteFacts({}, reached=False)),
    ],
)
def test_preflight_knows_the_server_before_a_promotion(a: Servers, b: SiteFacts) -> None:
    facts = {"a": SiteFacts({}, server_uuid=A, servers=a), "b": b}
    assert foreign_uuids("a", facts) == {OLD, NEW}


def test_an_audit_takes_the_server_before_a_promotion_for_the_same_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}
    facts = {"a": _facts(A, ""), "b": _facts(NEW, "")}

    def count(_config: object, site: str, *, foreign: Any, **_: object) -> BinlogCount:
        asked[site] = foreign
        return BinlogCount(foreign, SimpleNamespace())  # type: ignore[arg-type]

    auditing = importlib.import_module("drc.verify.audit")  # drc.verify.audit is a function
    monkeypatch.setattr(mysql, "connect", _connect)
    monkeypatch.setattr(mysql, "server_facts", lambda conn: facts[conn.site])
    monkeypatch.setattr(auditing, "remembered", lambda _: Servers.of(("b", OLD)))
    monkeypatch.setattr(auditing, "count", count)
    auditing.audit(CONFIG)
    assert asked == {"a": {OLD, NEW}, "b": {A}}


def _ddl(uuid: bytes) -> RawTransaction:
    binlog = FakeBinlog(uuid)
    binlog.gtid()
    binlog.query(b"CREATE TABLE t (i INT)", b"s")
    out: list[RawTransaction] = []
    framer = Framer(lambda ts: out.extend(ts), 1 << 20)
    framer.feed(bytes(binlog.data))
    return out[0]


def test_a_watcher_learns_of_a_promotion_while_it_reads() -> None:
    """Check a schema change, whose GTID has the UUID of the other site's new server."""
    tagger = Tagger({OLD}, Mark())
    assert tagger.tag([_ddl(NEW)])[0].kind is TransactionKind.DDL
    native = GtidSet.parse(f"{A_TEXT}:1-5,{format_uuid(NEW)}:1")
    read = _Read(CONFIG, A, GtidSet(), tagger, native.copy(), GtidSet())
    read.candidates = deque([_Candidate(GtidSet(), Mark(), native.copy())])
    read.learn(PROMOTED.foreign_to("a"))
    assert str(read.native) == str(read.candidates[0].native) == f"{A_TEXT}:1-5"
    assert tagger.tag([_ddl(NEW)])[0].kind is TransactionKind.SKIPPED
    assert not tagger.learn(PROMOTED.foreign_to("a"))


def test_a_watcher_never_takes_its_own_server_for_another_sites() -> None:
    """Its writes would count as replicated, and no conflict with them would be found."""
    native = GtidSet.parse(f"{A_TEXT}:1-5")
    read = _Read(CONFIG, A, GtidSet(), Tagger({OLD}, Mark()), native.copy(), GtidSet())
    read.learn(Servers.of(("b", A), ("b", NEW)).foreign_to("a"))
    assert read.native == native
    assert read.tagger.tag([_ddl(A)])[0].kind is TransactionKind.DDL
