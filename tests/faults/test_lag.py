"""The status of a held stream: the true lag, and the holder."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from msgspec.structs import asdict

from drc.monitor.blocked import PATIENCE_S
from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from drc.sandbox.process import ServerProcess
from drc.sandbox.servers import SandboxSite
from drc.state.store import Store
from drc.worker.snapshot import Behind, Hold, StreamSnapshot
from tests.faults.fix_daemon import LONG, Daemon, StartDaemon, StartDaemons

pytestmark = pytest.mark.servers

WAIT_S = 60
NAMED_S = 10  # the promise
HOWS = ("frozen", "stopped")  # frozen is harder to notice: links stay open
SLOW_S = 8.0  # of work for a batch, estimated from a few rows
HELD_S = 3.0  # long enough to see lag grow


def stream(running: Daemon, origin: str = "a", target: str = "b") -> StreamSnapshot | None:
    """Return the newest snapshot of a stream; None before the daemon has saved a snapshot."""
    said = Store(running.config.state_url).statuses().get(target)
    return next((s for s in said.streams if s.origin == origin), None) if said else None


def await_said(running: Daemon, true: Callable[[StreamSnapshot], object]) -> StreamSnapshot:
    deadline = time.monotonic() + WAIT_S
    while not (said := stream(running)) or not true(said):
        assert time.monotonic() < deadline, (said, running.tail())
        time.sleep(0.05)
    return said


def settled(said: StreamSnapshot) -> bool:
    return said.blocked is None and said.behind == Behind(0.0, 0, 0) and said.state == "running"


def blocked_by(what: str) -> Callable[[StreamSnapshot], bool]:
    return lambda said: said.blocked is not None and said.blocked.what == what


def await_named(running: Daemon, what: str, since: float) -> Hold:
    """Wait until the cause is named; print the seconds of the wait."""
    held = await_said(running, blocked_by(what)).blocked
    assert held
    took = time.monotonic() - since
    print(f"\n{what} named after {took:.1f} s: {held.sentence}")
    assert took < NAMED_S
    return held


@contextlib.contextmanager
def away(servers: Sequence[ServerProcess], how: str) -> Iterator[None]:
    """Freeze or stop servers for the block."""
    for server in servers:
        server.pause() if how == "frozen" else server.stop()
    try:
        yield
    finally:
        for server in servers:
            server.resume() if how == "frozen" else server.start()  # type: ignore[attr-defined]


def values(rows: int) -> str:
    return ", ".join(f"({n}, SHA2({n}, 256))" for n in range(rows))


def slowed(site: SandboxSite, table: str, sample: int = 20) -> int:
    """Give a site alone a slow index on ``table``; return the number of rows that take ``SLOW_S``.

    The number depends on the machine, so some rows are timed first.
    """
    with site.connect("root") as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"ALTER TABLE {table} ADD INDEX ((SHA2(REPEAT(v, 16384), 256)))")
        begun = time.monotonic()
        cursor.execute(f"INSERT INTO {table} VALUES {values(sample)}")
        took_s = time.monotonic() - begun
        cursor.execute(f"TRUNCATE TABLE {table}")
    return math.ceil(SLOW_S / took_s * sample)


@LONG
def test_a_stream_that_is_held_says_by_whom_and_its_lag_grows(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair, name="held")
    a, b = pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.orders (id INT PRIMARY KEY, v INT)", account="app")
    a.query(f"INSERT INTO `{schema}`.orders VALUES (1, 1)", account="app")
    running.drain(schema)
    said = await_said(running, lambda now: settled(now) and now.stages.read_us.p50)
    assert said.stages.logged_us.p50 is None
    with b.connect("app", autocommit=False) as user, user.cursor() as cursor:
        cursor.execute(f"SELECT v FROM `{schema}`.orders WHERE id = 1 FOR UPDATE")
        a.query(f"UPDATE `{schema}`.orders SET v = 2", account="app")
        held = await_named(running, "lock", time.monotonic())
        text = held.sentence
        assert f"{schema}.orders" in text
        assert "app@" in text
        holder = int(user.thread_id())  # type: ignore[no-untyped-call]
        assert f"KILL {holder}" in held.command
        said = await_said(running, lambda now: (now.behind.seconds or 0) > HELD_S)
        assert said.behind.transactions == 1
        assert said.blocked
        assert said.blocked.what == "lock"
        assert said.updated_us < said.blocked.since_us + PATIENCE_S * 1e6
        user.rollback()
    await_said(running, settled)
    for how in HOWS:
        for site, what in ((b, "target"), (a, "source")):
            with away([site], how):
                held = await_named(running, what, time.monotonic())
            assert f"the server of {site.name} does not answer" in held.sentence
            await_said(running, settled)
    table = f"`{schema}`.notes"
    a.query(f"CREATE TABLE {table} (id INT PRIMARY KEY, v CHAR(64))", account="app")
    running.drain(schema)
    rows = slowed(b, table)
    begun = time.monotonic()
    a.query(f"INSERT INTO {table} VALUES {values(rows)}", account="app")
    held = await_named(running, "table", begun)
    assert f"{schema}.notes" in held.sentence
    await_said(running, settled)
    assert running.stop() == 0


@LONG
def test_over_a_log_each_stage_is_told_and_a_peer_that_is_gone(
    pair: Sandbox, kafka: KafkaCluster, schema: str, daemons: StartDaemons
) -> None:
    daemon = daemons(pair, kafka=kafka, name="stages")
    a = pair.sites["a"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY)", account="app")
    for row in range(5):
        a.query(f"INSERT INTO `{schema}`.t VALUES (%s)", (row,), account="app")
        daemon["b"].drain(schema)
    said = await_said(daemon["b"], settled)
    middle = [spread.p50 for spread in asdict(said.stages).values()]
    assert None not in middle
    assert sum(middle) <= 3 * (said.lag_us.p999 or 0)
    assert daemon["a"].stop() == 0
    a.query(f"INSERT INTO `{schema}`.t VALUES (100)", account="app")
    said = await_said(daemon["b"], blocked_by("publisher"))
    assert said.blocked
    assert "drc run --site a" in said.blocked.command
    assert said.behind.transactions == 1
    assert (said.behind.seconds or 0) > 1
    daemon["a"].start()
    await_said(daemon["b"], settled)
    for how in HOWS:
        with away(kafka.nodes, how):
            await_named(daemon["b"], "broker", time.monotonic())
        await_said(daemon["b"], settled)
    assert daemon["a"].stop() == daemon["b"].stop() == 0
