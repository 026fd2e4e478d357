"""Status: the servers' answers count; fresh snapshots of daemons explain the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from structlog.testing import capture_logs

from drc import config as configuration
from drc import mysql
from drc.errors import TransientError
from drc.gtid import GtidSet, format_uuid
from drc.monitor.document import Status, StreamReport
from drc.monitor.report import Reporter
from drc.monitor.status import FRESH_US, SiteStatus, combine
from drc.schema.facts import LedgerFacts
from drc.source.resume import backlog
from drc.worker.snapshot import (
    ErrorFields,
    SavedSnapshot,
    Snapshot,
    StreamSnapshot,
    WatcherSnapshot,
)

UUID_A, UUID_B = b"\xaa" * 16, b"\xbb" * 16
A, B = format_uuid(UUID_A), format_uuid(UUID_B)
NOW = 10**15
ACCOUNT = {"user": "u", "password_env": "X"}
CONFIG = configuration.parse(
    {
        "name": "shop",
        "sites": {n: {"host": n, "source": ACCOUNT, "applier": ACCOUNT} for n in "ab"},
    },
    Path("/"),
)


def _site(uuid: bytes, executed: str, *, tags: bool = True, **ledger: str) -> SiteStatus:
    facts = mysql.ServerFacts(
        version=(9, 7, 4),
        version_text="9.7.4",
        server_uuid=uuid,
        server_id=1,
        gtid_executed=GtidSet.parse(executed),
        gtid_purged=GtidSet(),
        read_only=False,
        has_tags=tags,
    )
    known = {o: LedgerFacts(GtidSet.parse(text), 4) for o, text in ledger.items()}
    return SiteStatus(facts, known)


def _stream(status: Status, origin: str) -> StreamReport:
    return next(s for s in status.streams if s.origin == origin)


def _said(applied: str, saved_us: int = NOW) -> dict[str, SavedSnapshot]:
    stream = StreamSnapshot(origin="a", target="b", state="running", applied_set=applied)
    return {"b": SavedSnapshot(saved_us=saved_us, streams=[stream])}


def test_backlog_counts_native_transactions_only() -> None:
    executed = GtidSet.parse(f"{A}:1-10:drc:1-99:mine:1-2,{B}:1-5")
    behind = backlog(executed, GtidSet.parse(f"{A}:1-8"), {UUID_B})
    assert str(behind) == f"{A}:9-10:mine:1-2"


def test_servers_alone() -> None:
    sites = {
        "a": _site(UUID_A, f"{A}:1-10:drc:1-3", b=f"{B}:1-4"),
        "b": _site(UUID_B, f"{B}:1-4:drc:1-9", a=f"{A}:1-7"),
    }
    status = combine(CONFIG, sites, {}, NOW)
    there, back = _stream(status, "a"), _stream(status, "b")
    assert (there.transactions_behind, there.behind_set) == (3, f"{A}:8-10")
    assert back.transactions_behind == 0
    assert there.state == "unknown"
    assert "drc run" in there.reason
    assert not status.ok  # whether a daemon runs is not known


def test_a_fresh_snapshot_tells_of_what_was_passed_over() -> None:
    sites = {
        "a": _site(UUID_A, f"{A}:1-10", b=f"{B}:1"),
        "b": _site(UUID_B, f"{B}:1", a=f"{A}:1-7"),
    }
    fresh = _stream(combine(CONFIG, sites, _said(f"{A}:1-9"), NOW), "a")
    assert (fresh.state, fresh.transactions_behind) == ("running", 1)
    stale = _stream(combine(CONFIG, sites, _said(f"{A}:1-9", NOW - FRESH_US), NOW), "a")
    assert (stale.state, stale.transactions_behind) == ("unknown", 3)
    assert stale.snapshot


def test_a_site_that_is_away_and_a_stream_that_never_ran() -> None:
    away = SiteStatus(error=TransientError("gone", hint="start it"))
    sites = {"a": away, "b": _site(UUID_B, f"{B}:1-4", a=f"{A}:1-7")}
    status = combine(CONFIG, sites, {}, NOW)
    assert _stream(status, "a").transactions_behind is None
    assert status.sites["a"].error == ErrorFields(message="gone", hint="start it")
    sites["a"] = _site(UUID_A, f"{A}:1")
    assert _stream(combine(CONFIG, sites, {}, NOW), "b").reason == "this stream has not begun"


def test_below_tags_the_count_is_an_upper_bound() -> None:
    sites = {
        "a": _site(UUID_A, f"{A}:1-10", tags=False),
        "b": _site(UUID_B, f"{B}:1", a=f"{A}:1-7"),
    }
    assert _stream(combine(CONFIG, sites, {}, NOW), "a").exact is False


class _Store:
    def __init__(self) -> None:
        self.saved: list[Any] = []

    def save_status(self, site: str, status: Snapshot) -> None:
        self.saved.append((site, status))

    def save_lag(self, buckets: Sequence[Any]) -> None: ...

    def wanted(self, site: str) -> dict[str, Any]:
        return {}

    def statuses(self) -> dict[str, SavedSnapshot]:
        return {}


def test_changes_of_state_are_logged_once() -> None:
    store = _Store()
    reporter = Reporter(store)
    stream = StreamSnapshot(origin="a", target="b", state="running", applied_set="x")
    error = ErrorFields(message="gone", hint="start it")
    steps = [
        stream,
        stream,
        replace(stream, state="connecting", error=error),
        replace(stream, state="connecting", error=error),
        stream,
        replace(stream, state="stopped", error=error),
    ]
    with capture_logs() as logs:
        for step in steps:
            reporter.save_status("b", Snapshot(streams=[step]))
    assert [e["log_level"] for e in logs] == ["info", "warning", "info", "error"]
    assert logs[1]["hint"] == "start it"
    assert logs[3]["stream"] == "a->b"
    assert store.saved == [("b", Snapshot(streams=[step])) for step in steps]


def test_a_spill_that_fails_is_logged_once() -> None:
    reporter = Reporter(_Store())
    with capture_logs() as logs:
        for error in ("", "disk full", "disk full", "", "disk full"):
            watcher = WatcherSnapshot(state="running", forgotten=7, spill_error=error)
            reporter.save_status("b", Snapshot(watcher=watcher))
    assert [e["log_level"] for e in logs] == ["info", "warning", "warning"]
    assert (logs[1]["error"], logs[1]["forgotten"], logs[1]["site"]) == ("disk full", 7, "b")
