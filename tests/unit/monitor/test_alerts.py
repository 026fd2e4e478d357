"""Alerts: raised once, repeated, resolved once, without flapping."""

from __future__ import annotations

from msgspec.structs import replace

from drc.config import AlertsConfig
from drc.monitor.alerts import Alerts
from drc.worker.snapshot import (
    Behind,
    CanarySnapshot,
    ErrorFields,
    Hold,
    Snapshot,
    StreamSnapshot,
    WatcherSnapshot,
)

S = 1_000_000
CONFIG = AlertsConfig(behind_s=60, blocked_s=30, clear_s=10, repeat_s=100)


def _said(
    *,
    behind: float = 0,
    what: str = "",
    since_s: float = 0,
    late: int = 0,
    watcher: str = "running",
    forgotten: int = 0,
    spill_error: str = "",
    canary: CanarySnapshot | None = None,
) -> Snapshot:
    held = Hold(what=what, sentence="why", command="do", since_us=int(since_s * S))
    stream = StreamSnapshot(
        origin="a",
        target="b",
        state="running",
        behind=Behind(behind),
        blocked=held if what else None,
        canary=canary,
    )
    seen = WatcherSnapshot(
        state=watcher,
        reason="r",
        late_conflicts=late,
        forgotten=forgotten,
        spill_error=spill_error,
    )
    return Snapshot(streams=[stream], watcher=seen)


def _failed(what: str) -> Snapshot:
    """Return the snapshot of a stream that an error holds."""
    said = _said(what=what)
    failed = replace(said.streams[0], error=ErrorFields(message="row is gone"))
    return replace(said, streams=[failed])


def _events(alerts: Alerts, at_s: float, said: Snapshot) -> list[tuple[str, str]]:
    return [(n.event, n.alert.id) for n in alerts.look("b", said, int(at_s * S))]


def test_raised_once_repeated_and_resolved_once() -> None:
    alerts = Alerts(CONFIG)
    held = _said(what="lock", since_s=100)
    assert _events(alerts, 120, held) == []
    assert _events(alerts, 131, held) == [("raised", "a->b/blocked")]
    assert _events(alerts, 132, held) == []
    assert alerts.current[0].since_us == 100 * S
    assert (alerts.current[0].sentence, alerts.current[0].command) == ("a → b: why", "do")
    assert _events(alerts, 231, held) == [("repeated", "a->b/blocked")]
    assert _events(alerts, 232, _said()) == []
    assert _events(alerts, 241, _said()) == [("resolved", "a->b/blocked")]
    assert _events(alerts, 300, _said()) == []
    assert alerts.current == []


def test_what_comes_and_goes_is_one_alert() -> None:
    alerts = Alerts(CONFIG)
    told = [e for at in range(50) for e in _events(alerts, at, _said(behind=70 if at % 2 else 40))]
    assert told == [("raised", "a->b/behind")]
    told = [e for at in range(50, 90) for e in _events(alerts, at, _failed("stopped" * (at % 2)))]
    assert told == [("raised", "a->b/stopped"), ("resolved", "a->b/behind")]


def test_a_stream_that_an_operator_holds_pages_nobody() -> None:
    for what in ("stopped", "paused"):
        alerts = Alerts(CONFIG)
        held = _said(what=what, since_s=100)
        assert _events(alerts, 101, held) == []
        assert _events(alerts, 100 + CONFIG.paused_s - 1, held) == []
        assert _events(alerts, 100 + CONFIG.paused_s, held) == [("raised", "a->b/paused")]
        assert alerts.current[0].severity == "warn"


def test_a_stream_that_an_error_stops_pages_at_once() -> None:
    for what in ("stopped", "need_reseed"):
        alerts = Alerts(CONFIG)
        assert _events(alerts, 1, _failed(what)) == [("raised", "a->b/stopped")]
        assert alerts.current[0].severity == "page"


def test_an_index_that_forgets_warns_before_a_stream_stops() -> None:
    alerts = Alerts(CONFIG)
    assert _events(alerts, 1, _said(spill_error="disk full")) == [("raised", "b/index")]
    assert "(disk full)" in alerts.current[0].sentence
    assert _events(alerts, 2, _said(forgotten=1200)) == []
    assert "index_spill_bytes_max" in alerts.current[0].sentence
    assert "1,200 transactions" in alerts.current[0].sentence
    assert _events(alerts, 13, _said()) == [("resolved", "b/index")]


def test_a_watcher_that_stopped_and_late_conflicts_page() -> None:
    alerts = Alerts(CONFIG)
    events = _events(alerts, 1, _said(watcher="stopped", late=1))
    assert events == [("raised", "b/watcher"), ("raised", "b/late")]


def _canary(landed_s: float | None, bounced: int = 0) -> CanarySnapshot:
    landed_us = None if landed_s is None else int(landed_s * S)
    return CanarySnapshot(every_s=10.0, sent_us=landed_us, landed_us=landed_us, bounced=bounced)


def test_a_canary_that_comes_back_pages_at_once() -> None:
    alerts = Alerts(CONFIG)
    assert _events(alerts, 100, _said(canary=_canary(99))) == []
    assert _events(alerts, 101, _said(canary=_canary(99, 1))) == [("raised", "a->b/bounced")]
    assert alerts.current[0].severity == "page"


def test_a_canary_that_does_not_land_is_told_unless_the_stream_is_held() -> None:
    alerts = Alerts(CONFIG)
    assert _events(alerts, 129, _said(canary=_canary(100))) == []
    for at in (131, 189):
        assert _events(alerts, at, _said(canary=_canary(100))) == []
    assert _events(alerts, 190, _said(canary=_canary(100))) == [("raised", "a->b/canary")]
    assert _events(alerts, 201, _said(canary=_canary(200))) == [("resolved", "a->b/canary")]
    held = Alerts(CONFIG)
    for at in (1, 89, 90):
        assert _events(held, at, _said(canary=_canary(None), what="paused", since_s=1)) == []
    # A canary that never landed is missed from the first look on.
    assert [_events(held, at, _said(canary=_canary(None))) for at in (91, 180, 181)] == [
        [],
        [],
        [("raised", "a->b/canary")],
    ]
