"""Canaries between real sites: each lands once, none comes back, and a bounce is noticed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from drc.sandbox import Sandbox
from drc.state.store import Store
from drc.worker.snapshot import CanarySnapshot
from tests.faults.fix_daemon import LONG, Daemon, StartDaemon

pytestmark = pytest.mark.servers

WAIT_S = 60
BEATS = 3
OF_EACH = "SELECT site, beat FROM drc.canary ORDER BY site"


def said(running: Daemon) -> dict[tuple[str, str], CanarySnapshot | None]:
    """Return the canary of each stream; {} before any daemon has saved a status."""
    return {
        (one.origin, target): one.canary
        for target, site in Store(running.config.state_url).statuses().items()
        for one in site.streams
    }


def wait(running: Daemon, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, (said(running), running.tail())
        time.sleep(0.05)


def await_landed(running: Daemon, here: str, there: str) -> CanarySnapshot:
    """Wait for some canaries of a stream; return the stream's canary snapshot."""
    wait(running, lambda: beats(running.box, there).get(here, 0) > BEATS)
    deadline = time.monotonic() + WAIT_S
    while not ((one := said(running)[here, there]) and one.landed_us):
        assert time.monotonic() < deadline, (one, running.tail())
        time.sleep(0.05)
    return one


def bounced(running: Daemon, here: str, there: str) -> int:
    one = said(running).get((here, there))
    return one.bounced if one else 0


def beats(box: Sandbox, site: str) -> dict[str, int]:
    return dict(box.sites[site].query(OF_EACH))


@pytest.mark.parametrize(
    ("which", "log"),
    [
        ("pair80", "direct"),
        pytest.param("pair", "direct", marks=LONG),
        pytest.param("pair", "kafka", marks=LONG),
    ],
)
def test_canaries_land_once_and_never_come_back(
    which: str, log: str, request: pytest.FixtureRequest, schema: str, daemon: StartDaemon
) -> None:
    box: Sandbox = request.getfixturevalue(which)
    kafka = request.getfixturevalue("kafka") if log == "kafka" else None
    running = daemon(box, kafka=kafka, name=f"canary-{which}-{log}")
    for site in box.sites.values():
        with site.connect("root") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute("DELETE FROM drc.canary")
    running.drain(schema)
    since = running.executed()
    assert [one for one in said(running).values() if one] == []  # off by default
    assert running.stop() == 0
    text = running.path.read_text()
    running.path.write_text(f"{text}\n[monitor]\ncanary_s = 1\n")
    running.start()
    for here, there in ("ab", "ba"):
        one = await_landed(running, here, there)
        assert one.landed_us is not None
        assert one.sent_us is not None
        assert 0 <= one.landed_us - one.sent_us < WAIT_S * 1e6
        assert (one.every_s, one.bounced) == (1.0, 0)
    assert running.stop() == 0
    running.path.write_text(text)
    running.start()
    running.drain(schema)
    sent = {site: beats(box, site)[site] for site in box.sites}
    assert all(beats(box, site) == sent for site in box.sites)
    found = running.assert_accounted(since)
    # Each canary was sent once, as a user's transaction; beside the marker nothing else was sent.
    required = {one.origin: one.required for one in found.directions}
    assert required == {name: count + 1 for name, count in sent.items()}
    for site in box.sites.values():
        assert site.query("SELECT 1 FROM drc.conflict WHERE table_name = 'canary'") == []
    # A canary that comes back: b ships the canary of a, as b would without the loop filter.
    assert running.stop() == 0
    box.sites["b"].query("UPDATE drc.canary SET sent_us = sent_us + 1 WHERE site = 'a'")
    running.path.write_text(f"{text}\n[monitor]\ncanary_s = 3600\n")
    running.start()
    wait(running, lambda: bounced(running, "b", "a"))
    assert bounced(running, "a", "b") == 0
    raised = Store(running.config.state_url).statuses()["a"].alerts
    assert [alert.id for alert in raised] == ["b->a/bounced"]
    assert running.stop() == 0
