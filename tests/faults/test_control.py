"""Commands to a running pair: carried out, kept, refused where harmful, and noted."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from drc.cli import invoke
from drc.client.daemons import daemon_of
from drc.gtid import GtidSet, parse_uuid
from drc.sandbox import Sandbox
from drc.sandbox.process import free_port
from drc.worker.snapshot import StreamSnapshot
from tests.faults.fix_daemon import FULL, Daemon, StartDaemon, assert_identical

pytestmark = pytest.mark.servers

TOKEN = "of-the-test-0123456789"
WAIT_S = 60
PAUSE_S = 30.0 if FULL else 6.0
BACK = 10_000 if FULL else 1000
TICK_S = 1.0  # beside the promised 10 %: the origin is observed once a second
OF_B = 1_000_000  # a row that b writes; rows of a count from 1
THROTTLE = 50

Drc = Callable[..., Any]


@pytest.fixture
def running(
    pair: Sandbox, schema: str, daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> Daemon:
    monkeypatch.setenv("DRC_TOKEN", TOKEN)
    ports = {name: free_port() for name in pair.sites}
    started = daemon(pair, name="control", web={"token_env": "DRC_TOKEN"}, listen=ports)
    pair.sites["a"].query(
        f"CREATE TABLE `{schema}`.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL DEFAULT 0,"
        " at TIMESTAMP(6) NOT NULL DEFAULT NOW(6))",
        account="app",
    )
    started.drain(schema)
    return started


@pytest.fixture
def drc(running: Daemon, capsys: pytest.CaptureFixture[str]) -> Drc:
    """Run a command of the CLI; return its JSON, and check its exit code."""

    def call(*args: str, exit_code: int = 0) -> Any:
        capsys.readouterr()
        code = invoke([args[0], "-c", str(running.path), "--json", *args[1:]])
        out = capsys.readouterr().out
        assert code == exit_code, out
        return json.loads(out)

    return call


@pytest.fixture
def since(running: Daemon) -> dict[str, GtidSet]:
    """Return the executed set of each site before any load; everything later is accounted for."""
    return running.executed()


@pytest.fixture
def load(pair: Sandbox, schema: str) -> Iterator[threading.Event]:
    """Write rows at ``a``, a transaction each, until the event is set."""
    end = threading.Event()

    def write() -> None:
        with pair.sites["a"].connect("app") as conn, conn.cursor() as cursor:
            while not end.wait(0.002):
                cursor.execute(f"INSERT INTO `{schema}`.t () VALUES ()")

    thread = threading.Thread(target=write)
    thread.start()
    yield end
    end.set()
    thread.join()


def stream(running: Daemon, origin: str, target: str) -> StreamSnapshot:
    said = daemon_of(running.config, target).snapshot().streams
    nothing = StreamSnapshot(origin=origin, target=target, state="")
    return next((s for s in said if s.origin == origin), nothing)


def await_said(
    running: Daemon, true: Callable[[StreamSnapshot], object], origin: str = "a", target: str = "b"
) -> StreamSnapshot:
    deadline = time.monotonic() + WAIT_S
    while not true(said := stream(running, origin, target)):
        assert time.monotonic() < deadline, (said, running.tail())
        time.sleep(0.05)
    return said


def oldest_missing(pair: Sandbox, schema: str) -> tuple[float, int, int]:
    """Return the rows that b lacks: age of the oldest in s, count, and time of the query in us."""
    select = f"SELECT COALESCE(MAX(id), 0) FROM `{schema}`.t WHERE id < {OF_B}"
    (newest,) = pair.sites["b"].query(select)[0]
    age, count, now_us = pair.sites["a"].query(
        "SELECT COALESCE(TIMESTAMPDIFF(MICROSECOND, MIN(at), NOW(6)), 0) / 1e6, COUNT(*),"
        f" UNIX_TIMESTAMP(NOW(6)) * 1e6 FROM `{schema}`.t WHERE id > {newest} AND id <> {OF_B}"
    )[0]
    return float(age), int(count), int(now_us)


def rows(pair: Sandbox, schema: str, site: str) -> int:
    return int(pair.sites[site].query(f"SELECT COUNT(*) FROM `{schema}`.t")[0][0])


def assert_truthful(pair: Sandbox, schema: str, running: Daemon) -> None:
    """Compare the status of a paused stream with the contents of the tables."""
    age, count, asked_us = oldest_missing(pair, schema)
    said = await_said(running, lambda s: s.observed_us > asked_us and s.behind.seconds)
    behind, passed = said.behind, (said.observed_us - asked_us) / 1e6
    rate = count / age
    wanted = age + passed
    print(f"\n{behind.seconds:.2f} s behind is said, {wanted:.2f} s is measured")
    assert behind.seconds == pytest.approx(wanted, rel=0.1, abs=TICK_S)
    now = count + passed * rate
    assert behind.transactions == pytest.approx(now, rel=0.1, abs=TICK_S * rate)
    assert (said.state, said.reason) == ("paused", "backup")
    assert said.blocked
    assert said.blocked.command == "drc resume a b"


def test_a_pause_under_load_is_told_truthfully_kept_and_loses_nothing(
    pair: Sandbox,
    schema: str,
    running: Daemon,
    drc: Drc,
    since: dict[str, GtidSet],
    load: threading.Event,
) -> None:
    await_said(running, lambda s: s.transactions > 0)
    (answer,) = drc("pause", "--reason", "backup", "a", "b")
    assert answer == {"stream": "a->b", "state": "paused", "desired": "paused"}
    stands, begun = rows(pair, schema, "b"), time.monotonic()
    while time.monotonic() < begun + PAUSE_S:
        time.sleep(PAUSE_S / 6)
        assert_truthful(pair, schema, running)
    assert rows(pair, schema, "b") == stands
    # The other direction goes on, and the pause outlives the daemon.
    pair.sites["b"].query(f"INSERT INTO `{schema}`.t (id) VALUES ({OF_B})", account="app")
    await_said(running, lambda s: s.transactions > 0, "b", "a")
    assert running.stop() == 0
    running.start()
    await_up(running)
    assert_truthful(pair, schema, running)
    assert rows(pair, schema, "b") == stands + 1
    drc("resume", "a", "b")
    load.set()
    await_said(running, lambda s: s.behind.transactions == 0 and s.state == "running")
    running.drain(schema)
    assert_identical(pair, schema)
    running.assert_accounted(since)
    actions = [(e["action"], e["subject"], e["reason"]) for e in drc("audit")]
    assert actions[:2] == [("resume", "a->b", ""), ("pause", "a->b", "backup")]
    assert running.stop() == 0


def own(running: Daemon) -> GtidSet:
    """Return the GTIDs that a has executed and that did not come from b."""
    executed = running.executed()["a"]
    return executed - executed.with_tag("drc")


def await_up(running: Daemon) -> None:
    """Wait until the daemons of both sites answer, and no stream is connecting."""
    from drc.errors import DrcError

    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            for site in running.config.sites:
                streams = daemon_of(running.config, site).snapshot().streams
                assert streams
                assert all(one.state != "connecting" for one in streams)
            return
        except (DrcError, AssertionError):
            assert time.monotonic() < deadline, running.tail()
            time.sleep(0.05)


def await_rows(pair: Sandbox, schema: str, running: Daemon, count: int) -> None:
    """Wait until b has ``count`` rows, however slow the machine is, as long as rows arrive."""
    before, deadline = -1, 0.0
    while (now := rows(pair, schema, "b")) < count:
        if now > before:
            before, deadline = now, time.monotonic() + WAIT_S
        assert time.monotonic() < deadline, (now, running.tail())
        time.sleep(0.05)


def test_another_place_is_judged_before_it_is_taken(
    pair: Sandbox,
    schema: str,
    running: Daemon,
    drc: Drc,
    since: dict[str, GtidSet],
    load: threading.Event,
) -> None:
    a = pair.sites["a"]
    await_rows(pair, schema, running, BACK)
    uuid = parse_uuid(a.query("SELECT @@server_uuid")[0][0])
    native = running.applied("a", "b").with_tag("").of_uuids({uuid})
    *_, (uuid, tag, _, end) = native.intervals()
    newest = GtidSet()
    newest.add_range(uuid, tag, end - BACK, end)
    drc("pause", "a", "b")  # so that the numbers are exact
    load.set()
    applied = running.applied("a", "b")
    # Back: everything is read again, and nothing is applied again.
    report = drc("reposition", "a", "b", "--to", str(applied - newest), "--dry-run")
    assert report["harmless"]
    part = report["repeated"]
    assert part["rows_complete"], report
    assert part["transactions"] >= BACK, (report, str(newest))
    assert part["rows"][f"{schema}.t"] >= BACK
    assert report["skipped"]["transactions"] == 0
    again = part["transactions"]
    assert drc("reposition", "a", "b", "--to", str(applied - newest), "--yes")["done"]
    drc("resume", "a", "b")
    said = await_said(running, lambda s: s.state == "running" and s.repeated == again)
    assert said.error is None
    running.drain(schema)
    assert_identical(pair, schema)
    running.assert_accounted(since)
    # Forward, past transactions that are not applied: refused, and the GTIDs are named.
    drc("pause", "a", "b")
    before = own(running)
    for _ in range(3):
        a.query(f"INSERT INTO `{schema}`.t () VALUES ()", account="app")
    there = own(running)
    for more in ((), ("--yes",)):
        error = drc("reposition", "a", "b", "--to", str(there), *more, exit_code=1)["error"]
        assert str(there - before) in error["message"]
    error = drc("reposition", "a", "b", "--to", str(there), "--force", "--yes", exit_code=2)
    assert "--reason" in error["error"]["hint"]
    why = ("--reason", "repaired by hand")
    report = drc("reposition", "a", "b", "--to", str(there), "--force", "--yes", *why)
    assert report["skipped"]["transactions"] == 3
    # Another transaction, skipped by GTID; the transaction after that is applied.
    a.query(f"INSERT INTO `{schema}`.t () VALUES ()", account="app")
    one = own(running) - there
    assert drc("skip", "a", "b", str(one), *why)["skipped"] == str(one)
    error = drc("skip", "a", "b", str(newest), *why, exit_code=1)["error"]
    assert "is decided at b already" in error["message"]
    drc("resume", "a", "b")
    running.drain(schema)
    assert rows(pair, schema, "a") - rows(pair, schema, "b") == 4
    assert (there - before) | one <= running.applied("a", "b")
    # A stream that begins again, from the ledger, does not apply the skipped transactions either.
    drc("restart", "a", "b")
    running.drain(schema)
    assert rows(pair, schema, "a") - rows(pair, schema, "b") == 4
    kept = pair.sites["b"].query("SELECT gtids, reason FROM drc.skip WHERE origin = 'a'")
    assert (str(one), "repaired by hand") in kept
    assert running.stop() == 0


def test_a_reload_takes_up_what_can_be_and_names_what_cannot(
    pair: Sandbox, schema: str, running: Daemon, drc: Drc
) -> None:
    text = running.path.read_text()
    running.path.write_text(
        text.replace("[apply]", f"[apply]\ntransactions_per_s_max = {THROTTLE}", 1)
    )
    (changed, *_) = {tuple(answer["changed"]) for answer in drc("reload").values()}
    assert changed == ("apply.transactions_per_s_max",)
    begun = time.monotonic()
    for _ in range(3 * THROTTLE):
        pair.sites["a"].query(f"INSERT INTO `{schema}`.t () VALUES ()", account="app")
    running.drain(schema)
    assert time.monotonic() - begun > 2  # at that rate, three seconds are needed
    running.path.write_text(text.replace('name = "control"', 'name = "other"', 1))
    error = drc("reload", exit_code=2)["error"]
    assert "cannot change while the daemon runs: name" in error["message"]
    running.path.write_text(text)


def test_who_may_give_commands(running: Daemon, drc: Drc) -> None:
    url = daemon_of(running.config, "b").url

    def ask(path: str, method: str = "POST", **headers: str) -> int:
        given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): text for name, text in headers.items()}
        body = b'{"reason": "x"}' if method == "POST" else b""
        with contextlib.closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as conn:
            conn.request(method, path, body, given)
            answer = conn.getresponse()
            assert TOKEN not in answer.read().decode()
            return answer.status

    pause = "/api/v1/streams/a/pause"
    refused = {
        401: ({"Authorization": ""}, {"Authorization": f"Bearer {TOKEN[::-1]}"}),
        403: ({"Origin": "https://evil.example"}, {"Host": "evil.example"}),
        415: ({"Content_Type": "text/plain"},),
    }
    for status, attempts in refused.items():
        for headers in attempts:
            assert ask(pause, **headers) == status, headers
    for path in ("snapshot", "status", "lag", "conflicts", "audit", "events"):
        assert ask(f"/api/v1/{path}", "GET", Authorization="") == 401, path
        assert ask(f"/api/v1/{path}", "GET", Host="evil.example") == 403, path
    assert ask("/api/v1/streams/nobody/pause") == 404
    assert ask("/api/v1/streams/a/explode") == 404
    assert stream(running, "a", "b").state == "running"
    assert ask(pause, Origin=url) == 200
    assert stream(running, "a", "b").state == "paused"
    for path in ("status", "lag?origin=a", "conflicts", "audit"):
        assert ask(f"/api/v1/{path}", "GET") == 200, path
    assert TOKEN not in running.log.read_text()
    assert not any(TOKEN in " ".join(p.cmdline()) for p in running.processes())
